"""Our batch files on a real Slurm of two nodes. GRPO: Ray comes up on both, the run and its node check reach them, a warning before
the time limit reaches the run, which goes on in the next attempt. A warm start: it trains on both, and saves at the warning."""

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


def test_a_warm_start_trains_on_both_nodes_and_saves_when_it_is_warned(
    slurm, small_data, tiny_model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    places = [f"sv6d.data={small_data}", f"sv6d.model={tiny_model}", f"sv6d.run_dir={run}", "trainer.nnodes=2"]
    rows = ["data.train_batch_size=26", "data.micro_batch_size_per_gpu=13", "trainer.save_freq=1000"]
    steps = ["trainer.total_training_steps=1000"]
    result = CliRunner().invoke(
        main, ["launch", "slurm", "--sft", "cpu_demo", *places, *rows, *steps, "--time", "60", "-o", "run.sbatch"]
    )
    assert result.exit_code == 0, result.output

    number = slurm.submit(tmp_path / "run.sbatch")
    log = tmp_path / f"sv6d-{number}.log"
    slurm.until(lambda: steps_in(log) >= 2 or slurm.job(number)["JobState"] == "FAILED", seconds=180)
    assert steps_in(log) >= 2, log.read_text()

    slurm.output("scancel", "--batch", "--signal=TERM", number)
    assert slurm.wait(number, "PENDING")["Restarts"] == "1"
    slurm.output("scancel", number)
    said = log.read_text()
    [checkpoint] = (run / "checkpoints").glob("global_step_*")
    step = int(checkpoint.name.rpartition("_")[2])
    assert (
        f"saved and ended: {step} of 1000 steps are kept" in said and "the run goes on in attempt 2 of this job" in said
    )
    assert sorted(path.name for path in checkpoint.glob("model_*")) == [
        "model_world_size_2_rank_0.pt",
        "model_world_size_2_rank_1.pt",
    ]


def steps_in(log: Path) -> int:
    return sum(line.startswith("step ") for line in log.read_text().splitlines()) if log.exists() else 0


def trains(log: Path) -> bool:
    return log.exists() and "training" in log.read_text().splitlines()
