"""Grounding against a slow scorer that tries every pairing of segments and of tags."""

import json
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sv6d.rewards import score
from sv6d.schema import TASKS, Taxonomy

TAXONOMY = Taxonomy.load()
GROUNDING = [task for task in TASKS.values() if task.labels]


def tag_distance(pair, predicted, true):
    """The cheapest one-to-one pairing, unpaired tags cost 1, over the larger set."""
    smaller, larger = sorted((list(dict.fromkeys(predicted)), true), key=len)
    costs = [
        sum(TAXONOMY.distance(*pair, a, b) for a, b in zip(smaller, p, strict=True))
        for p in permutations(larger, len(smaller))
    ]
    return (min(costs) + len(larger) - len(smaller)) / len(larger)


def label_distance(predicted, true):
    """Mean over the true dimensions of the mean over their annotated sub-dimensions; a missing one costs 1."""
    by_dimension = []
    for dimension, subs in true["labels"].items():
        said = predicted["labels"].get(dimension, {})
        apart = [
            tag_distance((dimension, sub), said[sub], tags) if said.get(sub) else 1.0 for sub, tags in subs.items()
        ]
        by_dimension.append(sum(apart) / len(apart))
    return sum(by_dimension) / len(by_dimension)


def iou(a, b):
    overlap = max(0.0, min(a["end"], b["end"]) - max(a["start"], b["start"]))
    union = a["end"] - a["start"] + b["end"] - b["start"] - overlap
    return overlap / union if union else float(a["start"] == b["start"])


def best_total(predicted, true):
    """The largest sum of IoU and label similarity over all pairings of min(N_pred, N_true) segments."""
    few, many = sorted((predicted, true), key=len)
    swap = few is true
    worth = [[iou(f, m) + 1 - (label_distance(m, f) if swap else label_distance(f, m)) for m in many] for f in few]
    return max(sum(worth[i][j] for i, j in enumerate(p)) for p in permutations(range(len(many)), len(few)))


@st.composite
def items(draw):
    """A task, a truth of 1-3 segments and an answer of 1-4, with tags left out, repeated and made up."""
    task = draw(st.sampled_from(GROUNDING))
    time = st.integers(0, 40).map(lambda t: t / 4)

    def segment(made_up, least):
        start, end = sorted((draw(time), draw(time)))
        labels = {}
        for dimension, sub in task.labels:
            spec = TAXONOMY.sub_dimension(dimension, sub)
            known = st.sampled_from([*spec.labels, *made_up])
            most = 3 if spec.cardinality == "many" else 1
            tags = draw(st.lists(known, min_size=least, max_size=most, unique=not made_up))
            labels.setdefault(dimension, {})[sub] = tags
        return {"start": start, "end": end, "labels": labels}

    truth = [segment((), 1) for _ in range(draw(st.integers(1, 3)))]
    answer = [segment(("bogus", "junk"), 0) for _ in range(draw(st.integers(1, 4)))]
    return task.id, answer, truth


@given(items())
@settings(max_examples=150, deadline=None)
def test_iou_and_label_are_those_of_the_best_pairing(item):
    task, answer, truth = item
    components = score(task, json.dumps(answer), json.dumps(truth)).components
    best = best_total(answer, truth) / max(len(answer), len(truth))
    assert components["iou"] + components["label"] == pytest.approx(best, abs=1e-9)


@given(items())
@settings(max_examples=50, deadline=None)
def test_gold_is_exactly_1(item):
    task, _, truth = item
    assert score(task, json.dumps(truth), json.dumps(truth)).value == 1.0
