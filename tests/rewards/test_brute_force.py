"""Grounding against a slow scorer that tries every pairing of segments and of tags."""

import json
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sv6d.rewards import score
from sv6d.rewards.tag_sets import TrueSets, set_distance, set_distances, tag_states, true_set
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


def label_distance(predicted, true, weights):
    """Weighted mean over the true dimensions of the mean over their annotated sub-dimensions; a missing one costs 1."""
    total = 0.0
    for dimension, subs in true["labels"].items():
        said = predicted["labels"].get(dimension, {})
        apart = [
            tag_distance((dimension, sub), said[sub], tags) if said.get(sub) else 1.0 for sub, tags in subs.items()
        ]
        total += weights.get(dimension, 1.0) * sum(apart) / len(apart)
    return total / sum(weights.get(dimension, 1.0) for dimension in true["labels"])


def iou(a, b):
    overlap = max(0.0, min(a["end"], b["end"]) - max(a["start"], b["start"]))
    union = a["end"] - a["start"] + b["end"] - b["start"] - overlap
    return overlap / union if union else float(a["start"] == b["start"])


def best_total(predicted, true, alpha, gate, weights):
    """The largest sum of alpha IoU + (1 - alpha) (1 - label distance) over all pairings of min(N_pred, N_true)."""

    def worth(p, t):
        overlap = iou(p, t)
        apart = 1.0 if gate and overlap == 0.0 else label_distance(p, t, weights)
        return alpha * overlap + (1 - alpha) * (1 - apart)

    few, many = sorted((predicted, true), key=len)
    table = [[worth(m, f) if few is true else worth(f, m) for m in many] for f in few]
    return max(sum(table[i][j] for i, j in enumerate(p)) for p in permutations(range(len(many)), len(few)))


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
            most = 4 if spec.cardinality == "many" else 1
            tags = draw(st.lists(known, min_size=least, max_size=most, unique=not made_up))
            labels.setdefault(dimension, {})[sub] = tags
        return {"start": start, "end": end, "labels": labels}

    truth = [segment((), 1) for _ in range(draw(st.integers(1, 3)))]
    answer = [segment(("bogus", "junk"), 0) for _ in range(draw(st.integers(1, 4)))]
    return task.id, answer, truth


@given(items(), st.floats(0, 1), st.booleans(), st.sampled_from([{}, {"camera_language": 3.0, "narrative": 0.5}]))
@settings(max_examples=100, deadline=None)
def test_iou_and_label_are_those_of_the_best_pairing(item, alpha, gate, weights):
    task, answer, truth = item
    config = {"alpha": alpha, "overlap_gate": gate, "dimension_weights": weights}
    components = score(task, json.dumps(answer), json.dumps(truth), config=config).components
    best = best_total(answer, truth, alpha, gate, weights) / max(len(answer), len(truth))
    assert alpha * components["iou"] + (1 - alpha) * components["label"] == pytest.approx(best, abs=1e-9)


SUBS = [sub for dimension in TAXONOMY.dimensions.values() for sub in dimension.sub_dimensions.values()]


@pytest.mark.parametrize("sub", SUBS, ids=lambda sub: sub.name)
def test_every_state_of_a_table_holds_its_distance(sub):
    states = tag_states(TAXONOMY, (sub.dimension, sub.name))
    pairs = combinations(sub.labels, 2) if sub.cardinality == "many" else ()
    said = [(), *((tag,) for tag in sub.labels), *pairs]
    assert sorted(states[tags] for tags in said) == list(range(1, states.count)), "state 0 stands for all other sets"
    for size in (1, 2, 3) if sub.cardinality == "many" else (1,):
        true = sub.labels[1 : 1 + size]
        distances = true_set(sub, true).distances
        for tags in said:
            expected = tag_distance((sub.dimension, sub.name), tags, true) if tags else 1.0
            assert distances[states[tags]] == pytest.approx(expected, abs=1e-12)


@given(st.data(), st.integers(0, 8), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_sets_of_any_size_pair_alike_with_permutations_and_with_the_solver(data, known, unknown):
    sub = TAXONOMY.sub_dimension("editing", "editing_effects")
    assume(known + unknown)

    def sets(low, high):
        drawn = data.draw(st.lists(st.sets(st.integers(0, 18), min_size=low, max_size=high), min_size=1, max_size=5))
        return [tuple(sorted(ids)) for ids in drawn]

    predicted = [(*range(-unknown, 0), *ids) for ids in sets(known, known)]
    true = sets(0, 9)
    together = set_distances(sub, predicted, TrueSets(true))
    one_by_one = [[set_distance(sub, ids, tags) for tags in true] for ids in predicted]
    assert together == pytest.approx(np.array(one_by_one), abs=1e-12)
