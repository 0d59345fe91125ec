"""One run of GRPO on real verl, Ray and vLLM that meets what clusters do (docs/surviving.md): it is preempted, its last checkpoint
is damaged, its disk is full, its driver is killed, its rollout engine is killed. And a run with constrained answers, whose judge is
away for a step and whose reward worker is killed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil
import pytest
import torch
from sv6d.data_mixers import Mixture
from sv6d.reports.runs import Run, load_run
from sv6d.schema import TASKS
from sv6d.sft import manifest

sys.path.append(str(Path(__file__).parents[1] / "rewards"))
from judge_server import grades, serve

pytestmark = pytest.mark.slow

STEPS, SAVED, PROMPTS, GROUP, ROWS = 5, 2, 13, 2, 8
PREEMPTED = 75


def arguments(data: Path, model: Path, run_dir: Path, **more) -> list[str]:
    settings = {
        "sv6d.data": data,
        "sv6d.model": model,
        "sv6d.run_dir": run_dir,
        "sv6d.group_size": GROUP,
        "sv6d.scale.prompts": 1 / 30,  # one prompt a task and step
        "sv6d.restart_pause": 0,
        "sv6d.restarts": 1,
        "trainer.total_training_steps": STEPS + 1,  # the last one is not reached
        "trainer.val_before_train": "false",
        "trainer.test_freq": -1,
        "trainer.save_freq": SAVED,
        **more,
    }
    return ["grpo", "cpu_demo", *(f"{key}={value}" for key, value in settings.items())]


class Launched:
    """`sv6d grpo` as a user starts it, and what it has printed so far."""

    def __init__(self, output: Path, command: list[str]):
        self.output = output
        with output.open("w") as sink:
            sv6d = Path(sys.executable).with_name("sv6d")
            self.process = subprocess.Popen([sv6d, *command], stdout=sink, stderr=subprocess.STDOUT)

    @property
    def shown(self) -> str:
        return self.output.read_text()

    def wait_for(self, text: str, times: int = 1, where=None, seconds: float = 300) -> None:
        """Until it was printed so many times; or told by `where`, in the place of what is printed."""
        end, where = time.monotonic() + seconds, where or (lambda: self.shown)
        while flat(where()).count(flat(text)) < times:  # a long path may have broken the line anywhere
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.terminate()
                pytest.fail(f"{text!r} was not printed:\n{self.shown}")
            time.sleep(0.1)

    def job(self) -> psutil.Process:
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def processes_of(self, name: str) -> list[psutil.Process]:
        """The job's processes that are called so; none before it is started."""
        jobs = psutil.Process(self.process.pid).children()
        return [process for job in jobs for process in session(job.pid) if name in called(process)]

    def told_by_trainer(self) -> str:
        """What the trainer's process told its own log: Ray keeps that among its own files, wherever the run's disk is."""
        return "".join(Path(f"/proc/{p.pid}/fd/2").read_text() for p in self.processes_of("TaskRunner"))

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=60)

    def ended(self, seconds: float = 300) -> int:
        return self.process.wait(timeout=seconds)


def called(process: psutil.Process) -> str:
    """A process's name and command; empty where it has just ended."""
    with suppress(psutil.NoSuchProcess):
        return " ".join([process.name(), *process.cmdline()])
    return ""


def session(leader: int) -> list[psutil.Process]:
    """What lives of a job: all processes of its session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


class Disk:
    """A small file system for all that the run writes, where this user may mount one. Else a limit on how large a file the
    processes that save may write stands in for it (RLIMIT_FSIZE), and only checkpoints find no room."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True)
        self.folder = folder
        command = ["mount", "-t", "tmpfs", "-o", "size=512m", "sv6d-test", folder]
        self.mounted = subprocess.run(command, capture_output=True).returncode == 0
        self.error = "No space left on device" if self.mounted else "File too large"

    @contextmanager
    def full(self, job: int) -> Iterator[None]:
        if not self.mounted:
            savers = [process for process in session(job) if "WorkerDict" in called(process)]
            before = [process.rlimit(psutil.RLIMIT_FSIZE) for process in savers]
            for process, (_, hard) in zip(savers, before, strict=True):
                process.rlimit(psutil.RLIMIT_FSIZE, (100_000, hard))
            yield
            for process, limit in zip(savers, before, strict=True):
                process.rlimit(psutil.RLIMIT_FSIZE, limit)
            return
        ballast = self.folder / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1 << 20)):
                pass
        yield
        ballast.unlink()

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", self.folder], check=True)


class Survived(NamedTuple):
    """What each launcher printed, and what was seen on the way."""

    run_dir: Path
    disk: Disk
    preempted: str
    status: int
    left: list
    saved: int
    third: pd.DataFrame
    told: str
    continued: str
    failed: int
    left_at_last: list


@pytest.fixture(scope="module")
def survived(small_data, tmp_path_factory, tiny_model):
    """Preempted after step 3, its checkpoint damaged; gone on from step 2, no room in step 3 and for the checkpoint of step 4,
    its driver killed in step 5; gone on from step 2 again, its engine killed in step 6, with no restart left."""
    run_dir = tmp_path_factory.mktemp("survived") / "run"
    disk, checkpoints = Disk(run_dir), run_dir / "checkpoints"
    command = arguments(small_data, tiny_model, run_dir)
    try:
        first = Launched(run_dir.parent / "first", command)
        first.wait_for("step    3   reward")
        job = first.job().pid
        first.process.terminate()
        status = first.ended()
        left = session(job)
        saved = manifest.last_sealed(checkpoints)
        third = pd.read_parquet(run_dir / "rollouts" / "step-000003.parquet")
        shard = checkpoints / f"global_step_{saved}" / "actor" / "model_world_size_1_rank_0.pt"
        os.truncate(shard, shard.stat().st_size // 2)

        second = Launched(run_dir.parent / "second", command)
        second.wait_for("after step 2 of 6")
        second.wait_for("Training Progress", where=second.told_by_trainer)
        with disk.full(second.job().pid):
            second.wait_for("global_step_4 could not be saved", where=second.told_by_trainer)
            told = second.told_by_trainer()
        second.wait_for("step    4   reward")
        second.job().kill()
        second.wait_for("step    5   reward")
        job = second.job().pid
        (engine,) = second.processes_of("EngineCore")
        engine.kill()
        failed = second.ended()
        left_at_last = session(job)
        yield Survived(run_dir, disk, first.shown, status, left, saved, third, told, second.shown, failed, left_at_last)
    finally:
        for launched in (found for found in (locals().get("first"), locals().get("second")) if found):
            launched.end()
        disk.unmount()


def test_a_preempted_run_saves_and_ends_with_a_status_that_says_so(survived):
    assert survived.status == PREEMPTED
    assert survived.saved in (
        3,
        4,
    )  # the step that was under way is given up, or finished where it was past its rollouts
    assert f"asked to stop and saved and ended: {survived.saved} of {STEPS + 1} steps" in flat(survived.preempted)


def test_no_process_is_left_behind(survived):
    assert survived.left == survived.left_at_last == []


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_taken(survived):
    shown = flat(survived.continued)
    assert f"global_step_{survived.saved} is not whole: actor/model_world_size_1_rank_0.pt has" in shown
    assert "the run continues from step 2" in shown
    assert shown.index("after step 2") < shown.index("step 3 reward")


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(survived):
    """The damaged one has given its room up by then, which is not enough: it is short of a part of a shard."""
    assert "step 4: no checkpoint, it could not be saved" in flat(survived.continued)
    assert "global_step_4 could not be saved" in survived.told
    assert survived.disk.error in survived.told or survived.disk.mounted  # torch says only that a write fell short


def test_what_else_finds_no_room_is_counted_and_told_once_there_is_some(survived):
    if not survived.disk.mounted:
        pytest.skip("no small disk could be mounted")
    shown = flat(survived.continued).partition("GRPO was killed")[0]
    assert "step 3 reward" not in shown
    assert "step 4: the metrics of 1 before it found no room on the disk" in shown
    assert "a line found no room in" in survived.told


def test_a_job_whose_driver_is_killed_is_started_again_after_the_last_whole_checkpoint(survived):
    """Whatever Ray, workers and engine it left behind."""
    shown = flat(survived.continued)
    assert "GRPO was killed by SIGKILL after step 4" in shown
    rollouts = 26 if survived.disk.mounted else 52  # those of step 3 found no room
    assert (
        f"it continues after step 2: steps 3 to 4 ({rollouts} rollouts) are trained again, and what step 5 had begun is begun anew"
        in shown
    )
    assert "restart 1 of 1 in 0 s" in shown


def test_a_killed_engine_ends_the_job_at_once_and_restarts_have_a_limit(survived):
    shown = flat(survived.continued)
    assert survived.failed == 1
    assert "It was started again 1 time already (sv6d.restarts)" in shown
    assert "WorkerDied: rollout server 0: its engine died; the run cannot go on without it" in shown


def flat(shown: str) -> str:
    """What was printed, without the terminal's line breaks."""
    return " ".join(shown.split())


def test_every_step_is_recorded_once_with_every_task(survived):
    rollouts = load_run(survived.run_dir).rollouts
    assert sorted(rollouts.step.unique()) == list(range(1, STEPS + 1))
    for _, step in rollouts.groupby("step"):
        assert len(step) == PROMPTS * GROUP
        assert step.groupby("group").size().eq(GROUP).all()
    assert set(rollouts.task) == set(TASKS)


def test_each_step_trains_the_prompts_that_the_mixture_has_for_it(survived):
    """However often it was interrupted: step k trains positions 13(k-1) to 13k, none lost, none twice, every task once."""
    rollouts = load_run(survived.run_dir).rollouts
    mixture = Mixture(dict.fromkeys(sorted(TASKS), ROWS), seed=0)
    for step, rows in rollouts.groupby("step"):
        places = [mixture.locate(position) for position in range(PROMPTS * (step - 1), PROMPTS * step)]
        assert Counter(rows.drop_duplicates("group").prompt) == Counter(f"rl/{p.task}/{p.row}" for p in places)


def test_a_step_that_was_lost_is_trained_again_on_the_same_prompts(survived):
    """In the middle of an epoch (each task has 8 rows and has drawn 2): what the first job trained after its checkpoint is what it
    would have trained had nothing happened, and the others train just that."""
    rollouts = load_run(survived.run_dir).rollouts
    again, lost = rollouts[rollouts.step == 3], survived.third
    assert sorted(zip(again.task, again.prompt, strict=True)) == sorted(zip(lost.task, lost.prompt, strict=True))


def test_whole_checkpoints_are_left_each_with_a_position_and_little_more(survived):
    """All that was dispatched when it was saved: the steps, and what rollouts had begun ahead."""
    checkpoints = survived.run_dir / "checkpoints"
    found = manifest.last_whole(checkpoints)
    assert (found.step, found.rejected) == (4, [])
    assert list(manifest.steps_saved(checkpoints)) == [4, 4 - SAVED]  # max_actor_ckpt_to_keep is 2
    state = torch.load(found.folder / "data.pt")
    assert 4 * PROMPTS <= state["position"] <= (4 + 8) * PROMPTS
    assert len(json.dumps(state)) < 1_024


def test_every_score_is_between_0_and_1_and_no_sample_failed(survived):
    rollouts = load_run(survived.run_dir).rollouts
    assert rollouts.score.between(0, 1).all()
    assert (rollouts.failed == 0).all()


def test_rollouts_and_trainer_agree(survived):
    """Over the rollouts that the policy of the step wrote whole; stale ones differ rightly."""
    found = load_run(survived.run_dir).metrics["sv6d/fresh_rollout_probs_diff_max"].dropna()
    assert len(found)
    assert (found < 1e-3).all()


def test_a_random_model_does_not_keep_to_the_form_by_itself(survived):
    rollouts = load_run(survived.run_dir).rollouts
    assert (rollouts.format.dropna() == 1.0).mean() < 0.05


class Constrained(NamedTuple):
    """What a run with constrained answers left, and what its launcher said at its end."""

    run: Run
    status: int
    shown: str


@pytest.fixture(scope="module")
def constrained(small_data, tiny_model, tmp_path_factory):
    """Synchronous, so that a step's rollouts are judged within it. The judge is away in step 1 and there in step 2; the reward
    worker is killed in step 3, with no restart.

    One segment and 40 characters of thought fit into 512 tokens even letter by letter."""
    run_dir, rollout = tmp_path_factory.mktemp("constrained") / "run", "actor_rollout_ref.rollout"
    with serve(grades(1.0)) as server:
        port, url = server.server_port, server.url
    more = {
        "sv6d.restarts": 0,
        "trainer.total_training_steps": 3,
        "trainer.save_freq": -1,
        "trainer.v1.trainer_mode": "sv6d_sync",
        "data.max_response_length": 512,
        f"{rollout}.max_model_len": 640,
        f"{rollout}.agent.default_agent_loop": "sv6d_constrained",
        f"+{rollout}.custom.answers": "{max_segments: 1, max_tags: 2, max_text: 40, step: 0.25}",
        "+reward.reward_kwargs.judge.url": url,
        "+reward.reward_kwargs.judge.model": "m",
        "+reward.reward_kwargs.judge.attempts": 3,
    }
    launched = Launched(run_dir.parent / "shown", arguments(small_data, tiny_model, run_dir, **more))
    try:
        launched.wait_for("step    1   reward")
        with serve(grades(1.0), port=port):
            launched.wait_for("step    2   reward")
            (worker,) = launched.processes_of("RewardLoopWorker")
            worker.kill()
            status = launched.ended()
        yield Constrained(load_run(run_dir), status, launched.shown)
    finally:
        launched.end()


def test_constrained_answers_of_a_random_model_earn_format_1(constrained):
    """The first shots that may go without labels are left out, as a missing dimension is a fault of theirs where the truth labels
    them. So are free texts that came upon the end of a JSON answer, a token at which the demo's model stops."""
    run = constrained.run
    formed = [id for id, task in TASKS.items() if task.family != "ocr" and not task.first_unlabelled]
    rollouts = run.rollouts[run.rollouts.task.isin(formed)]
    assert rollouts.groupby("step").size().to_dict() == {step: GROUP * len(formed) for step in (1, 2)}
    texts = rollouts.uid.map(run.texts().set_index("uid").response)
    stopped = (rollouts.task == "visual_reasoning") & texts.str.endswith("}")
    assert (rollouts[~stopped].format == 1.0).all()
    assert not rollouts.truncated.any()
    # the trainer gives these tokens what the model gives them, vLLM what the grammar left of it: never less
    assert run.metrics["rollout_corr/rollout_is_mean"].iloc[0] < 0.9
    assert run.metrics["rollout_corr/rollout_is_max"].iloc[0] < 1.01


def test_a_judge_that_is_away_costs_verdicts_and_not_the_run(constrained):
    """It is asked about visual reasoning alone. Its fallback is the rule judge."""
    metrics, rollouts = constrained.run.metrics, constrained.run.rollouts
    asked = metrics["judge/asked"].tolist()
    assert all(asked) and metrics["judge/failed"].tolist() == [asked[0], 0]
    judged = rollouts.dropna(subset="judge_failed")
    assert set(judged.task) == {"visual_reasoning"}
    assert judged.groupby("step").judge_failed.all().to_dict() == {1: True, 2: False}
    assert (judged[judged.step == 2].judge == 1.0).all()


def test_a_killed_reward_worker_ends_the_job_at_once(constrained):
    """All rollouts of the step fail with it, of which verl's buffer would only say that there are none."""
    assert constrained.status == 1
    assert "WorkerDied: reward worker 0 died; the run cannot go on without it" in flat(constrained.shown)
