"""Our batch file on a real Slurm of two nodes: Ray comes up on both, the run and its node check reach them, a warning before the time
limit reaches the run, which goes on in the next attempt."""

import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from slurm_cluster import Slurm
from sv6d.recipes.cli import main

pytestmark = pytest.mark.slow

RUN = """#!{python}
import signal, subprocess, sys, time
subprocess.run(["{bin}/sv6d", *sys.argv[1:], "--dry-run"], check=True)
def save(*_): print("saved", flush=True); sys.exit(75)
signal.signal(signal.SIGTERM, save)
print("training", flush=True)
time.sleep(100)
"""
"""In place of `sv6d`: a run that does all but train, and then can be warned. One start of Ray serves both."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def test_a_run_checks_both_nodes_is_warned_and_goes_on_in_the_next_attempt(
    slurm, small_data, tiny_model, tmp_path, monkeypatch
):
    folder, bin = tmp_path / 'it\'s "here"', Path(sys.executable).parent
    folder.mkdir()
    monkeypatch.chdir(folder)
    stand_in = tmp_path / "bin" / "sv6d"
    stand_in.parent.mkdir()
    stand_in.write_text(RUN.format(python=sys.executable, bin=bin))
    stand_in.chmod(0o755)
    setup = f"export PATH={shlex.quote(str(stand_in.parent))}:{bin}:$PATH"
    places = [f"sv6d.data={small_data}", f"sv6d.model={tiny_model}", "sv6d.run_dir=a run"]
    halves = ["trainer.nnodes=2", "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=52"]  # of 312 sequences
    wanted = ["cpu_demo", *places, *halves, "+sv6d.env.OF_THE_RECIPE=seen"]
    result = CliRunner().invoke(
        main, ["launch", "slurm", *wanted, "--time", "60", "--setup", setup, "-o", "run.sbatch"]
    )
    assert result.exit_code == 0, result.output

    number = slurm.submit(folder / "run.sbatch")
    log = folder / f"sv6d-{number}.log"
    slurm.until(lambda: trains(log) or slurm.job(number)["JobState"] == "FAILED", seconds=180)
    said = log.read_text()
    assert trains(log), said
    assert "2 x 1 GPUs for training" in said and "Nothing was trained." in said
    assert said.count("0.9.1") >= 2  # verl's version in the line of each node
    assert not (folder / "a run").exists()

    slurm.output("scancel", "--batch", "--signal=TERM", number)  # as Slurm does before the limit
    job = slurm.wait(number, "PENDING")
    assert (job["Restarts"], job["JobName"]) == ("1", "sv6d-a-run")
    assert "saved" in log.read_text() and "the run goes on in attempt 2 of this job" in log.read_text()
    slurm.output("scancel", number)
    assert slurm.wait(number, "CANCELLED")["Restarts"] == "1"


def trains(log: Path) -> bool:
    return log.exists() and "training" in log.read_text().splitlines()
