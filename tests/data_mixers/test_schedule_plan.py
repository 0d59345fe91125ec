"""Weights that change along a run: planned changes keep the bound of every prefix, unplanned ones repay what is owed."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sv6d.data_mixers import Plan, Schedule, Segment, WeightError
from sv6d.data_mixers.schedules.packing import Step, pack, unpack

SKEWED = [20, 15, 12, 10, 10, 8, 7, 6, 5, 3, 2, 1, 1]
NAMES = "abcdefgh"


def named(weights):
    return {f"task{i}": weight for i, weight in enumerate(weights)}


def share_of_draw(segments, task, t):
    """Brute force: the share of draw t (the mean over it, in a ramp) from segments in the order of their starts."""
    share = before = Fraction(0)
    for segment in segments:
        if segment.start > t:
            break
        after = Fraction(segment.weights.get(task, 0), sum(segment.weights.values()))
        ramping = segment.ramp and t < segment.start + segment.ramp
        way = Fraction(2 * (t - segment.start) + 1, 2 * segment.ramp) if ramping else 1
        share, before = before + (after - before) * way, after
    return share


@st.composite
def planned(draw):
    n = draw(st.integers(2, 6))
    segments = [Segment(0, dict(zip(NAMES, draw(st.lists(st.integers(1, 12), min_size=n, max_size=n)), strict=False)))]
    for _ in range(draw(st.integers(1, 3))):
        weights = draw(st.lists(st.integers(0, 12), min_size=n, max_size=n).filter(any))
        start = segments[-1].start + segments[-1].ramp + draw(st.integers(0, 150))
        segments.append(
            Segment(start, dict(zip(NAMES, weights, strict=False)), draw(st.sampled_from([0, 0, 1, 40, 97])))
        )
    return segments


@settings(max_examples=40, deadline=None)
@given(planned())
@example([Segment(0, {"a": 1, "b": 1}), Segment(0, {"a": 0, "b": 1}, 40)])
def test_planned_changes_keep_the_bound_of_what_was_asked_so_far(segments):
    plan = Plan(segments)
    end = segments[-1].start + segments[-1].ramp + 150
    asked, drawn, worst = [Fraction(0)] * len(plan.tasks), [0] * len(plan.tasks), Fraction(0)
    for t, index in enumerate(plan.take(0, end).tolist()):
        assert plan.draw(t) == (index, drawn[index])
        asked = [so_far + share_of_draw(segments, task, t) for so_far, task in zip(asked, plan.tasks, strict=True)]
        drawn[index] += 1
        worst = max(worst, *(abs(count - due) for count, due in zip(drawn, asked, strict=True)))
    assert plan.entitled(end) == asked
    assert plan.drawn(end).tolist() == drawn
    assert worst <= plan.certificate.prefix_error <= plan.certificate.bound


@settings(max_examples=40, deadline=None)
@given(planned(), st.lists(st.integers(0, 600), min_size=1, max_size=20))
def test_a_plan_has_random_access(segments, positions):
    plan = Plan(segments)
    order = plan.take(0, 601)
    assert plan.at(np.array(positions)).tolist() == order[positions].tolist()
    for position in positions:
        task, number = plan.draw(position)
        assert task == order[position]
        assert plan.position_of(plan.tasks[task], number) == position
        assert plan.take(position, 601).tolist() == order[position:].tolist()


@st.composite
def changed(draw):
    """A plan after a few changes that nobody planned, and the plan before the last of them."""
    n = draw(st.integers(2, 6))
    weights = st.lists(st.integers(1, 30), min_size=n, max_size=n).map(
        lambda values: dict(zip(NAMES, values, strict=False))
    )
    plan, position = Plan(draw(weights)), 0
    for _ in range(draw(st.integers(1, 4))):
        former, position = plan, position + draw(st.integers(0, 200))
        weighted = [task for task, count in plan.segments[-1].weights.items() if count]
        if draw(st.booleans()) and len(weighted) > 1:
            plan = plan.leave(position, draw(st.sampled_from(weighted)))
        else:
            plan = plan.change(position, draw(weights), draw(st.sampled_from([0, 0, 60])))
    return former, plan, position


@settings(max_examples=60, deadline=None)
@given(changed())
def test_unplanned_changes_leave_the_past_and_carry_the_debt(case):
    former, plan, position = case
    assert plan.take(0, position).tolist() == former.take(0, position).tolist()
    assert plan.certificate.prefix_error <= 2 * plan.certificate.bound
    end = position + 400
    errors = [abs(int(d) - e) for d, e in zip(plan.drawn(end), plan.entitled(end), strict=True)]
    assert max(errors) <= plan.certificate.bound  # whatever was late is repaid
    assert sum(plan.entitled(end)) == end


@settings(max_examples=40, deadline=None)
@given(changed())
def test_a_plan_is_restored_from_its_identity(case):
    _, plan, position = case
    restored = Plan.restore(plan.tasks, json.loads(json.dumps(plan.identity)))
    assert restored.take(0, position + 500).tolist() == plan.take(0, position + 500).tolist()
    assert restored.identity == plan.identity
    assert restored.change(position, {"a": 1, "b": 2}).digest == plan.change(position, {"a": 1, "b": 2}).digest


def test_without_changes_it_is_the_schedule():
    for mode in ("prefix", "window"):
        plan, schedule = Plan(named(SKEWED), mode), Schedule(named(SKEWED), mode)
        assert plan.take(0, 500).tolist() == schedule.take(0, 500).tolist()
        assert plan.certificate.prefix_error == schedule.certificate.prefix_error


def test_whole_periods_before_a_planned_change_are_the_schedules():
    plan = Plan([Segment(0, named(SKEWED)), Segment(1_050, named([1] * 13))], mode="window")
    assert plan.take(0, 1_000).tolist() == Schedule(named(SKEWED), "window").take(0, 1_000).tolist()


def test_a_plan_that_is_changed_stays_as_it_was():
    plan = Plan({"a": 1, "b": 2})
    certificate, order = plan.certificate, plan.take(0, 100).tolist()
    plan.change(10, {"a": 0.123456789, "b": 0.3})
    assert (plan.certificate, plan.rounding_error, plan.take(0, 100).tolist()) == (certificate, 0, order)


def test_what_was_planned_and_did_not_come_is_not_measured():
    # a a a b asks for shares 3/4 and 1/4 from 10 on; the change at 10 keeps both at 1/2, where each prefix errs by 1/2 at most.
    plan = Plan([Segment(0, {"a": 1, "b": 1}), Segment(10, {"a": 3, "b": 1})]).change(10, {"a": 1, "b": 1})
    assert plan.take(0, 40).tolist() == [0, 1] * 20
    assert plan.certificate.prefix_error == Fraction(1, 2)


def test_a_change_in_the_middle_of_a_round_repays_who_was_not_drawn():
    # Five tasks in turn; after a, b, c nothing is asked anew: d and e were owed 3/5, a, b and c are 2/5 ahead.
    plan = Plan(dict.fromkeys("abcde", 1)).change(3, dict.fromkeys("abcde", 2))
    assert plan.take(0, 5).tolist() == [0, 1, 2, 3, 4]
    assert plan.entitled(3) == [Fraction(3, 5)] * 5


def test_a_task_that_leaves_has_its_debt_shared_by_the_others():
    # After a, b, c of five: e is owed 3/5 when it leaves, so a, b, c and d are each entitled to 3/5 + 3/20.
    plan = Plan(dict.fromkeys("abcde", 1)).leave(3, "e")
    assert plan.entitled(3) == [Fraction(3, 4)] * 4 + [0]
    assert 4 not in plan.take(3, 1_000).tolist()
    assert plan.position_of("e", 0) is None
    assert np.bincount(plan.take(0, 400), minlength=5).tolist() == [100, 100, 100, 100, 0]


def test_tasks_leave_one_after_the_other_as_their_rows_are_used_up():
    plan, rows = Plan(named(SKEWED)), 700
    for task in list(plan.tasks)[:-1]:
        plan = plan.leave(plan.position_of(task, rows - 1) + 1, task)
    end = plan.position_of("task11", rows - 1) + 1
    assert plan.drawn(end).tolist()[:12] == [rows] * 12
    assert set(plan.take(end, end + 50).tolist()) == {12}
    assert len(json.dumps(plan.identity)) < 700


def test_a_task_that_leaves_also_leaves_later_segments_and_the_rest_of_a_ramp():
    segments = [
        Segment(0, {"a": 1, "b": 1, "c": 2}),
        Segment(100, {"a": 2, "b": 1, "c": 1}, 100),
        Segment(400, {"b": 1, "c": 1}),
    ]
    plan = Plan(segments).leave(150, "c")
    assert 2 not in plan.take(150, 1_000).tolist()
    # At 150 the ramp is half way: a has 3/8, b 1/4; it still ends at 200 with 2 : 1. From 400 on b is alone.
    assert plan.segments[-3:] == [
        Segment(150, {"a": 3, "b": 2}),
        Segment(150, {"a": 2, "b": 1}, 50),
        Segment(400, {"b": 1}),
    ]
    assert set(plan.take(400, 500).tolist()) == {1}


def test_a_far_away_change_costs_no_more_than_a_near_one():
    far = Plan(
        [Segment(0, named(SKEWED)), Segment(10**12 + 7, named([1] * 13)), Segment(2 * 10**12, named(SKEWED), 390)]
    )
    assert far.certificate.holds
    assert far.draw(3 * 10**12).number > 0
    assert sum(len(piece.cycle.order) for piece in far._pieces) < 5_000


def test_real_weights_and_long_ramps_stay_exact():
    random = np.random.default_rng(0)
    real = [dict(zip(NAMES, (random.random(8) + 0.05).tolist(), strict=True)) for _ in range(3)]
    plan = Plan([Segment(0, real[0]), Segment(500, real[1], 2_000), Segment(2_500, real[2])], max_period=5_000)
    plan = plan.change(3_001, real[0]).change(3_777, real[1])
    assert 0 < plan.rounding_error < Fraction(1, 5_000)
    assert plan.certificate.prefix_error <= Fraction(21, 20) * plan.certificate.bound


def test_64_real_weights_fit_into_a_checkpoints_state():
    random = np.random.default_rng(0)
    plan = Plan(named((random.random(64) + 0.02).tolist())).change(390, named((random.random(64) + 0.02).tolist()))
    assert len(json.dumps(plan.identity)) < 700


def test_more_changes_than_fit_are_refused_with_the_mend():
    random, plan = np.random.default_rng(0), Plan(named([1] * 13), max_period=1_000)
    for position in range(0, 3_000, 100):
        plan = plan.change(position, named((random.random(13) + 0.1).tolist()))
    with pytest.raises(WeightError, match="begin a new plan"):
        _ = plan.identity


@pytest.mark.parametrize(
    ("segments", "error"),
    [
        ([], "first segment starts at 0"),
        ([Segment(10, {"a": 1})], "first segment starts at 0"),
        (
            [Segment(0, {"a": 1}), Segment(10, {"a": 1, "b": 1}, 50), Segment(40, {"a": 1})],
            "at 10 with a ramp of 50.*overlaps",
        ),
        ([Segment(0, {"a": 1}), Segment(50, {"a": 1, "b": 1}), Segment(40, {"a": 1})], "at 50 .*overlaps"),
        ([Segment(0, {"a": 1}), Segment(5, {"a": -1})], "'a' is -1"),
        ([Segment(0, {"a": 1}), Segment(5, {"a": 0})], "no task has a weight"),
        ([Segment(0, {"a": 1}), Segment("1e4", {"a": 1})], "the start of a segment is '1e4'; it is a whole number"),
        ([Segment(0, {"a": 1}), Segment(10.0, {"a": 1})], "the start of a segment is 10.0"),
        ([Segment(0, {"a": 1}), Segment(10, {"a": 1}, -5)], "the ramp of a segment is -5"),
        ([Segment(0, ["a"])], r"the weights of the segment at 0 are \['a'\]; give each task its weight"),
    ],
)
def test_segments_that_make_no_plan_are_refused(segments, error):
    with pytest.raises(WeightError, match=error):
        Plan(segments)


def test_changes_that_cannot_be_are_refused():
    plan = Plan({"a": 1, "b": 1}).change(100, {"a": 1, "b": 2})
    with pytest.raises(ValueError, match="change at 99 would come before the one that was made at 100"):
        plan.change(99, {"a": 1})
    with pytest.raises(ValueError, match="change at 99 would come before"):
        plan.leave(99, "a")
    with pytest.raises(WeightError, match=r"no task 'c'.*weight 0 at the start"):
        plan.change(200, {"c": 1})
    with pytest.raises(WeightError, match="'b' is the last task"):
        plan.leave(100, "a").leave(150, "b")


chapters = st.integers(1, 5).flatmap(
    lambda n: st.lists(
        st.tuples(
            st.integers(0, 10**12),
            st.lists(
                st.builds(Step, st.integers(0, 10**6), st.tuples(*[st.integers(0, 10**5)] * n), st.integers(0, 10**6)),
                min_size=1,
            ).map(tuple),
        ),
        min_size=1,
        max_size=4,
    )
)


@settings(max_examples=50, deadline=None)
@given(chapters)
def test_segments_are_packed_without_loss(saved):
    assert unpack(pack(saved), len(saved[0][1][0].counts)) == saved


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_text_that_is_no_packed_plan_is_refused(text):
    with pytest.raises(ValueError, match="holds no segments of 3 tasks"):
        unpack(text, 3)


def test_another_plans_identity_is_refused():
    identity = Plan({"a": 1, "b": 2}).identity
    with pytest.raises(ValueError, match="other tasks"):
        Plan.restore(["b", "a"], identity)
    with pytest.raises(ValueError, match="holds no segments"):
        Plan.restore(["a", "b"], identity | {"segments": "nonsense"})
    with pytest.raises(ValueError, match="edited"):
        Plan.restore(["a", "b"], identity | {"segments": Plan({"a": 1, "b": 3}).identity["segments"]})


def test_plans_are_the_same_in_every_version():
    # A run that resumes with another version of this package must see the same order of tasks.
    plan = Plan([Segment(0, named(SKEWED)), Segment(1_000, named([1] * 13), 390), Segment(5_000, named(SKEWED[::-1]))])
    assert plan.digest == "03d55801879edbe96a78bde78126e7e4"
    assert plan.leave(777, "task3").change(2_000, named([1, 2] * 6 + [3])).digest == "d887e0dc1d6e7bcf5cbe7a1f5daca10a"
