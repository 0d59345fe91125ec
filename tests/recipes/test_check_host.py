"""Pixels in the nodes' own memory, computed by hand."""

import pytest
from preflight import example, findings, only, recipe_with, subject, write_task
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
        # 16 x 0.29 TB; 2,000 GB are only assumed
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


def test_without_videos_there_is_nothing_to_say(tmp_path):
    write_task(tmp_path, [example("ocr_regular", "page.png", "text")])
    assert findings(pixels, subject("leum_8b_1node", f"sv6d.data={tmp_path}")) == []


def test_a_prompt_that_is_longer_than_allowed_is_skipped_and_holds_no_more_than_that(tmp_path):
    write_task(tmp_path, [video(30.0)])
    assert sequence_tokens(subject("leum_8b_1node", f"sv6d.data={tmp_path}", "data.max_prompt_length=1000")) == 1000
