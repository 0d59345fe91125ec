"""A wrong ground truth is refused before it can teach anything, with field, value and mend."""

import json

import pytest
from sv6d.schema import GroundTruthError, TaskError, validate_ground_truth

GOOD = {"start": 0.0, "end": 4.4, "labels": {"camera_language": {"shot_size": "medium shot"}}}


def framing(**changes):
    return json.dumps([{**GOOD, **changes}])


def test_a_list_or_an_object_of_segments_is_accepted():
    validate_ground_truth("shot_framing", json.dumps([GOOD]), duration=4.4)
    validate_ground_truth("shot_framing", json.dumps({"segments": [GOOD]}))
    validate_ground_truth("shot_framing", "[]")
    validate_ground_truth("temporal_action_localization", '[{"start": 1, "end": 2}]', duration=2)
    validate_ground_truth("ocr_regular", "")
    validate_ground_truth("visual_reasoning", "B")


@pytest.mark.parametrize(
    ("ground_truth", "field", "mend"),
    [
        ("oops", "oops", "is not JSON"),
        ("{}", "ground truth", "segments"),
        ('{"segments": 3}', "segments", "a list of segments"),
        ("[3]", "segments[0]", "object"),
        (framing(start=-1), "segments[0].start", "0 or more"),
        (framing(start=True), "segments[0].start", "number of seconds"),
        (framing(end="5"), "segments[0].end", "number of seconds"),
        (framing(start=9), "segments[0]", "swap them"),
        (framing(end=5.0), "segments[0].end", "clamp it"),
        (framing(labels=[]), "segments[0].labels", "{dimension: {sub-dimension: tag}}"),
        (framing(labels={"camera_language": {"shot_size": "MCU"}}), "shot_size", "use 'medium close-up'"),
        (framing(labels={"camera_language": {"shot_size": 3}}), "shot_size", "a tag or a list of tags"),
        (framing(labels={"camera_language": {"shot_size": ["long shot", "close-up"]}}), "shot_size", "takes one tag"),
        (framing(labels={"camera_language": {"size": "long shot"}}), "size", "shot_size"),
        (framing(labels={"subject": {"configuration": "group"}}), "subject.configuration", "asks for"),
        ('[{"start": 1' + "0" * 400 + ', "end": 5}]', "segments[0].start", "finite"),
        ("[" * 10**5, "[[[", "is not JSON"),
    ],
)
def test_each_fault_is_named(ground_truth, field, mend):
    with pytest.raises(GroundTruthError) as error:
        validate_ground_truth("shot_framing", ground_truth, duration=4.4)
    assert field in str(error.value) and mend in str(error.value), str(error.value)


@pytest.mark.parametrize("blank", ["  ", "...", "+", "$ $", "\u200b"])
def test_a_reasoning_example_needs_an_answer_that_can_be_right(blank):
    """Answers of nothing but punctuation earn nothing, so such a truth would call every response wrong."""
    with pytest.raises(GroundTruthError, match="final answer"):
        validate_ground_truth("visual_reasoning", blank)


@pytest.mark.parametrize("task", ["ocr_regular", "visual_reasoning"])
@pytest.mark.parametrize("tag", ["<think>", "</think>", "<answer>", "</answer>"])
def test_a_true_text_with_a_tag_is_refused(task, tag):
    """No response could say it: its answer would be cut at the tag."""
    with pytest.raises(GroundTruthError, match=tag):
        validate_ground_truth(task, f"press {tag} now")
    validate_ground_truth(task, "1 < 2 <b>think</b>")


def test_an_unknown_task_is_named():
    with pytest.raises(TaskError, match="did you mean 'ocr_regular'"):
        validate_ground_truth("ocr_regula", "x")


def test_data_that_is_no_text_is_refused():
    with pytest.raises(GroundTruthError, match="as it stands in the row"):
        validate_ground_truth("ocr_regular", None)
