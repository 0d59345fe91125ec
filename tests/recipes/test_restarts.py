"""Runs over several jobs: which are started again, what was lost is told, and when it is enough.

The jobs are small fakes: scripts that read and write checkpoints, metrics and rollouts as training does, and die as told.
"""

import errno
import io
import json
import os
import shutil
import signal
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from rich.console import Console
from sv6d.recipes.compose import RecipeError
from sv6d.recipes.running import restarts, supervise
from sv6d.recipes.running.restarts import PREEMPTED, JobFailed, Preempted, lost, steps_done, train
from sv6d.reports.parts import part_name
from sv6d.sft.manifest import seal

FAKE = """
import json, os, shutil, signal, sys, time
from pathlib import Path
from sv6d.sft.manifest import seal

run = Path(sys.argv[1]).parent
checkpoints, plan = run / "checkpoints", json.loads((run / "plan.json").read_text())
deaths = plan["deaths"]
how = deaths.pop(0) if deaths else {}
(run / "plan.json").write_text(json.dumps(plan))
tracker = checkpoints / "latest_checkpointed_iteration.txt"
step = int(tracker.read_text()) if tracker.exists() else 0
print("begins after", step)
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
(run / "rollouts").mkdir(exist_ok=True)

def save(step):
    folder = checkpoints / f"global_step_{step}" / "actor"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fsdp_config.json").write_text('{"world_size": 1}')
    (folder / "weights").write_text(str(step))
    seal(folder.parent)
    tracker.write_text(str(step))

def die(how):
    print(how.get("words", "no reason"))
    if "signal" in how:
        os.kill(os.getpid(), how["signal"])
    if "hang" in how:
        time.sleep(300)
    sys.exit(how.get("status", 1))

with open(run / "metrics.jsonl", "w", buffering=1) as metrics:
    while step < plan["steps"]:
        if how.get("in_step") == step + 1:
            die(how)
        if asked:
            save(step)
            sys.exit(75)
        step += 1
        shutil.copy(run / "parts" / f"step-{step:06d}.parquet", run / "rollouts")
        metrics.write(json.dumps({"step": step, "data": {}}) + chr(10))
        if step % 3 == 0:
            save(step)
        while step == plan.get("wait_in") and not asked:
            time.sleep(0.01)
if "at_end" in how:
    die(how)
"""


@pytest.fixture(autouse=True)
def no_long_looks(monkeypatch):
    monkeypatch.setattr(supervise, "POLL_SECONDS", 0.02)


class Run:
    """A run of a fake job: `deaths` are how its first jobs end, one each; the next one finishes."""

    def __init__(self, folder: Path, *deaths, steps=8, wait_in=None, **sv6d):
        self.folder, self.out = folder, io.StringIO()
        (folder / "parts").mkdir(exist_ok=True, parents=True)
        for step in range(1, steps + 1):
            pq.write_table(pa.table({"step": [step] * 5}), folder / "parts" / part_name(step))
        (folder / "plan.json").write_text(json.dumps({"steps": steps, "deaths": list(deaths), "wait_in": wait_in}))
        settings = {
            "run_dir": str(folder),
            "env": {},
            "restarts": 3,
            "restart_pause": 0,
            "grace": 20,
            "stalled_after": None,
        }
        trainer = {
            "default_local_dir": str(folder / "checkpoints"),
            "resume_mode": "auto",
            "nnodes": 1,
            "n_gpus_per_node": 1,
        }
        self.config = OmegaConf.create({"sv6d": settings | sv6d, "trainer": trainer | {"total_training_steps": steps}})

    def go(self, describe=lambda step, data: f"step {step}", script=FAKE, **more):
        (self.folder / "job.py").write_text(textwrap.dedent(script))
        command = [sys.executable, "-u", str(self.folder / "job.py")]
        console = Console(file=self.out, width=400)
        try:
            train(self.config, command, title="GRPO", shards="actor", describe=describe, console=console, **more)
        finally:
            self.shown = self.out.getvalue()
        return self.shown

    @property
    def begun_after(self):
        lines = (self.folder / "train.log").read_text().splitlines()
        return [int(line.split()[-1]) for line in lines if line.startswith("begins after")]


KILLED = {"signal": signal.SIGKILL}


def test_a_job_that_is_killed_is_started_again_and_what_was_lost_is_told(tmp_path):
    run = Run(tmp_path, {"in_step": 6, **KILLED})
    shown = run.go()
    assert run.begun_after == [0, 3]
    assert "GRPO was killed by SIGKILL after step 5\n" in shown
    assert (
        "continues after step 3: steps 4 to 5 (10 rollouts) are trained again, and what step 6 had begun is begun anew"
        in shown
    )
    assert "restart 1 of 3 in 0 s" in shown
    lines = [line for line in shown.splitlines() if line.startswith("step ")]
    assert lines == [f"step {step}" for step in (1, 2, 3, 4, 5, 4, 5, 6, 7, 8)]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (
            {"status": 1, "words": "ValueError: row 17\nshutting down"},
            "ended with status 1 after step 3: ValueError: row 17\n",
        ),
        ({"status": 3, "words": "no reason"}, "ended with status 3 after step 3: no reason\n"),
        ({**KILLED, "words": "Training: 67% 4/6"}, "killed by SIGKILL after step 3\n"),
        ({**KILLED, "words": "MemoryError: 8 GB"}, "killed by SIGKILL after step 3: MemoryError: 8 GB\n"),
    ],
)
def test_why_a_job_died_is_told_by_its_last_error(tmp_path, how, told):
    assert told in Run(tmp_path, {"in_step": 4, **how}).go()


def test_at_a_checkpoint_no_finished_step_is_lost(tmp_path):
    shown = Run(tmp_path, {"in_step": 4, **KILLED}).go()
    assert "continues after step 3: no finished step is lost, and what step 4 had begun is begun anew" in shown


def test_one_step_is_told_as_one(tmp_path):
    assert "step 4 is trained again, and what step 5 had begun" in lost(tmp_path, 3, 4)


def test_pauses_grow(tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr("sv6d.recipes.running.restarts._pause", lambda seconds, stop: pauses.append(seconds))
    deaths = [{"in_step": step, **KILLED} for step in (2, 4, 5)]
    Run(tmp_path, *deaths, restart_pause=10).go()
    assert pauses == [10, 20, 40]


def test_up_to_a_limit(tmp_path):
    run = Run(tmp_path, *[{"in_step": step, **KILLED} for step in (2, 4, 5, 7)], restarts=2)
    with pytest.raises(
        JobFailed, match=r"GRPO was killed by SIGKILL. It was started again 2 times already \(sv6d.restarts\)"
    ):
        run.go()
    assert run.begun_after == [0, 0, 3]


def test_not_at_all_where_that_is_wanted(tmp_path):
    run = Run(tmp_path, {"in_step": 5, **KILLED}, restarts=0)
    with pytest.raises(JobFailed):
        run.go()
    assert run.begun_after == [0]


def test_a_run_that_fails_twice_at_the_same_step_stops_and_says_so(tmp_path):
    run = Run(tmp_path, *[{"in_step": 6, "status": 1, "words": "ValueError: row 17"}] * 3)
    with pytest.raises(JobFailed, match=r"the second time at the same step without progress(.|\n)*ValueError: row 17"):
        run.go()
    assert run.begun_after == [0, 3]


def test_a_mistake_in_the_configuration_is_not_tried_again(tmp_path):
    run = Run(tmp_path, {"in_step": 1, "status": 1, "words": "ValueError: no such model"})
    with pytest.raises(
        JobFailed, match=r"GRPO ended with status 1\. The end of its log(.|\n)*no such model(.|\n)*train\.log"
    ):
        run.go()
    assert run.begun_after == [0]


@pytest.mark.parametrize(
    ("words", "again"),
    [
        ("ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.", True),
        ("ray.exceptions.ActorDiedError: The actor died because of an error raised in its creation task", False),
        ("sv6d.verl_plugin.surviving.watching.WorkerDied: reward worker 1 died", True),
        ("torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp", True),
        ("omegaconf.errors.ConfigAttributeError: Key 'x' is not in struct", False),
    ],
)
def test_before_the_first_step_what_passes_is_tried_again_and_mistakes_are_not(tmp_path, words, again):
    run = Run(tmp_path, {"in_step": 1, "status": 1, "words": words})
    if again:
        run.go()
    else:
        with pytest.raises(JobFailed):
            run.go()
    assert run.begun_after == ([0, 0] if again else [0])


@pytest.mark.parametrize("wrong", [{"grace": None}, {"restarts": None}, {"on_failed_save": "abort"}])
def test_settings_that_only_a_failure_would_meet_are_refused_before_anything_starts(tmp_path, wrong):
    [name] = wrong
    with pytest.raises(RecipeError, match=f"sv6d.{name} is .*; set it to"):
        Run(tmp_path, **wrong).go()
    assert not (tmp_path / "train.log").exists()


def test_a_job_that_hangs_is_ended_and_started_again(tmp_path):
    run = Run(tmp_path, {"in_step": 5, "hang": True}, stalled_after=2)
    assert (
        "GRPO made no step for longer than sv6d.stalled_after (raise it if its steps are that slow) and was ended after"
        in run.go()
    )
    assert run.begun_after == [0, 3]


def test_a_disk_that_is_full_between_two_jobs_is_waited_for(tmp_path, monkeypatch):
    """Nothing of the launcher's own is written then but verl's word for the latest checkpoint, and the log."""
    monkeypatch.setattr(restarts, "SHORTEST_TRY", 0.01)
    refused = iter([1, 1, 0])
    real = restarts.name_latest

    def name_latest(folder, step):
        if step and next(refused, 0):  # not at the start of the run
            raise OSError(errno.ENOSPC, "No space left on device")
        real(folder, step)

    monkeypatch.setattr(restarts, "name_latest", name_latest)
    run = Run(tmp_path, {"in_step": 6, **KILLED})
    shown = run.go()
    assert shown.count("GRPO: [Errno 28] No space left on device; tried again every 0.01 s") == 1
    assert run.begun_after == [0, 3]


def test_a_run_that_is_stopped_meanwhile_waits_no_longer(tmp_path, monkeypatch):
    def name_latest(folder, step):
        if step:
            os.kill(os.getpid(), signal.SIGTERM)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(restarts, "name_latest", name_latest)
    with pytest.raises(Preempted, match=r"asked to stop while it waited for the disk .*No space left"):
        Run(tmp_path, {"in_step": 6, **KILLED}).go()


def test_a_complete_run_is_left_alone(tmp_path):
    Run(tmp_path, steps=6).go()
    again = Run(tmp_path, steps=6)
    assert "is complete, 6 of 6 steps; nothing to do" in again.go()
    assert again.begun_after == [0]


def test_a_run_whose_checkpoints_are_gone_is_begun_anew_and_says_so(tmp_path):
    """A finished one too: nothing else knows that it was finished."""
    assert "begun anew" not in Run(tmp_path, steps=6).go()
    shutil.rmtree(tmp_path / "checkpoints")
    again = Run(tmp_path, steps=6)
    assert (
        f"no checkpoint in {tmp_path}/checkpoints: steps 1 to 6, recorded in {tmp_path}, are begun anew" in again.go()
    )
    assert again.begun_after == [0, 0]


def test_a_job_that_dies_of_its_shutdown_after_the_last_step_has_done_its_work(tmp_path):
    run = Run(tmp_path, {"at_end": True, "signal": signal.SIGKILL}, steps=6)
    assert "GRPO was killed by SIGKILL when all its steps were done and saved" in run.go()
    assert run.begun_after == [0]


def test_nodes_that_died_with_a_job_are_waited_for_before_the_next(tmp_path):
    """And whoever waits for them may take SIGTERM over, as Ray does when it is asked for its nodes."""
    waited = []

    def ready():
        waited.append(run.begun_after)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    run = Run(tmp_path, {"in_step": 5, **KILLED}, wait_in=7)
    with pytest.raises(Preempted, match="saved and ended: 7 of 8 steps"):
        run.go(lambda step, data: terminate(step, data) if step == 7 else None, ready=ready)
    assert waited == [[0]] and run.begun_after == [0, 3]


# SIGTERM


def terminate(step, data):
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_ends_the_run_with_a_status_that_says_continue_me(tmp_path):
    run = Run(tmp_path, wait_in=5)
    with pytest.raises(
        Preempted, match=r"asked to stop and saved and ended: 5 of 8 steps are kept.*same command continues"
    ) as end:
        run.go(lambda step, data: terminate(step, data) if step == 5 else None)
    assert end.value.exit_code == PREEMPTED == 75
    Run(tmp_path).go()
    assert run.begun_after == [0, 5]


@pytest.mark.parametrize("status", [0, 75])
def test_a_job_that_is_asked_by_file_may_end_with_any_status_that_means_well(tmp_path, status):
    """Status 0 is a warm start's: torchrun and srun would not pass another on."""
    run = Run(tmp_path, wait_in=5)
    script = FAKE.replace("if asked:", "if (checkpoints / 'stop').exists():").replace(
        "not asked", "not (checkpoints / 'stop').exists()"
    )
    with pytest.raises(Preempted, match="asked to stop and saved and ended: 5 of 8 steps are kept"):
        run.go(
            lambda step, data: terminate(step, data) if step == 5 else None,
            script=script.replace("sys.exit(75)", f"sys.exit({status})"),
            by_file=True,
        )
    Run(tmp_path).go()
    assert run.begun_after == [0, 5]


def test_one_that_arrives_between_two_jobs_starts_no_other(tmp_path):
    run = Run(tmp_path, {"in_step": 5, **KILLED})
    with pytest.raises(Preempted, match=r"was asked to stop and began no other job: 3 of 8 steps are kept"):
        run.go(ready=lambda: terminate(0, {}))
    assert run.begun_after == [0]


def test_a_run_that_is_stopped_by_hand_is_not_started_again_for_what_its_job_then_dies_of(tmp_path):
    by_hand = tmp_path / "checkpoints" / "stop"
    run = Run(tmp_path, {"in_step": 6, **KILLED})
    with pytest.raises(Preempted, match="was killed by SIGKILL before it could save: 3 of 8"):
        run.go(lambda step, data: by_hand.touch() if step == 4 else None)
    run.go()  # the same command goes on
    assert run.begun_after == [0, 3] and not by_hand.exists()


def test_a_job_that_stops_but_cannot_save_is_not_said_to_have_saved(tmp_path):
    """As on a full disk."""
    run = Run(tmp_path, {"in_step": 6, "status": 75})
    with pytest.raises(Preempted, match=r"ended, but could not save \(the log says why\): 3 of 8.*steps 4 to 5"):
        run.go()


def test_so_does_a_signal_that_reaches_the_job_alone(tmp_path):
    """As Slurm's --signal does."""
    run = Run(tmp_path, {"in_step": 4, "status": 75})
    with pytest.raises(Preempted, match="3 of 8 steps are kept"):
        run.go()


def test_a_job_that_dies_of_the_same_signal_is_not_started_again(tmp_path):
    """As where a cluster signals every process of a job: what is kept is the last checkpoint."""

    def both(step, data):
        if step == 5:
            terminate(step, data)

    run = Run(tmp_path, {"in_step": 6, **KILLED}, wait_in=5)
    with pytest.raises(
        Preempted, match=r"was killed by SIGKILL before it could save: 3 of 8 steps are kept.*steps 4 to 5"
    ):
        run.go(both)


def test_a_run_that_had_its_last_step_when_it_was_asked_is_complete(tmp_path):
    run = Run(tmp_path, steps=6)
    run.go(lambda step, data: terminate(step, data) if step == 6 else None)
    assert steps_done(run.config, "actor", Console(file=io.StringIO())) == 6


# Checkpoints


def checkpoint(folder: Path, step: int, ranks: int, shards: str = "actor") -> Path:
    saved = folder / f"global_step_{step}"
    (saved / shards).mkdir(parents=True)
    (saved / shards / "fsdp_config.json").write_text(json.dumps({"world_size": ranks}))
    (saved / "weights").write_text("w" * 100)
    seal(saved)
    (folder / "latest_checkpointed_iteration.txt").write_text(str(step))
    return saved


def config_of(folder, nodes=1, gpus=1, mode="auto"):
    trainer = {"default_local_dir": str(folder), "resume_mode": mode, "nnodes": nodes, "n_gpus_per_node": gpus}
    return OmegaConf.create({"trainer": trainer})


@pytest.mark.parametrize("shards", ["", "actor"])
def test_a_run_continues_from_its_checkpoint_on_the_same_number_of_ranks_only(tmp_path, shards):
    """SFT's shards stand in the checkpoint itself, GRPO's in a folder of it."""
    console = Console(file=io.StringIO())
    assert steps_done(config_of(tmp_path, 2, 4), shards, console) == 0
    checkpoint(tmp_path, 30, 8, shards)
    assert steps_done(config_of(tmp_path, 2, 4), shards, console) == 30
    with pytest.raises(RecipeError, match="saved by 8 ranks and this run has 4"):
        steps_done(config_of(tmp_path, 1, 4), shards, console)
    assert steps_done(config_of(tmp_path, 1, 4, "disable"), shards, console) == 0


def test_a_damaged_checkpoint_is_passed_over_told_and_verl_is_pointed_to_the_one_before(tmp_path):
    checkpoint(tmp_path, 10, 1)
    (checkpoint(tmp_path, 20, 1) / "weights").write_text("w" * 50)
    out = io.StringIO()
    assert steps_done(config_of(tmp_path), "actor", Console(file=out, width=400)) == 10
    assert "global_step_20 is not whole: weights has 50 bytes of 100; the run continues from step 10" in out.getvalue()
    assert (tmp_path / "latest_checkpointed_iteration.txt").read_text() == "10"


def test_a_tracker_that_names_a_half_written_checkpoint_is_corrected(tmp_path):
    (tmp_path / "global_step_10" / "actor").mkdir(parents=True)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("10")
    out = io.StringIO()
    assert steps_done(config_of(tmp_path), "actor", Console(file=out, width=400)) == 0
    assert "its saving was cut short; the run continues from the beginning" in out.getvalue()
    assert not (tmp_path / "latest_checkpointed_iteration.txt").exists()
