"""GRPO for a few steps on real verl, Ray and vLLM: killed and continued, on two ranks with batches that mix images and videos,
and with constrained answers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from sv6d.data_mixers import Mixture
from sv6d.reports.runs import load_run
from sv6d.schema import TASKS

pytestmark = pytest.mark.slow

STEPS, SAVED, PROMPTS, GROUP, ROWS = 4, 2, 13, 2, 8


def arguments(data: Path, model: Path, run_dir: Path, **more) -> list[str]:
    settings = {
        "sv6d.data": data,
        "sv6d.model": model,
        "sv6d.run_dir": run_dir,
        "sv6d.group_size": GROUP,
        "sv6d.scale.prompts": 1 / 30,  # one prompt a task and step
        "trainer.total_training_steps": STEPS,
        "trainer.val_before_train": "false",
        "trainer.test_freq": -1,
        "trainer.save_freq": SAVED,
        **more,
    }
    return ["grpo", "cpu_demo", *(f"{key}={value}" for key, value in settings.items())]


def steps_in(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition, process, seconds: float) -> None:
    """Look until the condition holds; a process that ends before is told with its output."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            pytest.fail(f"ended with status {process.returncode}:\n{process.stdout.read()}")
        if time.monotonic() > end:
            process.kill()
            pytest.fail(f"not within {seconds} s")
        time.sleep(0.2)


def kill_all(process) -> None:
    """kill -9 for the command, the job and all that Ray started for it."""
    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        try:
            os.kill(member.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    psutil.wait_procs([member for member in family if isinstance(member, psutil.Process)], timeout=30)


@pytest.fixture(scope="module")
def continued(small_data, tiny_model, tmp_path_factory):
    """A run that was killed after its third step, when the second was saved, and continued by the same command."""
    run_dir = tmp_path_factory.mktemp("killed") / "run"
    command = [Path(sys.executable).with_name("sv6d"), *arguments(small_data, tiny_model, run_dir)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    first = subprocess.Popen(command, **options)
    unsaved = run_dir / "rollouts" / f"step-{SAVED + 1:06d}.parquet"
    wait_for(lambda: SAVED + 1 in steps_in(run_dir / "metrics.jsonl") and unsaved.exists(), first, 400)
    kill_all(first)
    lost = pd.read_parquet(unsaved)
    second = subprocess.run(command, **options, timeout=500)
    assert second.returncode == 0, second.stdout
    return run_dir, second.stdout, lost


def test_a_killed_run_continues_after_its_last_checkpoint(continued):
    run_dir, shown, _ = continued
    assert steps_in(run_dir / "metrics.jsonl") == [3, 4]
    assert "step    3   reward" in shown and "step    4   reward" in shown


def test_every_step_is_recorded_once_with_every_task(continued):
    run_dir, _, _ = continued
    rollouts = load_run(run_dir).rollouts
    assert sorted(rollouts.step.unique()) == [1, 2, 3, 4]
    for _, step in rollouts.groupby("step"):
        assert len(step) == PROMPTS * GROUP
        assert step.groupby("group").size().eq(GROUP).all()
    assert set(rollouts.task) == set(TASKS)


def test_each_step_trains_the_prompts_that_the_mixture_has_for_it(continued):
    """Before the kill and after it: step k trains positions 13(k-1) to 13k, none lost, none twice, every task once."""
    rollouts = load_run(continued[0]).rollouts
    mixture = Mixture(dict.fromkeys(sorted(TASKS), ROWS), seed=0)
    for step, rows in rollouts.groupby("step"):
        places = [mixture.locate(position) for position in range(PROMPTS * (step - 1), PROMPTS * step)]
        assert Counter(rows.drop_duplicates("group").prompt) == Counter(f"rl/{p.task}/{p.row}" for p in places)


def test_the_step_that_was_lost_is_trained_again_on_the_same_prompts(continued):
    """In the middle of an epoch (each task has 8 rows and has drawn 2): what the killed run trained after its checkpoint is
    what it would have trained had nobody killed it, and the continued run trains just that."""
    run_dir, _, lost = continued
    rollouts = load_run(run_dir).rollouts
    again = rollouts[rollouts.step == SAVED + 1]
    assert sorted(zip(again.task, again.prompt, strict=True)) == sorted(zip(lost.task, lost.prompt, strict=True))


def test_a_checkpoint_holds_a_position_and_little_more(continued):
    """All that was dispatched when it was saved: four steps, and what rollouts had begun ahead."""
    state = torch.load(continued[0] / "checkpoints" / f"global_step_{STEPS}" / "data.pt")
    assert STEPS * PROMPTS <= state["position"] <= (STEPS + 8) * PROMPTS
    assert len(json.dumps(state)) < 1_024


def test_every_score_is_between_0_and_1_and_no_sample_failed(continued):
    rollouts = load_run(continued[0]).rollouts
    assert rollouts.score.between(0, 1).all()
    assert (rollouts.failed == 0).all()


def test_rollouts_and_trainer_agree(continued):
    """Over the rollouts that the policy of the step wrote whole; stale ones differ rightly."""
    assert (load_run(continued[0]).metrics["sv6d/fresh_rollout_probs_diff_max"] < 1e-2).all()


def test_two_ranks_train_on_batches_that_mix_images_and_videos(small_data, tiny_model, tmp_path, sv6d_command):
    more = {"trainer.n_gpus_per_node": 2, "trainer.total_training_steps": 2, "trainer.v1.trainer_mode": "sv6d_sync"}
    more["actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu"] = PROMPTS * GROUP // 2
    process = sv6d_command(*arguments(small_data, tiny_model, tmp_path / "run", **more, **{"trainer.save_freq": -1}))
    shown, _ = process.communicate(timeout=500)
    assert process.returncode == 0, shown
    run = load_run(tmp_path / "run")
    assert run.rollouts.groupby("step").size().tolist() == [PROMPTS * GROUP, PROMPTS * GROUP]
    assert (run.metrics["sv6d/fresh_rollout_probs_diff_max"] < 1e-2).all()


def test_a_random_model_does_not_keep_to_the_form_by_itself(continued):
    rollouts = load_run(continued[0]).rollouts
    assert (rollouts.format.dropna() == 1.0).mean() < 0.05


def test_constrained_answers_of_a_random_model_earn_format_1(small_data, tiny_model, tmp_path, sv6d_command):
    """One segment and 40 characters of thought fit into 512 tokens even letter by letter. The first shots that may go
    without labels are left out, as a missing dimension is a fault of theirs where the truth labels them."""
    rollout = "actor_rollout_ref.rollout"
    more = {
        "trainer.total_training_steps": 1,
        "trainer.save_freq": -1,
        "data.max_response_length": 512,
        f"{rollout}.max_model_len": 640,
        f"{rollout}.agent.default_agent_loop": "sv6d_constrained",
        f"+{rollout}.custom.answers": "{max_segments: 1, max_tags: 2, max_text: 40, step: 0.25}",
    }
    process = sv6d_command(*arguments(small_data, tiny_model, tmp_path / "run", **more))
    shown, _ = process.communicate(timeout=500)
    assert process.returncode == 0, shown
    run = load_run(tmp_path / "run")
    formed = [id for id, task in TASKS.items() if task.family != "ocr" and not task.first_unlabelled]
    rollouts = run.rollouts[run.rollouts.task.isin(formed)]
    assert len(rollouts) == GROUP * len(formed)
    assert (rollouts.format == 1.0).all()
    assert not rollouts.truncated.any()
    # the trainer gives these tokens what the model gives them, vLLM what the grammar left of it: never less
    assert run.metrics["rollout_corr/rollout_is_mean"].iloc[0] < 0.9
    assert run.metrics["rollout_corr/rollout_is_max"].iloc[0] < 1.01
