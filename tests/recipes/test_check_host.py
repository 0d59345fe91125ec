"""Pixels in the nodes' own memory, computed by hand."""

import json

import pytest
from preflight import example, findings, only, recipe_with, subject, write_task
from sv6d.data_mixers.rows import read_rows
from sv6d.recipes.checking import host
from sv6d.recipes.checking.host import node_memory, pixels, sequence_tokens
from sv6d.recipes.checking.model_size import ModelSize, find_config

MODEL = ModelSize.read(find_config("Qwen/Qwen3-VL-8B-Instruct"))
TOKEN = 4 * (3 * 2 * 16 * 16)  # patches x (colours x frames x pixels), a byte each: 6 KiB
STEP = 3120 * 15_000 * TOKEN  # 2.9e11 bytes


def video(seconds: float, task="shot_framing"):
    return example(task, query="Which one?", duration=seconds)


def test_a_synchronous_step_lies_in_the_nodes_memory_once_and_is_copied_once():
    held = node_memory(recipe_with("leum_8b_sync"), MODEL, 15_000)
    assert (held.stored, held.ahead, held.copied) == (STEP, 0, STEP)
    assert held.offloaded == 12 * MODEL.parameters


def test_rollouts_that_run_ahead_keep_their_pixels_too():
    assert node_memory(recipe_with("leum_8b_1node"), MODEL, 15_000).ahead == STEP


def test_verls_own_rollouts_store_pixels_twice_and_as_floats():
    setting = "actor_rollout_ref.rollout.agent.agent_loop_manager_class=null"
    assert node_memory(recipe_with("leum_8b_sync", setting), MODEL, 15_000).stored == 8 * STEP


def test_over_nodes_pixels_lie_in_eight_units_in_turn_and_are_copied_where_they_are_trained():
    held = node_memory(recipe_with("leum_8b_async"), MODEL, 15_000)  # three nodes train, one writes
    assert (held.stored, held.copied) == (STEP * 2 / 8, STEP / 3)
    on_three = node_memory(recipe_with("leum_8b_sync", "trainer.nnodes=3"), MODEL, 15_000)
    assert on_three.stored == STEP * 3 / 8  # 3 + 3 + 2 units


def test_tokens_of_a_sequence_are_the_mean_of_the_tasks_whatever_their_rows(tmp_path):
    # 4 fps: 30 s are 60 pairs of frames at most 256 tokens each; 10 s are 20 pairs
    write_task(tmp_path, [video(30.0)])
    write_task(tmp_path, [video(10.0, "camera_movement")] * 3)
    assert sequence_tokens(subject("leum_8b_1node", f"sv6d.data={tmp_path}")) == (60 * 256 + 20 * 256) / 2


@pytest.mark.parametrize(
    ("recipe", "settings", "level"),
    [
        ("leum_8b_sync", ["sv6d.node_gb=2000"], "note"),  # 2 x 0.29 TB and 105 GB offloaded
        ("leum_8b_1node", ["sv6d.node_gb=2000"], "note"),  # 0.29 TB, as much ahead, copied, and 105 GB
        ("leum_8b_sync", ["sv6d.node_gb=600"], "error"),
        # 16 x 0.29 TB; 1,600 GB are only assumed
        ("leum_8b_sync", ["actor_rollout_ref.rollout.agent.agent_loop_manager_class=null"], "warning"),
        ("leum_8b_async", ["sv6d.node_gb=2000"], "note"),  # 0.07 TB, as much ahead, 0.1 TB
        # 7,980 tokens: 15 GB, copied, and as much ahead, and 26 GB
        ("leum_2b_1gpu", ["sv6d.node_gb=90", "sv6d.model=Qwen/Qwen3-VL-2B-Instruct"], "note"),
        ("leum_2b_1gpu", ["sv6d.node_gb=74", "sv6d.model=Qwen/Qwen3-VL-2B-Instruct"], "warning"),
    ],
)
def test_pixels_against_the_node(recipe, settings, level, tmp_path):
    write_task(tmp_path, [video(30.0)])
    found, text = only(pixels, subject(recipe, f"sv6d.data={tmp_path}", *settings))
    assert found == level
    assert ("Lower sv6d.video_tokens" in text) == (level != "note")


def test_all_held_out_rows_at_once_are_reckoned_against_a_step_and_the_recipes_take_no_more_than_a_batch(tmp_path):
    at_once = recipe_with("leum_8b_sync", "data.val_batch_size=null")
    held = node_memory(at_once, MODEL, 15_000, held_out=10_000)  # 10,000 sequences, and a step has 3,120, twice
    assert held.validated == 10_000 * 15_000 * TOKEN
    assert held.total == held.validated + held.offloaded
    assert node_memory(recipe_with("leum_8b_sync"), MODEL, 15_000, held_out=10_000).validated == STEP / 8
    assert node_memory(recipe_with("leum_8b_sync"), MODEL, 15_000, held_out=39).validated == STEP / 80
    never = recipe_with("leum_8b_sync", "trainer.val_before_train=false", "trainer.test_freq=-1")
    assert node_memory(never, MODEL, 15_000, held_out=10_000).validated == 0
    write_task(tmp_path, [video(30.0)])
    of = subject("leum_8b_sync", f"sv6d.data={tmp_path}", "sv6d.node_gb=900", "data.val_batch_size=null")
    of.held_out_count = 10_000
    level, text = only(pixels, of)  # 944 GB and 105
    assert level == "error" and "or, instead of the step's, 943.7 of a batch of validation" in text
    assert "Set data.val_batch_size to 390 or less. Lower" in text


def test_where_the_run_is_here_the_node_has_what_a_process_may_use(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "usable_memory", lambda: 64 * 10**9)
    write_task(tmp_path, [video(30.0)])
    here = ["leum_8b_sync", f"sv6d.data={tmp_path}", "trainer.device=cpu"]
    level, text = only(pixels, subject(*here))
    assert level == "error" and "(of 64 GB, as a process has on this one)" in text
    level, text = only(pixels, subject(*here, here=False))
    assert level == "note" and "assumed to have 1,600 GB: sv6d.node_gb is not set" in text


def test_of_a_large_file_some_rows_are_read_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr("sv6d.recipes.checking.subject.ENOUGH", 2)
    write_task(tmp_path, [video(float(seconds)) for seconds in range(5)])
    durations = [row["extra_info"]["duration"] for row in subject("leum_8b_1node", f"sv6d.data={tmp_path}").filmed]
    assert durations == [0.0, 3.0]


def test_rows_in_lines_are_measured_too(tmp_path):
    write_task(tmp_path, [video(30.0)])
    [row] = read_rows(tmp_path / "rl" / "shot_framing.parquet")
    (tmp_path / "rl" / "shot_framing.parquet").unlink()
    (tmp_path / "rl" / "shot_framing.jsonl").write_text(json.dumps(row))
    assert sequence_tokens(subject("leum_8b_1node", f"sv6d.data={tmp_path}")) == 60 * 256


def test_without_videos_there_is_nothing_to_say(tmp_path):
    write_task(tmp_path, [example("ocr_regular", "page.png", "text")])
    assert findings(pixels, subject("leum_8b_1node", f"sv6d.data={tmp_path}")) == []


def test_a_prompt_that_is_longer_than_allowed_is_skipped_and_holds_no_more_than_that(tmp_path):
    write_task(tmp_path, [video(30.0)])
    assert sequence_tokens(subject("leum_8b_1node", f"sv6d.data={tmp_path}", "data.max_prompt_length=1000")) == 1000
