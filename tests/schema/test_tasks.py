"""The 13 task types, their prompts, and an edited table."""

from collections import Counter

import pytest
from sv6d.schema import TASKS, TaskError, Taxonomy, find_task, load_tasks


def test_thirteen_tasks_in_order():
    assert list(TASKS) == [
        "shot_framing",
        "lens_and_focus",
        "camera_movement",
        "cut_point_detection",
        "editing_logic",
        "editing_effects_and_transitions",
        "subject",
        "lighting_and_color",
        "composition_and_rhythm",
        "ocr_regular",
        "ocr_handwritten",
        "temporal_action_localization",
        "visual_reasoning",
    ]
    families = Counter(task.family for task in TASKS.values())
    assert families == {"temporal_grounding": 9, "ocr": 2, "action_localization": 1, "chain_of_thought": 1}
    assert len({task.bucket for task in TASKS.values()}) == 9, "the nine buckets of section 5.2.4"


def test_each_grounding_task_asks_for_sub_dimensions_of_the_taxonomy():
    taxonomy = Taxonomy.load()
    for task in TASKS.values():
        assert bool(task.labels) == (task.family == "temporal_grounding")
        for dimension, sub in task.labels:
            for tag in taxonomy.sub_dimension(dimension, sub).labels:
                assert tag in task.prompt


def test_only_what_leads_into_a_shot_may_be_missing_from_the_first():
    without = {task.id for task in TASKS.values() if task.first_unlabelled}
    assert without == {task.id for task in TASKS.values() if ("editing", "transition_type") in task.labels}


def test_messages_hold_one_placeholder_a_medium():
    system, user = TASKS["ocr_regular"].messages()
    assert system["role"] == "system" and system["content"]
    assert user["content"].startswith("<image>Transcribe")
    assert TASKS["camera_movement"].messages()[1]["content"].count("<video>") == 1
    reasoning = TASKS["visual_reasoning"]
    assert reasoning.messages("How many?", media="image")[1]["content"].startswith("<image>How many?")
    assert reasoning.messages("Which?", media=["image", "image"])[1]["content"].startswith("<image><image>Which?")


def test_query_is_filled_and_required():
    user = TASKS["temporal_action_localization"].messages("a {dog} barks")[1]["content"]
    assert "a {dog} barks" in user and "{query}" not in user
    with pytest.raises(TaskError, match="asks for a query"):
        TASKS["temporal_action_localization"].messages()


def test_no_placeholder_is_left():
    for task in TASKS.values():
        text = task.messages("?")[1]["content"]
        assert not any(mark in text for mark in ("{tags}", "{form}", "{ask}", "{query}"))


def test_unknown_task_comes_with_near_names():
    with pytest.raises(TaskError, match="did you mean 'camera_movement'"):
        find_task("camera_movment")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{bucket: b, family: ocrr, media: image, prompt: p}", "'ocr'"),
        ("{bucket: b, family: ocr, media: audio, prompt: p}", "media"),
        ("{bucket: b, family: ocr, prompt: p}", "media"),
        ("{bucket: b, family: ocr, media: image, promt: p, prompt: p}", "promt"),
        ("{bucket: b, family: temporal_grounding, media: video, prompt: p}", "labels"),
        ("{bucket: b, family: temporal_grounding, media: video, prompt: p, labels: [editing.cut]}", "'cut'"),
    ],
)
def test_a_broken_table_is_refused_with_its_place(tmp_path, entry, said):
    path = tmp_path / "tasks.yaml"
    path.write_text(f"tasks:\n  mine: {entry}\n", encoding="utf-8")
    with pytest.raises(TaskError) as error:
        load_tasks(path)
    assert "tasks.mine" in str(error.value) and said in str(error.value)
