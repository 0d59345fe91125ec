"""The certificate: worst errors measured exactly, against brute force over every prefix and every window."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sv6d.data_mixers import Schedule
from sv6d.data_mixers.schedules.certificate import length_error, sequence_errors
from sv6d.data_mixers.schedules.peers import megatron_greedy, random_draws, round_robin

SKEWED = np.array([20, 15, 12, 10, 10, 8, 7, 6, 5, 3, 2, 1, 1])

weights_and_order = st.lists(st.integers(1, 9), min_size=1, max_size=5).flatmap(
    lambda weights: st.tuples(
        st.just(weights), st.lists(st.integers(0, len(weights) - 1), min_size=1, max_size=30), st.integers(1, 35)
    )
)


def discrepancies(order, counts):
    """Brute force: count_i(t) - w_i t for t = 0, 1, ..., a row a prefix."""
    total, rows = sum(counts), [[Fraction(0)] * len(counts)]
    for t in range(1, len(order) + 1):
        rows.append([Fraction(order[:t].count(i)) - Fraction(c * t, total) for i, c in enumerate(counts)])
    return rows


@settings(max_examples=150, deadline=None)
@given(weights_and_order)
def test_any_sequence_is_measured_exactly(case):
    counts, order, length = case
    rows = discrepancies(order, counts)
    prefix = max(abs(error) for row in rows for error in row)
    spans = [
        (abs(b - a), t - s)
        for t, later in enumerate(rows)
        for s, row in enumerate(rows[:t])
        for a, b in zip(row, later, strict=True)
    ]
    order, counts = np.array(order, np.int16), np.array(counts)
    assert sequence_errors(order, counts) == (prefix, max(error for error, _ in spans))
    assert length_error(order, counts, length) == max((error for error, span in spans if span == length), default=0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 80))
def test_one_period_tells_of_all_windows(weights, step):
    schedule = Schedule(dict(enumerate(weights)))
    certificate = schedule.certify(step)
    long = schedule.take(0, 3 * schedule.period + 2 * step)
    assert sequence_errors(long, schedule.counts) == (certificate.prefix_error, certificate.window_error)
    assert length_error(long, schedule.counts, step) == certificate.step_error


def test_the_certificate_of_two_to_one():
    # a b a: D_a runs 1/3, -1/3, 0 and D_b the other way; windows "aa" (2 of a, 4/3 due) and "b" (0 of a) err most, by 2/3.
    certificate = Schedule({"a": 2, "b": 1}).certificate
    assert certificate.prefix_error == Fraction(1, 3)
    assert certificate.bound == Fraction(1, 2)
    assert certificate.holds
    assert certificate.window_error == Fraction(2, 3)
    assert (certificate.step, certificate.step_error) == (390, 0)
    assert certificate.counts == {"a": 2, "b": 1}
    assert (certificate.period, certificate.rounding_error) == (3, 0)


def test_sequences_that_differ_have_other_hashes():
    digests = {Schedule(weights).digest for weights in ({"a": 2, "b": 1}, {"a": 1, "b": 2}, {"a": 3, "b": 1})}
    assert len(digests) == 3


def test_peers_on_the_skewed_weights():
    # Smooth round robin and Megatron's greedy have no bound of their own; these are the figures of the certificate's code.
    greedy = megatron_greedy(SKEWED, 1_000)
    assert sequence_errors(greedy, SKEWED)[1] == Fraction("1.6")
    assert length_error(greedy, SKEWED, 390) == Fraction("1.3")
    assert sequence_errors(round_robin(SKEWED), SKEWED) == (Fraction("0.8"), Fraction("1.6"))
    assert np.bincount(round_robin(SKEWED)).tolist() == SKEWED.tolist()


def test_random_draws_stray_as_the_root_of_their_number():
    # The standard deviation of a share of 0.2 after 10,000 draws is 40; the worst of 13 tasks and all prefixes is near 2 of it.
    assert 40 < sequence_errors(random_draws(SKEWED, 10_000), SKEWED)[0] < 200


def test_megatrons_first_draws():
    # Its error of draw 0 is measured as at draw 1: a leads with 2/3, then b with 1/3 - 0 against 2/3 - 1, and so on.
    assert megatron_greedy(np.array([2, 1]), 6).tolist() == [0, 1, 0, 0, 1, 0]


def test_tied_peers_are_deterministic():
    assert random_draws(SKEWED, 50, seed=3).tolist() == random_draws(SKEWED, 50, seed=3).tolist()


@pytest.mark.parametrize("length", [1, 13, 26, 390])
def test_thirteen_equal_tasks(length):
    # Whole rounds are exact; one draw holds 1 of a task that is due 1/13.
    error = Schedule(dict.fromkeys(range(13), 1)).certify(length).step_error
    assert error == (Fraction(12, 13) if length == 1 else 0)
