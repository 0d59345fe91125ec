"""Which groups a step trains: its tasks' shares whatever finishes first, the oldest of a task first, debts repaid."""

import json
from collections import Counter
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sv6d.data_mixers.quota import Patience, Quota

PATIENCE = Patience(oldest=10, task=100)


def quota(stream: str, **options) -> Quota:
    """Groups a0, b0, a1, ... in flight, one for each letter (task) of the stream."""
    made = Quota(**{"patience": PATIENCE, **options})
    send(made, stream)
    return made


def send(quota: Quota, stream: str) -> None:
    made, groups = getattr(quota, "made", Counter()), {}
    for task in stream:
        groups[f"{task}{made[task]}"] = task
        made[task] += 1
    quota.made = made
    quota.dispatch(groups)


def step(quota: Quota, finished: str, size: int, now: float = 0.0) -> list[str] | None:
    chosen = quota.choose(set(finished.split()), size, now)
    if chosen is not None:
        quota.train(chosen, now)
    return chosen and sorted(chosen)


# What a step takes


def test_when_everything_is_finished_a_step_trains_the_oldest_groups():
    run = quota("abcabc")
    assert step(run, "a0 b0 c0 a1 b1 c1", 3) == ["a0", "b0", "c0"]
    assert step(run, "a1 b1 c1", 3) == ["a1", "b1", "c1"]


def test_a_step_trains_the_tasks_that_the_stream_dispatched_for_it():
    """Not equal shares, but the stream's: two of a in the first step, one in the second."""
    run = quota("aababb")
    finished = "a0 a1 a2 b0 b1 b2"
    assert step(run, finished, 3) == ["a0", "a1", "b0"]
    assert step(run, finished, 3) == ["a2", "b1", "b2"]


def test_too_few_finished_groups_are_no_step_however_long_it_takes():
    assert step(quota("abc"), "a0 b0", 3, now=1e9) is None


def test_groups_that_finish_early_wait_for_their_turn():
    """Verl would train a1 and a2 now, in the place of b0 and c0."""
    run = quota("abcabcabc")
    assert step(run, "a0 a1 a2", 3) is None
    assert step(run, "a0 a1 a2 b0 c0", 3, now=1) == ["a0", "b0", "c0"]


# Waiting


def test_a_step_waits_for_the_oldest_of_a_task_then_takes_newer_ones():
    run = quota("abab")
    assert step(run, "b0 a1 b1", 2, now=0) is None  # a1 could stand in for a0 from now on
    assert step(run, "b0 a1 b1", 2, now=9.9) is None
    assert step(run, "b0 a1 b1", 2, now=10) == ["a1", "b0"]
    assert run.debt == Counter()
    assert step(run, "a0 b1", 2, now=11) == ["a0", "b1"]  # passed over, not lost


def test_a_step_may_be_a_group_of_a_task_off_after_the_shorter_wait():
    """Two of each are due; a third of a is finished and one b is missing."""
    run = quota("ab" * 4)
    finished = "a0 a1 a2 b0"
    assert step(run, finished, 4, now=0) is None
    assert step(run, finished, 4, now=10) == ["a0", "a1", "a2", "b0"]
    assert run.debt == {"a": -1, "b": 1}
    assert step(run, "a3 b1 b2 b3", 4, now=10) == ["a3", "b1", "b2", "b3"]  # repaid at once
    assert set(run.debt.values()) == {0}


def test_what_stands_in_is_spread_so_that_every_task_stays_within_a_group():
    """12 of a and two of b, c, d, e are due; one of b and of c is missing. Two more of a come first in the stream, but a step of
    one more of a and one more of d is within a group of everything, so it need not wait for the longer while."""
    run = quota(("a" * 12 + "bcdebcde") * 2)
    finished = " ".join(
        ["b0 c0", *(f"{task}{i}" for task, most in (("a", 24), ("d", 4), ("e", 4)) for i in range(most))]
    )
    assert step(run, finished, 20, now=0) is None
    chosen = step(run, finished, 20, now=10)
    assert Counter(group[0] for group in chosen) == {"a": 13, "b": 1, "c": 1, "d": 3, "e": 2}
    assert +run.debt == {"b": 1, "c": 1}


def test_a_step_waits_for_a_task_then_trains_without_it():
    run = quota("ababab")
    assert step(run, "a0 a1 a2", 2, now=50) is None  # a1 could stand in for b0 from now on
    assert step(run, "a0 a1 a2", 2, now=149) is None
    assert step(run, "a0 a1 a2", 2, now=150) == ["a0", "a1"]
    assert run.debt == {"a": -1, "b": 1}


def test_waiting_begins_anew_with_every_step():
    run = quota("abab")
    step(run, "a0 a1", 2, now=0)
    assert step(run, "a0 a1", 2, now=100) == ["a0", "a1"]
    send(run, "abab")
    assert step(run, "a2 a3", 2, now=101) is None
    assert step(run, "a2 a3", 2, now=201) == ["a2", "a3"]


def test_patience_may_be_endless():
    run = quota("abab", patience=Patience(float("inf"), float("inf")))
    assert step(run, "a0 a1 b1", 2) is None
    assert step(run, "a0 a1 b1", 2, now=1e12) is None


def test_negative_patience_is_refused():
    with pytest.raises(ValueError, match=r"Patience\(oldest=-1, task=100\), spares=1.0: all are 0 or more"):
        Quota(Patience(-1, 100))


# Debts


def test_a_debt_is_repaid_as_soon_as_its_task_is_there():
    run = quota("ababab", patience=Patience(0, 0))
    assert step(run, "a0 a1", 2) == ["a0", "a1"]
    assert run.debt == {"a": -1, "b": 1}
    assert step(run, "a2 b0 b1 b2", 2) == ["b0", "b1"]  # b for now and b owed; a was trained ahead
    assert +run.debt == Counter() and sum(run.debt.values()) == 0


def test_others_stand_in_by_their_shares():
    """4 groups of each task a step; d misses: a, b and c get 4 more between them, as the stream has them."""
    run = quota("abcd" * 12, patience=Patience(0, 0))
    chosen = step(run, " ".join(f"{task}{i}" for task in "abc" for i in range(12)), 16)
    assert Counter(group[0] for group in chosen) == {"a": 6, "b": 5, "c": 5}


def test_a_large_debt_is_repaid_over_several_steps_which_stay_mixed():
    """10 groups of each of 4 tasks a step; d misses three steps. It is then trained twice its share until repaid."""
    run, finished = quota("abcd" * 60, patience=Patience(0, 0)), {f"{task}{i}" for task in "abc" for i in range(60)}
    for _ in range(3):
        run.train(run.choose(finished, 40, 0))
    assert run.debt["d"] == 30
    finished |= {f"d{i}" for i in range(60)}
    counts = []
    for _ in range(3):
        chosen = run.choose(finished, 40, 0)
        counts.append(Counter(group[0] for group in chosen)["d"])
        run.train(chosen)
    assert counts == [20, 20, 20]
    assert set(run.debt.values()) == {0}


def test_a_task_that_was_trained_far_ahead_keeps_half_of_its_share():
    run, finished = quota("ab" * 40, patience=Patience(0, 0)), {f"a{i}" for i in range(40)}
    run.train(run.choose(finished, 20, 0))  # 20 of a, none of b
    chosen = run.choose(finished | {f"b{i}" for i in range(40)}, 20, 0)
    assert Counter(group[0] for group in chosen) == {"a": 5, "b": 15}  # repaying all at once would be {"b": 20}


def test_when_nothing_else_is_in_flight_a_debt_may_take_the_whole_step():
    run = quota("aabb", patience=Patience(0, 0))
    assert step(run, "a0 a1", 2) == ["a0", "a1"]  # as requested
    assert step(run, "b0 b1", 2) == ["b0", "b1"]


def test_a_task_that_never_hands_in_anything_does_not_stop_the_others():
    """12 groups a step of four tasks, a batch ahead; d hangs for 30 steps, then all of it is there and repaid."""
    run, names = Quota(Patience(0, 0)), count()

    def dispatch(number):
        run.dispatch({f"{'abcd'[i % 4]}{i}": "abcd"[i % 4] for _, i in zip(range(number), names, strict=False)})

    dispatch(12)
    for _ in range(30):
        dispatch(run.next_batch(12))
        run.train(run.choose({group for group in run.groups if group[0] != "d"}, 12, 0))
    assert run.debt["d"] == 30 * 3 and len(run.stream) == 12 + run.stretch
    for _ in range(40):
        dispatch(run.next_batch(12))
        run.train(run.choose(set(run.groups), 12, 0))
    assert not any(run.debt.values())
    assert run.next_batch(12) == 12 and run.stretch == 0 and len(run.stream) == 12


def test_a_family_that_hangs_does_not_stop_the_others():
    """6 of 13 tasks hang, a batch ahead: of what is sent out in their place 6 of 13 hang as well."""
    run, names = Quota(Patience(0, 0)), count()

    def dispatch(number):
        run.dispatch({f"g{i}": f"task{i % 13}" for _, i in zip(range(number), names, strict=False)})

    dispatch(390)
    for _ in range(20):
        dispatch(run.next_batch(390))
        chosen = run.choose({group for group, task in run.groups.items() if int(task[4:]) >= 6}, 390, 0)
        run.train(chosen)
    assert run.debt["task0"] == 20 * 30


def test_more_prompts_are_sent_out_when_nothing_comes_back_and_no_step_can_go():
    """b and c hang; of a batch ahead a has 4 groups, and a step takes 6: of 6 more prompts 2 are of a."""
    run = quota("abc" * 4, patience=Patience(0, 100))
    came = {"a0", "a1", "a2", "a3"}
    assert run.stalled(set(), 6, 500) == 0  # all are still at work
    assert [run.stalled(came, 6, now) for now in (1000, 1099)] == [0, 0]
    assert run.stalled(came, 6, 1100) == 6 == run.stretch
    assert [run.stalled(came, 6, now) for now in (1101, 1199, 1200)] == [0, 0, 6]
    run.dispatch({"a4": "a", "b4": "b", "c4": "c", "a5": "a", "b5": "b", "c5": "c"})
    came |= {"a4", "a5"}
    assert run.choose(came, 6, 1300) is None
    assert run.stalled(came, 6, 1500) == 0  # a step can go, and waits no longer than for any task
    run.train(run.choose(came, 6, 1400), 1400)
    assert run.debt == {"a": -4, "b": 2, "c": 2}


# Losses


def test_a_lost_group_is_replaced_behind_what_is_in_flight():
    run = quota("abab")
    assert run.lose(["a0"]) == ["a"]
    run.refill({"new": "a"})
    assert run.choose({"a1", "b0"}, 2, 0) == ["a1", "b0"]  # a1 is now the oldest of its task


def test_refills_are_numbered_by_task():
    run = quota("ab")
    assert [run.refill_number(task) for task in "aba"] == [0, 0, 1]


def test_a_task_that_loses_many_has_spares():
    """100 owed. Nine in ten are lost: after 1, the rate over the last hundred is .01, and 101 are to be in flight."""
    run = quota("a" * 100)
    assert run.loss == {} and len(run.lose(["a0"])) == 2
    run.refill({"x": "a", "y": "a"})
    for i in range(1, 50):
        run.refill({f"{i}/{j}": "a" for j, _ in enumerate(run.lose([f"a{i}"]))})
    assert run.loss["a"] == pytest.approx(1 - 0.99**50)  # .395
    assert len(run.groups) == round(100 / (1 - run.loss["a"])) == 165
    run.train(run.choose(set(run.groups), 60, 0))
    assert run.loss["a"] == pytest.approx((1 - 0.99**50) * 0.99**60)
    assert len(run.groups) == 105 and run.owed == {"a": 40}
    assert run.lose([next(iter(run.groups))]) == []  # there are spares enough


def test_spares_are_bounded_and_may_be_none():
    for spares, flying in ((0.5, 15), (0, 10)):
        run = quota("a" * 10, spares=spares)
        run.loss["a"] = 0.9
        run.refill({f"x{i}": "a" for i, _ in enumerate(run.lose(["a0"]))})
        assert len(run.groups) == flying


def test_a_task_of_which_everything_is_lost_keeps_its_spares():
    run = quota("aa")
    for i in range(5000):
        run.refill({f"{i}/{j}": task for j, task in enumerate(run.lose([next(iter(run.groups))]))})
    assert run.loss["a"] == pytest.approx(1) and len(run.groups) == 4


def test_spares_make_no_step_that_nobody_is_owed():
    run = quota("aa")
    run.loss["a"] = 0.5
    run.refill({f"x{i}": task for i, task in enumerate(run.lose(["a0"]))})
    assert step(run, "a1 x0", 2) == ["a1", "x0"]
    assert run.groups == {"x1": "a", "x2": "a"} and step(run, "x1 x2", 2) is None
    send(run, "aa")
    assert step(run, "x1 x2", 2) == ["x1", "x2"]


def test_a_repeated_group_keeps_its_place():
    run = quota("abab")
    run.repeat("a0")
    assert step(run, "b0 a1", 2) is None
    assert step(run, "a0 b0 a1", 2) == ["a0", "b0"]


# What is told


def test_the_report_counts_since_the_last_one():
    run = quota("abab")
    run.refill(dict.fromkeys(["new"], *run.lose(["b0"])))
    run.repeat("a0")
    step(run, "a0 a1", 2, now=0)
    step(run, "a0 a1", 2, now=100)
    tally = run.report()
    assert (tally.requested, tally.trained) == ({"a": 1, "b": 1}, {"a": 2})
    assert (tally.refilled, tally.repeated) == ({"b": 1}, {"a": 1})
    assert (tally.skipped, tally.waited) == (1, 100)
    assert run.report().requested == {}


# Resuming


def test_a_restored_quota_goes_on_as_the_saved_one():
    run = quota("aabbabab", patience=Patience(0, 0))
    run.refill_number("b")
    step(run, "a0 a1 a2", 3)
    state = json.loads(json.dumps(run.state()))
    again = Quota(Patience(0, 0))
    again.restore(run.groups, state)
    assert (again.stream, again.debt, again.refill_number("b")) == (run.stream, run.debt, 1)
    everything = set(run.groups)
    assert again.choose(everything, 3, 0) == run.choose(everything, 3, 0)


def test_without_a_saved_state_nobody_is_owed_anything():
    run = Quota()
    run.restore({"x": "a", "y": "b"}, None)
    assert (run.stream, run.debt, run.choose({"x", "y"}, 2, 0)) == (["a", "b"], Counter(), ["x", "y"])


def test_a_state_of_other_groups_is_told_and_leaves_no_debt(caplog):
    run = quota("abab")
    step(run, "a0 a1", 2, now=0), step(run, "a0 a1", 2, now=100)
    state = run.state()
    again = Quota()
    again.restore({"x": "a", "y": "a"}, state)
    assert "the checkpoint owes {'b': 2} and holds {'a': 2}: debts start from zero" in caplog.text
    assert (again.stream, again.debt) == (["a", "a"], Counter())


def test_the_state_is_small():
    """Full scale: 13 tasks x 30 a step, two steps in flight."""
    run = Quota()
    run.dispatch({f"{task}/{i}": f"task_number_{task}" for i in range(60) for task in range(13)})
    assert len(json.dumps(run.state())) < 4096


# Whatever happens


FOREVER = float("inf")


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    weights=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    ahead=st.integers(0, 3),
    patience=st.sampled_from([Patience(0, 0), Patience(1, 3), Patience(0, FOREVER), Patience(FOREVER, FOREVER)]),
    spares=st.sampled_from([0.0, 1.0]),
)
def test_invariants_under_any_order_of_finishing_and_losses(data, weights, ahead, patience, spares):
    """Debts sum to zero; no group trains twice; who is owed is in flight; quotas are met whenever they can be."""
    pattern = [f"task{task}" for task, weight in enumerate(weights) for _ in range(weight)]
    size = data.draw(st.integers(1, 2 * len(pattern)))
    run, trained, lost, names, now = Quota(patience, spares), set(), set(), count(), 0.0

    def dispatch(number):
        run.dispatch({f"g{i}": pattern[i % len(pattern)] for _, i in zip(range(number), names, strict=False)})

    dispatch(ahead * size)
    for _ in range(8):
        dispatch(run.next_batch(size))
        finished, requested, before = set(), Counter(run.stream[:size]), Counter(run.debt)
        due = Counter(train_of(everything_finished(run), size))
        chosen = None
        while chosen is None:
            now += data.draw(st.integers(0, 3))
            flying = sorted(set(run.groups) - finished)
            gone = data.draw(st.sets(st.sampled_from(flying), max_size=2)) if flying else set()
            run.refill({f"{task}r{run.refill_number(task)}": task for task in run.lose(gone)})
            lost |= gone
            flying = sorted(set(run.groups) - finished)
            finished |= data.draw(st.sets(st.sampled_from(flying), min_size=1)) if flying else set()
            chosen = run.choose(finished, size, now)
        got, ready = Counter(run.groups[g] for g in chosen), Counter(run.groups[g] for g in finished)
        run.train(chosen, now)

        assert len(chosen) == len(set(chosen)) == size
        assert set(chosen) <= finished and not set(chosen) & (trained | lost)
        trained |= set(chosen)
        assert sum(run.debt.values()) == 0
        flying = Counter(run.groups.values())
        assert all(0 <= owed <= flying[task] for task, owed in run.owed.items())
        assert spares or flying == +run.owed
        if all(ready[task] >= number for task, number in due.items()):
            assert got == due  # exactly, whenever it is there
        assert all(got[task] >= min(number, ready[task]) for task, number in due.items())
        if not any(before.values()):
            assert due == requested
        if patience.task == FOREVER:
            assert all(abs(got[task] - due[task]) <= 1 for task in got | due)
        if patience.oldest == FOREVER:
            assert got == due == requested


def everything_finished(run: Quota) -> Quota:
    """A copy of the books that waits for nothing."""
    copy = Quota(Patience(0, 0))
    copy.restore(run.groups, run.state())
    return copy


def train_of(run: Quota, size: int) -> list[str]:
    return [run.groups[group] for group in run.choose(set(run.groups), size, 0)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=6),
    st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=4),
    st.integers(1, 3),
)
def test_debts_vanish_once_every_task_is_there(weights, missing, rounds):
    """Some tasks are absent for some steps. Afterwards every debt falls to zero, one group a step or faster."""
    pattern = [f"task{task}" for task, weight in enumerate(weights) for _ in range(weight)]
    size, names = len(pattern) * rounds, count()
    run = Quota(Patience(0, 0))

    def dispatch(number):
        run.dispatch({f"g{i}": pattern[i % len(pattern)] for _, i in zip(range(number), names, strict=False)})

    dispatch(6 * size)
    for absent in missing:
        dispatch(run.next_batch(size))
        finished = {group for group, task in run.groups.items() if task not in {f"task{i}" for i in absent}}
        chosen = run.choose(finished, size, 0)
        if chosen is not None:
            run.train(chosen)
    worst = sum(abs(debt) for debt in run.debt.values())
    for _ in range(worst + 1):
        dispatch(run.next_batch(size))
        run.train(run.choose(set(run.groups), size, 0))
    assert not any(run.debt.values())
