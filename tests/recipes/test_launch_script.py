"""What the batch file does around a run, with doubles for Slurm's and Ray's commands: `test_launch_slurm.py` has the real ones."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sv6d.recipes.compose import compose
from sv6d.recipes.launching import slurm

BIN = Path(sys.executable).parent
DOUBLES = {
    "scontrol": 'if [ "$1" = show ]; then echo one; else echo "$@" >>requeued; fi',
    "squeue": "echo RUNNING",
    # `ray start --head`: up once the file `up` is there, or not at all.
    "ray": "touch starting; [ ! -e broken ] || exit 1; until [ -e up ]; do sleep 0.1; done; "
    "for word; do case $word in --port=*) port=${word#*=};; --node-ip-address=*) ip=${word#*=};; esac; done; "
    'exec python -m http.server --bind "$ip" "$port"',
}


@pytest.fixture
def start(tmp_path):
    """Start the script with a command as the run, in a folder of its own."""
    started = []
    for name, lines in DOUBLES.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{lines}\n")
        (tmp_path / name).chmod(0o755)

    def run(command: str, kind="grpo") -> subprocess.Popen:
        config = compose(kind, "cpu_demo", ["sv6d.data=D", "sv6d.model=M", "sv6d.run_dir=R"])
        header = f"command=({command})\nattempts=2\n"
        (tmp_path / "run.sh").write_text(header + slurm.script(config))
        about = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "one", "PATH": f"{tmp_path}:{BIN}:{os.environ['PATH']}"}
        words = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(["bash", "run.sh"], cwd=tmp_path, env={**os.environ, **about}, **words))
        return started[-1]

    yield run
    for process in started:
        process.kill()


def test_the_run_ends_the_job_with_its_own_status(start, tmp_path):
    (tmp_path / "up").touch()
    job = start("bash -c 'echo trained on $RAY_ADDRESS; exit 3'")
    said, _ = job.communicate(timeout=60)
    assert job.returncode == 3 and "trained on" in said
    assert not (tmp_path / "requeued").exists()  # nobody had warned it


def test_a_warm_start_has_no_ray_and_the_same_end(start, tmp_path):
    job = start("bash -c 'echo trained; trap \"exit 75\" TERM; touch up; while true; do sleep 0.1; done'", "sft")
    end = time.monotonic() + 60
    while not (tmp_path / "up").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    said, _ = job.communicate(timeout=50)
    assert job.returncode == 75 and "the run goes on in attempt 2 of this job" in said
    assert not (tmp_path / "starting").exists() and (tmp_path / "requeued").read_text() == "requeue 7\n"


def test_a_warning_that_comes_while_ray_starts_is_not_lost(start, tmp_path):
    job = start("sleep 60")
    end = time.monotonic() + 60
    while not (tmp_path / "starting").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    (tmp_path / "up").touch()
    said, _ = job.communicate(timeout=50)
    assert "the run goes on in attempt 2 of this job" in said
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"


def test_a_head_that_does_not_start_ends_the_job(start, tmp_path):
    (tmp_path / "broken").touch()
    job = start("echo never")
    said, _ = job.communicate(timeout=60)
    assert job.returncode == 1 and "Ray's head did not start on one" in said and "never" not in said
