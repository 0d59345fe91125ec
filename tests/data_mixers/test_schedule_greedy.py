"""The rules that choose each draw without looking ahead: every draw as a plain reading of the rule has it."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sv6d.data_mixers.schedules.greedy import ONE, quota, round_robins
from sv6d.data_mixers.schedules.peers import round_robin
from sv6d.data_mixers.schedules.window_search import _range, _Search

COUNTS = st.lists(st.integers(1, 30), min_size=2, max_size=8).map(np.array)
SKEWED = np.array([20, 15, 12, 10, 10, 8, 7, 6, 5, 3, 2, 1, 1])


def quota_drawn_one_by_one(counts, offsets):
    period, drawn, order = int(counts.sum()), [0] * len(counts), []
    shares = [Fraction(int(count), period) for count in counts]
    for t in range(1, period + 1):
        below = [
            i for i, share in enumerate(shares) if drawn[i] < share * t
        ]  # one more does not exceed its upper quota
        order.append(min(below, key=lambda i: ((drawn[i] + Fraction(int(offsets[i]), ONE)) / shares[i] * ONE // 1, i)))
        drawn[order[-1]] += 1
    return order


@settings(max_examples=50, deadline=None)
@given(COUNTS, st.data())
def test_the_quota_method_draws_as_its_definition_says(counts, data):
    offsets = np.array(data.draw(st.lists(st.integers(0, ONE), min_size=len(counts), max_size=len(counts))))
    assert quota(counts, offsets).tolist() == quota_drawn_one_by_one(counts, offsets)


@settings(max_examples=50, deadline=None)
@given(COUNTS)
def test_jeffersons_divisors_keep_both_quotas(counts):
    # Balinski and Young: floor(w t) <= count <= ceil(w t) for every t.
    period = int(counts.sum())
    drawn = np.cumsum(np.eye(len(counts), dtype=int)[quota(counts, np.full(len(counts), ONE))], axis=0)
    fair = counts * np.arange(1, period + 1)[:, None]
    assert (drawn >= fair // period).all()
    assert (drawn <= -(-fair // period)).all()


@given(COUNTS)
def test_round_robin_without_credits_is_the_peers(counts):
    assert round_robins(counts, np.zeros((1, len(counts)), np.int64)).tolist() == [round_robin(counts).tolist()]


def test_credits_move_a_task_to_the_front():
    # Shares 1/2 and 1/2, in halves of a draw: with 1 more the second is drawn first, and pays 2; with 3 more twice.
    # The third trial has other counts in a period, so it does not repeat after one.
    assert round_robins(np.array([1, 1]), np.array([[0, 0], [0, 1], [0, 3]])).tolist() == [[0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("rule", "worst_window"), [(_Search.by_deadlines, 113), (_Search.by_credits, 110), (_Search.by_quotas, 140)]
)
def test_what_each_rule_finds(rule, worst_window):
    # In hundredths of a draw: plain round robin and the prefix schedule err by 160 on some window, no order by less than 99.
    found = rule(_Search(SKEWED))
    assert np.bincount(found.order).tolist() == SKEWED.tolist()
    assert found.range == _range(found.order, SKEWED) == worst_window
