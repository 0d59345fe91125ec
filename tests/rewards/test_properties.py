"""What always holds of grounding and localization, and how far a small change of an answer can move its reward."""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sv6d.rewards import score
from sv6d.rewards.matching import match_answer, read_answer, read_truth
from sv6d.rewards.segments import Times, iou_matrix, match
from sv6d.rewards.sv6d import cost_matrix
from sv6d.schema import TASKS, Taxonomy

TAXONOMY = Taxonomy.load()
GROUNDING = [task for task in TASKS.values() if task.labels]
SIZES = TAXONOMY.sub_dimension("camera_language", "shot_size").labels
MODES = st.sampled_from(["table4", "table4_matched", "literal"])
times = st.integers(0, 400).map(lambda t: t / 8)


def shot(start, end, size="medium shot"):
    return {"start": start, "end": end, "labels": {"camera_language": {"shot_size": size}}}


@st.composite
def shots(draw, min_size=1, max_size=5, sizes=SIZES, shortest=0.0):
    """Shots in any order, overlapping or not."""
    made = []
    for _ in range(draw(st.integers(min_size, max_size))):
        start, end = sorted((draw(times), draw(times)))
        made.append(shot(start, max(end, start + shortest), draw(st.sampled_from(sizes))))
    return made


@st.composite
def items(draw, made_up=("bogus", "Junk")):
    """A grounding task, a truth of up to 4 segments and an answer of up to 5, with any tags of the task's."""
    task = draw(st.sampled_from(GROUNDING))

    def segment(extra, least):
        start, end = sorted((draw(times), draw(times)))
        labels = {}
        for dimension, sub in task.labels:
            spec = TAXONOMY.sub_dimension(dimension, sub)
            most = 4 if spec.cardinality == "many" else 1
            tags = draw(st.lists(st.sampled_from([*spec.labels, *extra]), min_size=least, max_size=most, unique=True))
            labels.setdefault(dimension, {})[sub] = tags if len(tags) != 1 or draw(st.booleans()) else tags[0]
        return {"start": start, "end": end, "labels": labels}

    truth = [segment((), 1) for _ in range(draw(st.integers(1, 4)))]
    return task.id, [segment(made_up, 0) for _ in range(draw(st.integers(0, 5)))], truth


def components(predicted, truth, task="shot_framing", **config):
    return score(task, json.dumps(predicted), json.dumps(truth), config=config).components


def content(predicted, truth, **config):
    """IoU + Label, which the default matching maximises."""
    found = components(predicted, truth, **config)
    return found["iou"] + found["label"]


@given(items(), MODES, st.booleans(), st.floats(0.01, 0.99))
@settings(max_examples=50, deadline=None)
def test_gold_is_exactly_1(item, mode, gate, alpha):
    # at alpha 0 the matching does not see the times, at alpha 1 not the labels; in between only perfect pairs cost 0
    task, _, truth = item
    assert components(truth, truth, task, mode=mode, overlap_gate=gate, alpha=alpha)["score"] == 1.0


@given(items(), MODES, st.booleans(), st.floats(0, 1), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_segments_does_not_matter(item, mode, gate, alpha, random):
    task, predicted, truth = item
    config = {"mode": mode, "overlap_gate": gate, "alpha": alpha}
    first = components(predicted, truth, task, **config)
    random.shuffle(predicted)
    assert repr(components(predicted, truth, task, **config)) == repr(first)


@given(items(), MODES, st.booleans())
@settings(max_examples=60, deadline=None)
def test_both_readers_score_alike(item, mode, gate):
    # a lone surrogate in a key beside the form is no fault, but sends the answer to the lenient reader
    task, predicted, truth = item
    beside = [{**segment, "note": "\ud800"} for segment in predicted]
    config = {"mode": mode, "overlap_gate": gate}
    assert repr(components(beside, truth, task, **config)) == repr(components(predicted, truth, task, **config))


# A spurious segment


def far(size=None):
    labels = {} if size is None else {"shot_size": size}
    return {"start": 1000, "end": 1001, "labels": {"camera_language": labels}}


@given(shots(min_size=0, sizes=(*SIZES, "bogus")), shots(), st.booleans())
@settings(max_examples=50, deadline=None)
def test_a_segment_that_says_nothing_right_never_raises_the_score(predicted, truth, gate):
    before = components(predicted, truth, overlap_gate=gate)["score"]
    assert components([*predicted, far()], truth, overlap_gate=gate)["score"] <= before + 1e-12


@given(shots(min_size=0, sizes=(*SIZES, "bogus")), shots(), st.sampled_from(SIZES))
@settings(max_examples=50, deadline=None)
def test_with_the_gate_no_segment_beside_the_truth_raises_iou_or_label(predicted, truth, size):
    before, after = (content(p, truth, overlap_gate=True) for p in (predicted, [*predicted, far(size)]))
    assert after <= before + 1e-12


@given(shots(min_size=0), shots(), st.sampled_from(SIZES))
@settings(max_examples=50, deadline=None)
def test_without_the_gate_its_label_is_worth_one_pair_at_most(predicted, truth, size):
    before, after = (content(p, truth) for p in (predicted, [*predicted, far(size)]))
    assert after <= before + 1 / max(len(predicted) + 1, len(truth)) + 1e-12


@given(shots(), times, times, st.sampled_from(SIZES), st.booleans())
@settings(max_examples=50, deadline=None)
def test_nothing_added_to_the_gold_answer_pays(truth, a, b, size, gate):
    added = shot(min(a, b), max(a, b), size)
    assert components([*truth, added], truth, overlap_gate=gate)["score"] < 1.0


# A boundary that moves


def iou(predicted, true):
    a, b = (Times.between([start], [end]) for start, end in (predicted, true))
    return iou_matrix(a, b).item()


@given(times, times, times, times, st.floats(0, 1), st.booleans())
def test_moving_a_boundary_nearer_never_lowers_the_iou_of_a_pair(a, b, c, d, share, move_end):
    (start, end), true = sorted((a, b)), sorted((c, d))
    nearer = [start, end]
    nearer[move_end] += share * (true[move_end] - nearer[move_end])
    assume(nearer[0] <= nearer[1])
    assert iou(nearer, true) >= iou((start, end), true) - 1e-12


def pairs(predicted, truth):
    """Rows and columns of the default matching; the rows count the segments in order of time."""
    ready = read_truth(json.dumps(truth), TAXONOMY, True)
    answer = read_answer(json.dumps(predicted), ready)
    overlap = iou_matrix(Times.between(answer.starts, answer.ends), ready.times)
    return match(cost_matrix(overlap, ready.labels.distances(answer.states, answer.said), 0.5))


@given(shots(), shots(), st.data(), st.floats(0, 1), st.sampled_from(["start", "end"]))
@settings(max_examples=60, deadline=None)
def test_moving_a_boundary_nearer_to_its_match_never_lowers_the_score(predicted, truth, data, share, side):
    # true of IoU + Label and so of the score; not of IoU alone, see below
    predicted.sort(key=lambda s: (s["start"], s["end"]))
    assume(len({(s["start"], s["end"]) for s in predicted}) == len(predicted))
    i, j = data.draw(st.sampled_from(list(zip(*pairs(predicted, truth), strict=True))))
    moved = [dict(s) for s in predicted]
    moved[i][side] += share * (truth[j][side] - moved[i][side])
    assume(moved[i]["start"] <= moved[i]["end"])
    assert components(moved, truth)["score"] >= components(predicted, truth)["score"] - 1e-12


def test_iou_alone_may_fall_when_a_better_pairing_comes_within_reach():
    # 30-80 s, said to be a medium close-up, is first paired with 0-100 s (IoU 50/100, one size off), 60-100 s being worth
    # less: 20/70 + 1 < 50/100 + 5/6. Ending at 94 s, nearer to both ends, 34/70 + 1 > 64/100 + 5/6: Label gains 1/6 and
    # IoU falls from 50/100 to 34/70. Two are true, so each is halved.
    truth = [shot(0, 100, "medium shot"), shot(60, 100, "medium close-up")]
    before, after = (components([shot(30, end, "medium close-up")], truth) for end in (80, 94))
    assert (before["iou"], after["iou"]) == (pytest.approx(0.5 / 2), pytest.approx(34 / 70 / 2))
    assert after["score"] > before["score"]


# How far a small change reaches (the bounds of docs/rewards.md)


@given(shots(), shots(shortest=0.5), st.integers(0, 4), st.floats(-3, 3), st.sampled_from(["start", "end"]))
@settings(max_examples=60, deadline=None)
def test_shifting_a_boundary_moves_the_score_in_proportion(predicted, truth, which, by, side):
    # IoU of any pair moves by at most |by| / length of the true segment, and so does the best total
    moved = [dict(s) for s in predicted]
    moved[which % len(moved)][side] += by
    assume(0 <= moved[which % len(moved)]["start"] <= moved[which % len(moved)]["end"])
    shortest = min(s["end"] - s["start"] for s in truth)
    bound = 0.4 * abs(by) / shortest / max(len(predicted), len(truth))
    change = components(moved, truth)["score"] - components(predicted, truth)["score"]
    assert abs(change) <= bound + 1e-9


@given(items(made_up=()), st.data())
@settings(max_examples=60, deadline=None)
def test_changing_one_tag_moves_the_score_by_at_most_its_share(item, data):
    # a canonical tag for another: Format stays; Label of one pair moves by at most the share of its sub-dimension
    task, predicted, truth = item
    assume(predicted)
    before = components(predicted, truth, task)["score"]
    segment = data.draw(st.sampled_from(predicted))
    dimension, sub = data.draw(st.sampled_from(TASKS[task].labels))
    assume(segment["labels"][dimension][sub])
    segment["labels"][dimension][sub] = data.draw(st.sampled_from(TAXONOMY.sub_dimension(dimension, sub).labels))
    dimensions = [d for d, _ in TASKS[task].labels]
    share = 1 / len(set(dimensions)) / dimensions.count(dimension)
    change = components(predicted, truth, task)["score"] - before
    assert abs(change) <= 0.4 * share / max(len(predicted), len(truth)) + 1e-9


@given(items(), st.data())
@settings(max_examples=50, deadline=None)
def test_whatever_happens_to_one_segment_moves_iou_and_label_by_one_pair_at_most(item, data):
    task, predicted, truth = item
    assume(predicted)
    before = content(predicted, truth, task=task)
    predicted[data.draw(st.integers(0, len(predicted) - 1))] = data.draw(st.sampled_from(truth))
    assert abs(content(predicted, truth, task=task) - before) <= 2 / max(len(predicted), len(truth)) + 1e-9


def test_the_matched_sums_are_those_of_the_matrices():
    # the shortcut through flat indices: two pairs, IoU 1 and 1/2, labels 0 and 1/6 off
    truth = read_truth(json.dumps([shot(0, 2), shot(2, 4)]), TAXONOMY, True)
    answer = read_answer(json.dumps([shot(0, 2), shot(2, 3, "medium close-up")]), truth)
    matched = match_answer(answer, truth, 0.5)
    assert np.allclose(matched, (1.5, 2 - 1 / 6))
