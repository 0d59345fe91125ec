"""Our batch file on a real Slurm of two nodes: Ray comes up on both, the run and its node check reach them, a warning before the time
limit reaches the run, which goes on in the next attempt."""

import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from slurm_cluster import Slurm
from sv6d.recipes.cli import main
from sv6d.recipes.compose import compose
from sv6d.recipes.launching import slurm as batch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def test_a_dry_run_on_two_nodes_checks_both_and_makes_the_prompts(slurm, small_data, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = [f"sv6d.data={small_data}", f"sv6d.model={tiny_model}", f"sv6d.run_dir={tmp_path / 'run'}"]
    halves = [
        "trainer.nnodes=2",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=52",
    ]  # 312 sequences over 2 ranks
    wanted = ["cpu_demo", *places, *halves, "+sv6d.env.OF_THE_RECIPE=seen", "--dry-run"]
    result = CliRunner().invoke(main, ["launch", "slurm", *wanted, "--time", "10", "-o", "run.sbatch"])
    assert result.exit_code == 0, result.output
    job = slurm.wait(number := slurm.submit(tmp_path / "run.sbatch"), "COMPLETED", "FAILED")
    said = (tmp_path / f"sv6d-{number}.log").read_text()
    assert job["JobState"] == "COMPLETED", said
    assert "2 x 1 GPUs for training" in said and "Nothing was trained." in said
    assert said.count("0.9.1") >= 2  # verl's version in the line of each node
    assert not (tmp_path / "run").exists()


def test_a_warning_reaches_the_run_and_the_job_goes_on(slurm, tmp_path):
    run = tmp_path / "run.py"
    run.write_text(
        "import os, signal, sys, time\n"
        "def save(*_): print('saved', flush=True); sys.exit(3)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "print('training on', os.environ['RAY_ADDRESS'], flush=True)\n"
        "time.sleep(100)\n"
    )
    config = compose("grpo", "cpu_demo", ["sv6d.data=D", "sv6d.model=M", f"sv6d.run_dir={tmp_path / 'run'}"])
    settings = batch.Settings("60", (f"export PATH={Path(sys.executable).parent}:$PATH",), str(tmp_path))
    (tmp_path / "run.sbatch").write_text(batch.batch_file(config, ["python", str(run)], settings))
    number = slurm.submit(tmp_path / "run.sbatch")
    log = tmp_path / f"sv6d-{number}.log"
    wait_for(lambda: "training on" in log.read_text() if log.exists() else False)
    slurm.output("scancel", "--batch", "--signal=TERM", number)  # as Slurm does ten minutes before the limit
    job = slurm.wait(number, "PENDING")
    assert job["Restarts"] == "1"
    assert "saved" in log.read_text() and "the run goes on in attempt 2 of this job" in log.read_text()
    slurm.output("scancel", number)
    assert slurm.wait(number, "CANCELLED")["Restarts"] == "1"


def wait_for(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)
