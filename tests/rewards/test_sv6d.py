"""Eq. 5-10, each against values worked out by hand."""

import numpy as np
import pytest
from sv6d.rewards.config import Lambdas
from sv6d.rewards.segments import Times, iou_matrix, match
from sv6d.rewards.sv6d import align_loss, blend, cost_matrix, matched_loss, reg_loss, struct_loss, sv6d_loss
from sv6d.schema.answer import Segment


def iou(predicted, true):
    times = [Times.of([Segment(*s, {}) for s in spans]) for spans in (predicted, true)]
    return iou_matrix(*times).tolist()


def test_iou():
    assert iou([(0, 4)], [(2, 6)]) == [[2 / 6]]  # overlap 2-4, union 0-6
    assert iou([(0, 4)], [(1, 3)]) == [[2 / 4]]
    assert iou([(0, 1)], [(1, 2)]) == [[0.0]]
    assert iou([(0, 1), (0, 2)], [(0, 2), (5, 6)]) == [[0.5, 0.0], [1.0, 0.0]]


def test_instants_overlap_when_they_are_the_same():
    assert iou([(3, 3)], [(3, 3), (4, 4)]) == [[1.0, 0.0]]
    assert iou([(3, 3)], [(2, 4)]) == [[0.0]]


def test_huge_times_stay_in_range():
    assert iou([(0, 1e308)], [(0, 1e308), (1e308, 1.7e308)]) == [[1.0, 0.0]]


def test_eq_6_cost():
    cost = cost_matrix(np.array([[0.25]]), np.array([[0.5]]), alpha=0.75)
    assert cost.tolist() == [[0.75 * 0.75 + 0.25 * 0.5]]


def test_eq_7_takes_the_cheapest_pairing_not_the_greedy_one():
    # greedy takes (0, 0) at 0.1 and is left with (1, 1) at 1.0; the best is 0.2 + 0.3
    rows, columns = match(np.array([[0.1, 0.2], [0.3, 1.0]]))
    assert list(zip(rows, columns, strict=True)) == [(0, 1), (1, 0)]


def test_eq_7_pairs_as_many_as_the_smaller_side_has():
    rows, columns = match(np.array([[0.5, 0.1, 0.9]]))
    assert (rows.tolist(), columns.tolist()) == ([0], [1])


def test_reading_2_one_shot_of_ten():
    # one perfect shot of ten: 1 - 1/10
    assert matched_loss(1.0, n_pred=1, n_true=10) == pytest.approx(0.9)


def test_eq_8_as_printed_one_shot_of_ten():
    # mean 1 - IoU is 0, penalty beta * 9/10
    assert align_loss(1.0, n_pred=1, n_true=10, beta=0.5) == pytest.approx(0.45)
    assert align_loss(1.5, n_pred=2, n_true=2, beta=0.5) == pytest.approx(0.25)


def test_eq_9_as_printed():
    # two pairs at distance 0.25 and 0.5: mean 0.375
    assert struct_loss(0.75 + 0.5, n_pred=2, n_true=3) == pytest.approx(0.375)


def test_eq_10():
    assert reg_loss(1.0, 0.0, 0.25, Lambdas(prof=0.5, comp=0.3, form=0.2)) == pytest.approx(0.5 + 0.05)


def test_eq_5():
    assert sv6d_loss(0.1, 0.2, 0.3) == pytest.approx(0.6)


def test_reading_4_empty_sides():
    assert matched_loss(0.0, 0, 0) == align_loss(0.0, 0, 0, 0.5) == struct_loss(0.0, 0, 0) == 0.0
    for sides in ((0, 3), (3, 0)):
        assert matched_loss(0.0, *sides) == struct_loss(0.0, *sides) == 1.0
        assert align_loss(0.0, *sides, beta=0.5) == 1.5


@pytest.mark.parametrize("weights", [(0.2, 0.4, 0.4), (0.1, 0.7, 0.2), (1 / 3, 1 / 3, 1 / 3)])
def test_full_marks_blend_to_exactly_one(weights):
    assert blend((weight, 1.0) for weight in weights) == 1.0
