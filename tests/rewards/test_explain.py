"""Where each point went: the losses of a response sum to 1 - score, whatever it says and in every mode."""

import json
from math import fsum
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sv6d.rewards import RewardConfig, score
from sv6d.rewards.rescoring.cli import command
from sv6d.rewards.rescoring.explain import explain, form_fault
from sv6d.rewards.rescoring.rollouts import Rollout
from sv6d.schema import TASKS, Taxonomy

TAXONOMY = Taxonomy.load()


def explained(task, response, truth, **config):
    rollout = Rollout(Path("f"), 0, None, task, response, truth, None)
    return explain(rollout, score(task, response, truth, config=config), TAXONOMY, RewardConfig.read(config))


def segments(*items):
    """(start, end, shot size) -> JSON."""
    return json.dumps(
        [{"start": a, "end": b, "labels": {"camera_language": {"shot_size": tag}}} for a, b, tag in items]
    )


def test_the_losses_of_a_hand_worked_example():
    """Two of three true segments answered, with weights 0.2, 0.4, 0.4 and three segments to divide by.

    IoU 4/5 loses 0.4/3 x 1/5; medium close-up is one rank of six from medium shot; the third true segment is missing
    in IoU and Label alike; `blurry` is one unknown tag of two: 0.2/3 x 1/2; a time as text fails one check of four.
    """
    truth = segments((0, 5, "medium shot"), (5, 7, "medium shot"), (7, 10, "long shot"))
    answer = segments((0, 4, "medium close-up"), (7, "10", "blurry"))
    result = explained("shot_framing", answer, truth)
    assert [(loss.part, pytest.approx(loss.points)) for loss in result.losses] == [
        ("format", 0.2 / 3 / 2),
        ("format", 0.2 / 3 / 4),
        ("iou", 0.4 / 3 / 5),
        ("iou", 0.4 / 3),
        ("label", 0.4 / 3 / 6),
        ("label", 0.4 / 3),
        ("label", 0.4 / 3),
    ]
    assert fsum(loss.points for loss in result.losses) == pytest.approx(1 - result.score.value)
    (first, second), (tag,) = result.segments.pairs, result.segments.pairs[0].tags
    assert (first.predicted, first.true, first.iou) == ((0, 4), (0, 5), 0.8)
    assert tag[:3] == ("camera_language.shot_size", ("medium close-up",), ("medium shot",)) and tag.share == 1.0
    assert second.distance == 1.0 and result.segments.unread == ""
    assert result.segments.unmatched_true == (((5, 7), (("camera_language.shot_size", ("medium shot",)),)),)
    assert "'blurry'" in result.losses[0].why and "time written as text" in result.losses[1].why


@st.composite
def answers(draw, task):
    """Segments with tags known and not, times usable and not, in any number."""

    def segment():
        time = st.one_of(st.integers(0, 40).map(lambda t: t / 4), st.sampled_from([-1.0, "3", None, 1e999]))
        labels = {}
        for dimension, sub in task.labels:
            tags = draw(
                st.lists(st.sampled_from([*TAXONOMY.sub_dimension(dimension, sub).labels, "made up"]), max_size=4)
            )
            if tags:
                labels.setdefault(dimension, {})[sub] = tags if draw(st.booleans()) else tags[0]
        return {"start": draw(time), "end": draw(time), **({"labels": labels} if draw(st.integers(0, 5)) else {})}

    return json.dumps({"segments": [segment() for _ in range(draw(st.integers(0, 5)))]}, allow_nan=True)


@st.composite
def truths(draw, task):
    def segment():
        start, end = sorted(draw(st.tuples(st.integers(0, 40), st.integers(0, 40))))
        labels = {}
        for dimension, sub in task.labels:
            spec = TAXONOMY.sub_dimension(dimension, sub)
            if draw(st.integers(0, 3)):
                most = 3 if spec.cardinality == "many" else 1
                labels.setdefault(dimension, {})[sub] = draw(
                    st.lists(st.sampled_from(spec.labels), min_size=1, max_size=most, unique=True)
                )
        return {"start": start / 4, "end": end / 4, "labels": labels}

    return json.dumps([segment() for _ in range(draw(st.integers(0, 4)))])


SHARES = st.tuples(*[st.integers(1, 5)] * 3).map(lambda parts: [part / sum(parts) for part in parts])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_losses_sum_to_what_is_missing(data):
    task = data.draw(
        st.sampled_from([t for t in TASKS.values() if t.family in ("temporal_grounding", "action_localization")])
    )
    format, iou, label = data.draw(SHARES)
    config = {
        "mode": data.draw(st.sampled_from(["table4", "table4_matched", "literal"])),
        "alpha": data.draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])),
        "beta": data.draw(st.sampled_from([0.0, 0.5, 2.0])),
        "overlap_gate": data.draw(st.booleans()),
        "grounding": {"format": format, "iou": iou, "label": label},
        "lambdas": dict(zip(("prof", "comp", "form"), data.draw(SHARES), strict=True)),
        "dimension_weights": {"camera_language": 3.0},
    }
    response = data.draw(answers(task) | st.sampled_from(["", "{}", "[[]]", "[1]", "<think>", '{"segments": 3}']))
    result = explained(task.id, response, data.draw(truths(task)), **config)
    assert fsum(loss.points for loss in result.losses) == pytest.approx(1 - result.score.value, abs=1e-9)
    assert all(loss.points > 0 or loss.why.startswith(("cut off", "the three terms")) for loss in result.losses)
    assert all(loss.why for loss in result.losses)


def test_a_segment_without_counterpart_keeps_its_labels():
    """Two answered for one: the second has none, and names two sizes, once each."""
    labels = {"camera_language": {"shot_size": ["long shot", "close-up", "long shot"], "camera_angle": "eye level"}}
    second = {"start": 7, "end": 9, "labels": labels}
    answer = json.dumps([*json.loads(segments((0, 4, "medium shot"))), second])
    (lone,) = explained("shot_framing", answer, segments((0, 4, "medium shot"))).segments.unmatched_predicted
    assert lone == ((7, 9), (("camera_language.shot_size", ("long shot", "close-up")),))  # of what is asked
    (bare,) = explained("temporal_action_localization", "[]", '[{"start": 0, "end": 1}]').segments.unmatched_true
    assert bare == ((0, 1), ())


@pytest.mark.parametrize(
    ("response", "why"),
    [("no JSON", "nothing can be read as JSON after the thinking"), ("{}", "the answer holds no list of segments")],
)
def test_losses_of_the_same_part_and_reason_are_one(response, why):
    """Unreadable, each of the three checks of format gives the same reason: 0.2 + 0.4 + 0.4 in three losses."""
    result = explained("shot_framing", response, segments((0, 5, "medium shot")))
    assert result.unread == why
    told = {(loss.part, loss.why): loss.points for loss in result.losses}
    assert len(told) == len(result.losses)
    assert (told["iou", why], told["label", why]) == pytest.approx((0.4, 0.4))
    if response == "no JSON":
        assert told == pytest.approx({("format", why): 0.2, ("iou", why): 0.4, ("label", why): 0.4})


def test_an_answer_whose_thinking_never_ends_is_unread():
    assert explained("ocr_regular", "<think>so", "abc").unread.startswith("a <think> is still open")
    assert explained("ocr_regular", "abd", "abc").unread == ""


def test_too_many_segments_are_one_loss():
    result = explained(
        "temporal_action_localization", json.dumps([{"start": 0, "end": 1}] * 300), '[{"start": 0, "end": 1}]'
    )
    assert [(loss.part, loss.points) for loss in result.losses] == [("iou", 0.8)]
    assert "300 segments are more than are matched (256)" in result.losses[0].why


def test_text_loses_by_edits():
    """helo -> hello, 2 -> 3: two of eight characters."""
    result = explained("ocr_regular", "<answer>helo 12</answer>", "hello 13")
    assert [(loss.points, loss.why) for loss in result.losses] == [(1 / 8, "missing 'l'"), (1 / 8, "'2' for '3'")]
    assert [edit.kind for edit in result.edits] == ["equal", "insert", "equal", "replace"]


@given(st.text(max_size=30), st.text(max_size=30))
def test_edits_sum_to_what_is_missing(response, truth):
    result = explained("ocr", response, truth)
    assert fsum(loss.points for loss in result.losses) == pytest.approx(1 - result.score.value)


FAULTS = {
    "<think>a</think><answer>b</answer>": None,
    "<answer>b</answer>": "<think> stands there 0 times",
    "<think>a</think><answer>b</answer><answer>c</answer>": "<answer> stands there 2 times",
    "<answer>b</answer><think>a</think>": "not in the order",
    "so <think>a</think><answer>b</answer>": "text before <think>: 'so'",
    "<think>a</think> thus <answer>b</answer>": "text between think and answer: 'thus'",
    "<think>a</think><answer>b</answer>.": "text after </answer>: '.'",
    "<think> </think><answer>b</answer>": "the think is empty",
    "<think>a</think><answer></answer>": "the answer is empty",
}


@pytest.mark.parametrize(("response", "said"), FAULTS.items())
def test_the_check_of_form_that_failed(response, said):
    fault = form_fault(response)
    assert fault is None if said is None else said in fault
    result = explained("visual_reasoning", response, "b")
    assert fsum(loss.points for loss in result.losses) == pytest.approx(1 - result.score.value)


def test_what_the_judge_compared():
    result = explained("visual_reasoning", "<think>a</think><answer> 12 </answer>", "13")
    assert result.judged == ("12", "13")
    assert [(loss.part, loss.points, loss.why) for loss in result.losses] == [("judge", 0.7, "the judge gave 0.000")]


HOSTILE = {
    "deep nesting": "[" * 100_000,
    "lone surrogates": '[{"start": 0, "end": 1, "labels": {"camera_language": {"shot_size": "\ud800"}}}]',
    "infinite times": '[{"start": 0, "end": 1e999}]',
    "many segments": json.dumps([{"start": 0, "end": 1}] * 5000),
    "a long text": "ab" * 50_000,
    "many tags": json.dumps(
        [
            {"start": i, "end": i + 1, "labels": {"camera_language": {"shot_size": [str(i), "b", "c"]}}}
            for i in range(200)
        ]
    ),
}


@pytest.mark.parametrize("response", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("task", ["shot_framing", "ocr_regular", "visual_reasoning"])
def test_any_response_is_explained(tmp_path, task, response):
    truth = segments((0, 5, "medium shot")) if task == "shot_framing" else "abc"
    result = explained(task, response, truth)
    assert fsum(loss.points for loss in result.losses) == pytest.approx(1 - result.score.value, abs=1e-9)
    row = {"task": task, "response": response, "ground_truth": truth}
    assert explain_row(tmp_path, row).exit_code == 0


def explain_row(tmp_path, row, wanted="0"):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n")
    return CliRunner().invoke(command, [str(file), "--explain", wanted])


def test_the_command_prints_pairs_side_by_side_and_every_loss(tmp_path):
    row = {
        "task": "shot_framing",
        "response": segments((0, 4, "medium close-up")),
        "ground_truth": segments((0, 5, "medium shot"), (5, 6, "long shot")),
        "uid": "clip-7_0_0",
    }
    result = explain_row(tmp_path, row, "clip-7_0_0")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "0.0-4.0 s 0.0-5.0 s 0.800 0.167 camera_language.shot_size medium close-up medium shot 0.167" in lines
    assert "– 5.0-6.0 s camera_language.shot_size long shot" in lines
    assert "iou 0.2000 true 5.0-6.0 s is not answered" in lines
    lost = 1 - score("shot_framing", row["response"], row["ground_truth"]).value
    assert f"sum {lost:.4f} 1 - score = {lost:.4f}" in lines


def test_the_command_prints_text_with_its_differences_and_no_control_characters(tmp_path):
    row = {"task": "ocr_regular", "response": "a[red]b\x1b[31m\ud800", "ground_truth": "a[red]c"}
    result = explain_row(tmp_path, row)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output and r"a[red][-b-]{+c+}[-\x1b[31m\ud800-]" in result.output


@pytest.mark.parametrize(("wanted", "said"), [("nine", "no row has the id"), ("1", "no row has the id or number '1'")])
def test_a_row_that_is_not_there(tmp_path, wanted, said):
    result = explain_row(tmp_path, {"task": "ocr", "response": "", "ground_truth": ""}, wanted)
    assert result.exit_code == 1 and said in result.output
