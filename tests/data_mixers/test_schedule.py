"""The schedule: Tijdeman's bound on every prefix, exact periods, random access, weights taken as they are meant."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sv6d.data_mixers import Draw, Schedule, WeightError
from sv6d.data_mixers.schedules.chairman import earliest_deadline_first, period_jobs
from sv6d.data_mixers.schedules.weights import bound

TASKS = [f"task{i}" for i in range(64)]
SKEWED = [0.20, 0.15, 0.12, 0.10, 0.10, 0.08, 0.07, 0.06, 0.05, 0.03, 0.02, 0.01, 0.01]

integer_weights = st.lists(st.integers(1, 60), min_size=1, max_size=16)


def schedule_of(weights, **options):
    return Schedule(dict(zip(TASKS, weights, strict=False)), **options)


def prefix_errors(order, weights):
    """Brute force: |count_i(t) - w_i t| for every prefix t and task i, in exact fractions."""
    total, counts = sum(weights), [0] * len(weights)
    for t, task in enumerate(order, start=1):
        counts[task] += 1
        yield from (abs(count - Fraction(weight * t, total)) for count, weight in zip(counts, weights, strict=True))


def test_two_tasks_two_to_one():
    # w = (2/3, 1/3), bound 1/2: a a b would leave a at 2 - 4/3 = 2/3 after two draws; a b a never passes 1/3.
    schedule = schedule_of([2, 1])
    assert schedule.take(0, 6).tolist() == [0, 1, 0, 0, 1, 0]
    assert schedule.certificate.bound == Fraction(1, 2)
    assert schedule.certificate.prefix_error == Fraction(1, 3)


def test_one_task_is_always_drawn():
    schedule = schedule_of([0.3])
    assert schedule.take(0, 3).tolist() == [0, 0, 0]
    assert (schedule.period, schedule.certificate.bound, schedule.certificate.prefix_error) == (1, 0, 0)
    assert schedule.draw(7) == Draw(task=0, number=7)


@settings(max_examples=100, deadline=None)
@given(integer_weights)
def test_every_prefix_keeps_the_bound(weights):
    schedule = schedule_of(weights)
    worst = max(prefix_errors(schedule.take(0, 2 * schedule.period).tolist(), weights))
    assert worst == schedule.certificate.prefix_error <= schedule.certificate.bound


@settings(max_examples=50, deadline=None)
@given(integer_weights, st.integers(0, 300), st.integers(1, 300))
def test_every_window_keeps_twice_the_bound(weights, start, length):
    schedule = schedule_of(weights)
    counts = np.bincount(schedule.take(start, start + length), minlength=len(weights))
    shares = [Fraction(weight * length, sum(weights)) for weight in weights]
    assert all(
        abs(int(count) - share) <= 2 * schedule.certificate.bound for count, share in zip(counts, shares, strict=True)
    )


@settings(max_examples=50, deadline=None)
@given(integer_weights, st.integers(0, 10_000))
def test_counts_are_exact_after_every_period_from_anywhere(weights, start):
    schedule = schedule_of(weights)
    window = schedule.take(start, start + schedule.period)
    assert np.bincount(window, minlength=len(weights)).tolist() == schedule.counts.tolist()
    assert [Fraction(int(c), schedule.period) for c in schedule.counts] == [Fraction(w, sum(weights)) for w in weights]


@settings(max_examples=50, deadline=None)
@given(integer_weights, st.integers(0, 5_000))
def test_a_position_tells_its_draw_without_history(weights, position):
    schedule = schedule_of(weights)
    earlier = schedule.take(0, position + 1).tolist()
    assert schedule.draw(position) == (earlier[-1], earlier[:-1].count(earlier[-1]))


def least_prefix_error(counts):
    """Brute force: the smallest error that the prefixes of any order of one period can keep."""
    total = sum(counts)

    def fits(drawn, width):
        t = sum(drawn)
        if any(abs(done * total - count * t) > width for done, count in zip(drawn, counts, strict=True)):
            return False
        following = (
            tuple(done + (i == task) for i, done in enumerate(drawn))
            for task in range(len(counts))
            if drawn[task] < counts[task]
        )
        return t == total or any(fits(after, width) for after in following)

    return Fraction(next(width for width in range(total) if fits((0,) * len(counts), width)), total)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=5).filter(lambda counts: sum(counts) <= 14))
def test_no_order_of_a_short_period_has_a_smaller_prefix_error(counts):
    schedule = schedule_of(counts)
    assert schedule.certificate.prefix_error == least_prefix_error(schedule.counts.tolist())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 8).map(lambda power: 2**power - 1), min_size=2, max_size=12))
def test_the_bound_is_kept_where_weights_differ_most(weights):
    # Heavy tasks have windows of a draw or two: here draws in the order of their windows' middles need mending.
    certificate = schedule_of(weights).certificate
    assert certificate.prefix_error <= certificate.bound


@pytest.mark.parametrize("weights", [[1, 1, 18], [34, 1, 1, 1, 8, 39], [37, 2, 20, 3, 17, 2]])
def test_where_no_two_draws_can_change_places_a_stretch_is_placed_anew(weights):
    # [1, 1, 18]: both rare tasks want the middle of the period, between draws of a task that leaves out one in ten.
    worst = max(prefix_errors(schedule_of(weights).take(0, sum(weights)).tolist(), weights))
    assert worst <= bound(len(weights))


@settings(max_examples=30, deadline=None)
@given(integer_weights.filter(lambda weights: len(weights) > 1))
def test_earliest_deadline_first_fits_every_draw_as_tijdeman_proved(weights):
    counts = schedule_of(weights).counts
    reach = np.full(len(counts), bound(len(counts)) * int(counts.sum()) // 1)
    jobs = period_jobs(counts, -reach, reach)
    order, placed = earliest_deadline_first(jobs)
    assert placed == len(jobs.task)
    assert max(prefix_errors(jobs.task[order].tolist(), weights)) <= bound(len(counts))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.01, 1.0), min_size=33, max_size=64))
def test_many_tasks_with_real_weights_keep_the_bound(weights):
    schedule = schedule_of(weights, max_period=5_000)
    assert schedule.certificate.prefix_error <= schedule.certificate.bound


def test_thirteen_equal_tasks_fill_every_window_of_390_with_30_each():
    order = schedule_of([1] * 13).take(0, 4 * 390)
    for start in range(3 * 390):
        assert np.bincount(order[start : start + 390], minlength=13).tolist() == [30] * 13


def test_no_drift_far_out():
    schedule = schedule_of(SKEWED)
    far = 10**15
    assert np.array_equal(schedule.take(far * 100, far * 100 + 100), schedule.take(0, 100))
    # 20 draws of task 0 in each of 10^15 periods came before.
    assert schedule.draw(far * 100 + int(np.argmax(schedule.take(0, 100) == 0))).number == 20 * far


@settings(max_examples=50, deadline=None)
@given(integer_weights, st.lists(st.integers(0, 10**9), min_size=1, max_size=30))
def test_any_positions_at_once(weights, positions):
    schedule = schedule_of(weights)
    assert schedule.at(np.array(positions)).tolist() == [schedule.draw(position).task for position in positions]


@settings(max_examples=50, deadline=None)
@given(integer_weights, st.integers(0, 5_000))
def test_a_draw_is_found_by_its_task_and_number(weights, position):
    schedule = schedule_of(weights)
    task, number = schedule.draw(position)
    assert schedule.position_of(schedule.tasks[task], number) == position
    assert schedule.drawn(position).tolist() == np.bincount(schedule.take(0, position), minlength=len(weights)).tolist()


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 0), (5, 17), (0, 100), (95, 105), (250, 999), (10**12 + 3, 10**12 + 500)]
)
def test_slices_across_periods(start, stop):
    schedule = schedule_of(SKEWED)
    assert schedule.take(start, stop).tolist() == schedule.at(np.arange(start, stop)).tolist()


def test_decimals_are_read_as_written():
    schedule = schedule_of(SKEWED)
    assert schedule.counts.tolist() == [20, 15, 12, 10, 10, 8, 7, 6, 5, 3, 2, 1, 1]
    assert schedule.rounding_error == 0


def test_weights_with_a_common_factor_have_a_short_period():
    assert schedule_of([390, 390, 780]).counts.tolist() == [1, 1, 2]


def test_rounded_weights_report_their_error():
    # A third of 100 draws is 33.33: shares .33 .33 .34 by largest remainder (ties to the first) are off by at most 2/300.
    schedule = schedule_of([1 / 3, 1 / 3, 1 / 3 + 1e-9], max_period=100)
    assert sorted(schedule.counts.tolist()) == [33, 33, 34]
    assert schedule.rounding_error == pytest.approx(2 / 300, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.05, 1.0), min_size=2, max_size=12))
def test_rounding_moves_no_share_by_more_than_one_draw_a_period(weights):
    schedule = schedule_of(weights, max_period=1_000)
    assert schedule.period <= 1_000
    realised = schedule.counts / schedule.period
    error = np.abs(realised - np.array(weights) / sum(weights)).max()
    assert schedule.rounding_error == pytest.approx(error, abs=1e-12)
    assert error <= 1 / 1_000


@pytest.mark.parametrize("weight", [0, -1, -0.5, float("nan"), float("inf"), "much", None, True])
def test_a_weight_that_is_no_positive_number_is_refused_by_name(weight):
    with pytest.raises(WeightError, match=r"'ocr_regular'.*finite number above 0"):
        Schedule({"subject": 1, "ocr_regular": weight})


def test_a_weight_too_small_for_the_period_is_refused_not_dropped():
    with pytest.raises(WeightError, match=r"'rare'.*less than one draw in 1,000.*larger max_period"):
        Schedule({"rare": 1e-9, "common": 1}, max_period=1_000)


def test_no_weights_are_refused():
    with pytest.raises(WeightError, match="at least one"):
        Schedule({})


def test_more_tasks_than_indices_are_refused():
    with pytest.raises(WeightError, match="32,768 tasks are more than"):
        Schedule(dict.fromkeys(range(32_768), 1))


def test_a_period_that_overflows_is_refused():
    with pytest.raises(WeightError, match="64 bits"):
        Schedule({"a": 3 * 10**9, "b": 3 * 10**9 + 1}, max_period=10**10)


def test_positions_below_zero_are_refused():
    schedule = schedule_of([1, 2])
    with pytest.raises(ValueError, match="start <= stop"):
        schedule.take(3, 2)
    with pytest.raises(ValueError, match="at least 0"):
        schedule.draw(-1)
    with pytest.raises(ValueError, match="at least 0; -4"):
        schedule.at(np.array([3, -4]))
    with pytest.raises(TypeError, match="integers"):
        schedule.at(np.array([0.5]))


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match=r"'greedy'.*'prefix' or 'window'"):
        schedule_of([1, 2], mode="greedy")


@pytest.mark.parametrize(
    ("weights", "mode", "digest"),
    [
        ([1] * 13, "prefix", "eb459c5f91c7f43e33e44b2023a2c6c6"),
        (SKEWED, "prefix", "42e5f489354b8ff2b907fbcc53099625"),
        (SKEWED, "window", "b46f3cc52df1ef3f3c22387f6b986910"),
        ([3, 3, 1, 1, 3, 3, 4, 1, 3, 1, 3, 3, 1], "prefix", "b83da92e58eabf56c0514ecbf09f5bcf"),
        ([i * i % 97 + 1 for i in range(64)], "prefix", "753161d049fb696c891a1b6d104eaeb2"),
        ([1 / (i + 1) for i in range(20)], "prefix", "d780916997ba388cfd43b455e2e5f105"),
    ],
)
def test_sequences_are_the_same_in_every_version(weights, mode, digest):
    # A run that resumes with another version of this package must see the same order of tasks.
    assert schedule_of(weights, mode=mode, max_period=10_000).digest == digest
