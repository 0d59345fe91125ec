"""Best and worst answers: which are chosen, and what is told of them."""

import json

import pytest
from sv6d.reports.examples import MOST_TEXT, examples, shortened
from sv6d.reports.figures import timeline
from sv6d.reports.recorder import Recorder
from sv6d.reports.runs import load_run

TRUTH = json.dumps([{"start": 0.0, "end": 4.0}, {"start": 4.0, "end": 8.0}])
ANSWER = json.dumps({"segments": [{"start": 0.0, "end": 4.0}]})
LOCALIZATION = {"task": "temporal_action_localization", "response": ANSWER, "ground_truth": TRUTH}


def recorded(directory, steps):
    """steps: step -> rows; what a row leaves out is that of an answer with one segment of two."""
    with Recorder(directory) as recorder:
        for step, rows in steps.items():
            plain = {"group": "g", "response_length": 5, "truncated": False, "version_start": 0, "failed": 0.0}
            recorder.write([plain | {"uid": f"{step}-{i}"} | row for i, row in enumerate(rows)], step)
    return load_run(directory)


def test_the_best_and_the_worst_of_the_last_steps_are_shown_of_equal_ones_the_latest(tmp_path):
    """Eight steps: the last five are searched, so neither the 1.0 of step 1 nor the 0.0 of step 2 is there."""
    scores = {1: 1.0, 2: 0.0, 3: 0.5, 4: 0.2, 5: 0.9, 6: 0.9, 7: 0.2, 8: 0.4}
    run = recorded(tmp_path, {step: [LOCALIZATION | {"score": score}] for step, score in scores.items()})
    best, worst = examples(run, ["temporal_action_localization"])
    assert (best["kind"], best["step"], best["score"]) == ("best", 6, 0.9)
    assert (worst["kind"], worst["step"], worst["score"]) == ("worst", 7, 0.2)


def test_a_task_of_which_one_answer_is_known_has_only_a_best_one(tmp_path):
    run = recorded(tmp_path, {1: [LOCALIZATION | {"score": 0.5}, {"task": "subject", "score": 0.9}]})
    assert [(e["task"], e["kind"]) for e in examples(run, ["temporal_action_localization", "subject"])] == [
        ("temporal_action_localization", "best")
    ]


def test_a_run_without_texts_has_no_examples(tmp_path):
    assert examples(recorded(tmp_path, {1: [{"task": "subject", "score": 0.9}]}), ["subject"]) == []


def test_shots_are_paired_as_the_reward_pairs_them(tmp_path):
    """One of two segments is answered, exactly: IoU 1/2, format 1; Table 4 gives .2 x 1 + .8 x .5 = .6."""
    run = recorded(tmp_path, {1: [LOCALIZATION | {"score": 0.6, "format": 1.0, "iou": 0.5}]})
    (example,) = examples(run, ["temporal_action_localization"])
    assert example["components"] == {"format": 1.0, "iou": 0.5, "failed": 0.0}
    (pair,) = example["shots"]["pairs"]
    assert (tuple(pair["predicted"]), tuple(pair["true"]), pair["iou"]) == ((0.0, 4.0), (0.0, 4.0), 1.0)
    assert [tuple(shot["times"]) for shot in example["shots"]["unmatched_true"]] == [(4.0, 8.0)]
    (loss,) = example["losses"]
    assert (loss["part"], round(loss["points"], 6)) == ("iou", 0.4)
    drawn = timeline(example, "x")
    assert [trace["base"] for trace in drawn.data] == [[0.0, 4.0], [0.0]]
    assert drawn.data[0]["meta"]["color"] == [0, "first"]  # matched: the first colour; not answered: grey


def shot(start, end, size):
    return {"start": start, "end": end, "labels": {"camera_language": {"shot_size": size}}}


def test_shots_without_counterpart_bear_their_labels_in_chart_and_hover(tmp_path):
    """One shot is invented; and an answer that cannot be read misses both."""
    true = [shot(0, 4, "long shot"), shot(4, 8, "close-up")]
    row = {"task": "shot_framing", "ground_truth": json.dumps(true), "score": 0.5}
    answers = json.dumps([*true, shot(9, 10, "<b>wide")]), "no JSON"
    rows = [row | {"response": answer, "score": score} for answer, score in zip(answers, (0.5, 0.0), strict=True)]
    best, worst = examples(recorded(tmp_path, {1: rows}), ["shot_framing"])
    (lone,) = best["shots"]["unmatched_predicted"]
    assert (lone["times"], lone["tags"]) == ((9.0, 10.0), (("camera_language.shot_size", ("<b>wide",)),))
    _, below = timeline(best, "x").data
    assert below["text"] == ["long shot", "close-up", "&lt;b&gt;wide"]
    assert below["hovertext"][2] == "9.0 to 10.0 s, no true counterpart<br>shot size: &lt;b&gt;wide"
    above, below = timeline(worst, "x").data
    assert above["text"] == ["long shot", "close-up"] and below["text"] == []
    assert above["hovertext"][0] == "0.0 to 4.0 s, not answered<br>shot size: long shot"


def test_an_answer_that_cannot_be_read_says_why_once_a_part(tmp_path):
    row = {"task": "shot_framing", "response": "no JSON", "ground_truth": json.dumps([shot(0, 4, "long shot")])}
    (example,) = examples(recorded(tmp_path, {1: [row | {"score": 0.0}]}), ["shot_framing"])
    assert example["unread"] == "nothing can be read as JSON after the thinking"
    assert [(loss["part"], loss["why"]) for loss in example["losses"]] == [
        (part, example["unread"]) for part in ("iou", "label", "format")
    ]
    assert example["unread"] in timeline(example, "x").caption


def test_where_points_went_is_left_out_when_the_score_was_earned_under_other_weights(tmp_path):
    run = recorded(tmp_path, {1: [LOCALIZATION | {"score": 0.5}]})
    assert examples(run, ["temporal_action_localization"])[0]["losses"] == []


def test_a_transcription_is_told_by_its_edits_and_reasoning_by_what_was_judged(tmp_path):
    ocr = {"task": "ocr_regular", "response": "hallo", "ground_truth": "hello", "score": 0.8}
    said = "<think>It is red.</think><answer>red</answer>"
    reasoning = {"task": "visual_reasoning", "response": said, "ground_truth": "blue", "score": 0.3}
    run = recorded(tmp_path, {1: [ocr, reasoning | {"format": 1.0, "judge": 0.0}]})
    read, reasoned = examples(run, ["ocr_regular", "visual_reasoning"])
    assert [edit for edit in read["edits"] if edit[0] != "equal"] == [["replace", "a", "e"]]
    assert reasoned["judged"] == ["red", "blue"]


@pytest.mark.parametrize(("task", "truth"), [("chess", "e4"), ("subject", "not a list of segments")])
def test_an_answer_of_another_project_is_shown_by_its_texts(tmp_path, task, truth):
    run = recorded(tmp_path, {1: [{"task": task, "response": "e5", "ground_truth": truth, "score": 0.5}]})
    (example,) = examples(run, [task])
    assert (example["response"], example["truth"], example["shots"]) == ("e5", truth, None)


def test_long_and_unprintable_texts_are_shortened_and_spelt_out():
    assert shortened("a\x1b[31mb\ud800") == "a\\x1b[31mb\\ud800"
    assert shortened("x" * (MOST_TEXT + 7)).endswith("x ... (7 more characters)")
