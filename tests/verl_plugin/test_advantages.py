"""Advantages beyond Table 3 by hand: EMA-GRPO's (arXiv 2512.03043, eq. 9-11), and VL-Cogito's weights and length reward
(arXiv 2507.22607). Rewards are those of small groups; `longest` is 100 tokens."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sv6d.verl_plugin.beyond.advantages import Rollouts, TaskMoments, advantages, combined, difficulty_weights
from sv6d.verl_plugin.beyond.settings import Beyond, Difficulty, Length, TaskEma

EMA = Beyond(task_ema=TaskEma(decay=0.75, clip=5.0))


def rollouts(groups, tasks, rewards, lengths=None, scores=None):
    lengths, scores = lengths or [10] * len(rewards), rewards if scores is None else scores
    return Rollouts(list(groups), list(tasks), *(np.array(values, float) for values in (rewards, lengths, scores)))


def computed(step, beyond=Beyond(), moments=None, by_std=True):  # noqa: B008 (immutable)
    return advantages(step, beyond, moments, by_std=by_std, longest=100)


def values(*arguments, **options):
    return computed(*arguments, **options).values.tolist()


def test_with_nothing_on_these_are_grpos():
    # a: mean 1/2, deviation (n - 1) of 0, 1 is sqrt(1/2); b: all equal
    step = rollouts("aabb", "xxxx", [0, 1, 0.3, 0.3])
    assert values(step) == pytest.approx([-sqrt(0.5), sqrt(0.5), 0, 0], abs=1e-5)
    assert values(step, by_std=False) == pytest.approx([-0.5, 0.5, 0, 0])


# EMA-GRPO


def test_a_task_is_divided_by_its_own_deviation_the_same_for_all_its_groups():
    # x: rewards 0 1 1 1: m1 = 3/4, m2 = 3/4, deviation sqrt(3/4 - 9/16) = sqrt(3)/4
    # y: 0.8 0.9: m1 = 0.85, m2 = 0.725, deviation sqrt(0.725 - 0.7225) = 0.05
    moments = TaskMoments(0.75)
    found = computed(rollouts("aabbcc", "xxxxyy", [0, 1, 1, 1, 0.8, 0.9]), EMA, moments)
    assert found.deviations == pytest.approx({"x": sqrt(3) / 4, "y": 0.05})
    assert found.values == pytest.approx([-2 / sqrt(3), 2 / sqrt(3), 0, 0, -1, 1], abs=1e-4)


def test_moments_move_by_one_minus_decay():
    moments = TaskMoments(0.75)
    computed(rollouts("aa", "xx", [0, 1]), EMA, moments)  # the first step sets them: 1/2, 1/2
    assert moments.state() == {"x": [0.5, 0.5]}
    found = computed(rollouts("bb", "xx", [0, 0.4]), EMA, moments)
    # mean 0.2, mean of squares 0.08: m1 = 0.75 * 0.5 + 0.25 * 0.2 = 0.425, m2 = 0.75 * 0.5 + 0.25 * 0.08 = 0.395
    assert moments.state() == {"x": pytest.approx([0.425, 0.395])}
    deviation = sqrt(0.395 - 0.425**2)  # this step is in it already
    assert found.values == pytest.approx([-0.2 / deviation, 0.2 / deviation], abs=1e-4)


def test_a_task_that_is_not_in_a_step_keeps_its_moments():
    moments = TaskMoments(0.75, {"x": [0.5, 0.5]})
    found = computed(rollouts("aa", "yy", [0, 1]), EMA, moments)
    assert moments.state()["x"] == [0.5, 0.5] and set(found.deviations) == {"y"}


def test_advantages_are_clipped():
    # the task's deviation is all but 0, then one group differs: 0.5 / deviation would be over 5
    moments = TaskMoments(0.99, {"x": [0.5, 0.25]})
    found = computed(rollouts("aa", "xx", [0, 1]), EMA._replace(task_ema=TaskEma(0.99, 5.0)), moments)
    assert found.deviations["x"] == pytest.approx(0.05)  # 0.01 * 0.5 + 0.99 * 0.25 - 0.25
    assert found.values.tolist() == [-5.0, 5.0]


def test_where_all_rewards_of_a_task_were_equal_advantages_are_0():
    assert values(rollouts("aa", "xx", [0.3, 0.3]), EMA, TaskMoments(0.9)) == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize(
    "beyond",
    [
        EMA,
        Beyond(difficulty=Difficulty("hard", 0.25)),
        Beyond(length=Length(0.5, 0.5, 50)),
        EMA._replace(length=Length(1, 0.5, 9)),
    ],
)
def test_a_masked_sample_alone_in_its_group_changes_nothing_and_has_no_advantage(beyond):
    def run(step):
        return computed(step, beyond, TaskMoments(0.75) if beyond.task_ema else None)

    with_it = run(rollouts(["a", "masked", "a"], "xxx", [0.2, 0.0, 1.0], [5, 70, 9]))
    without = run(rollouts("aa", "xx", [0.2, 1.0], [5, 9]))
    assert with_it.values.tolist() == [without.values[0], 0.0, without.values[1]]
    assert with_it.deviations == without.deviations


def test_moments_survive_a_checkpoint():
    moments = TaskMoments(0.75)
    computed(rollouts("aabb", "xxyy", [0, 1, 0.2, 0.4]), EMA, moments)
    again = TaskMoments(0.75, moments.state())
    step = rollouts("ccdd", "xxyy", [0.1, 0.9, 0.3, 0.5])
    assert values(step, EMA, again) == values(step, EMA, moments)
    assert again.state() == moments.state()


# Difficulty


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("easy", [0.0, sqrt(0.5), 1.0, 1.0, 1.0]),
        ("medium", [0.0, sqrt(0.5), 1.0, sqrt(0.5), 0.0]),
        ("hard", [0.25, 1.0, 1.0, sqrt(0.5), 0.0]),
    ],
)
def test_weights_by_what_a_group_earns(stage, expected):
    """sin(pi / 4) = sin(3 pi / 4) = sqrt(1/2)."""
    found = difficulty_weights(np.array([0, 0.25, 0.5, 0.75, 1]), Difficulty(stage, 0.25))
    assert found == pytest.approx(expected, abs=1e-12)


def test_advantages_are_multiplied_by_their_groups_weight():
    # a earns 1/4, b 3/4: in the hard stage b counts sqrt(1/2) as much
    step = rollouts("aaaabbbb", "x" * 8, [0, 0, 0, 1, 0, 1, 1, 1])
    plain, hard = computed(step), computed(step, Beyond(difficulty=Difficulty("hard", 0.25)))
    assert hard.weights == pytest.approx([1] * 4 + [sqrt(0.5)] * 4)
    assert hard.values == pytest.approx(plain.values * hard.weights)
    assert plain.values[3] == pytest.approx(0.75 / 0.5, abs=1e-4)  # deviation of 0 0 0 1 with n - 1: 1/2


@pytest.mark.parametrize("stage", ["easy", "medium", "hard"])
def test_no_weight_turns_an_advantage_round(stage):
    """sin(pi x) is negative below 0 and above 1, where scores of one's own may lie."""
    assert (difficulty_weights(np.array([-0.5, 1.5]), Difficulty(stage, 0.25)) >= 0).all()


def test_a_kl_penalty_is_in_the_advantages_and_changes_neither_difficulty_nor_what_is_right():
    # a penalty of 0.7 and 1.1 on scores of 0 and 1: rewards -0.7 and -0.1, mean -0.4; half of the group is right: weight 1
    step = rollouts("aa", "xx", [-0.7, -0.1], [20, 40], scores=[0, 1])
    found = computed(step, Beyond(difficulty=Difficulty("medium", 0.25)), by_std=False)
    assert found.weights.tolist() == [1, 1] and found.values == pytest.approx([-0.3, 0.3])
    # the one with 40 tokens is right, so 20 tokens are half of what they should be
    assert computed(step, Beyond(length=Length(0.5, 0.5, 40))).lengths == pytest.approx([-0.5, 0], abs=1e-12)


# Length

LENGTH = Beyond(length=Length(weight=0.5, correct=0.5, target=40))


def length_rewards(rewards, lengths):
    return computed(rollouts("a" * len(rewards), "x" * len(rewards), rewards, lengths), LENGTH).lengths.tolist()


def test_wrong_answers_are_to_be_as_long_as_the_right_ones_of_their_group():
    # right: 30 and 50 tokens, 40 on average. Wrong: 0, 20 (half: cos(pi/2) = 0), 40, 60, 80 and 95 tokens
    found = length_rewards([1, 0.5, 0, 0, 0, 0.4, 0, 0], [30, 50, 0, 20, 40, 60, 80, 95])
    assert found == pytest.approx([0, 0, -1, -0.5, 0, -0.5, -1, -1], abs=1e-12)


def test_where_none_is_right_an_answer_is_to_reach_the_target_and_to_end():
    assert length_rewards([0, 0.4, 0, 0, 0], [0, 20, 40, 99, 100]) == pytest.approx([-1, -0.5, 0, 0, -1], abs=1e-12)


def test_the_length_reward_joins_the_reward_within_0_and_1_and_does_what_adding_it_would():
    # weight 1/2: (1 + 0.5) / 1.5 = 1, (0 + 0.5 * (1 - 0.5)) / 1.5 = 1/6
    joined = combined(np.array([1.0, 0.0, 0.0]), np.array([0.0, -0.5, -1.0]), 0.5)
    assert joined == pytest.approx([1, 1 / 6, 0])
    # 40 tokens are right, so 20 are a length reward of -1/2: GRPO of 1 and -0.25 is the same as of 1 and 1/6
    step = rollouts("aa", "xx", [1, 0], [40, 20])
    assert values(step, LENGTH) == pytest.approx(values(rollouts("aa", "xx", [1, -0.25])), abs=1e-5)


def test_equally_wrong_answers_learn_from_their_length_alone():
    assert values(rollouts("aa", "xx", [0, 0], [20, 40])) == [0, 0]
    shorter, longer = values(rollouts("aa", "xx", [0, 0], [20, 40]), LENGTH)
    assert shorter == pytest.approx(-sqrt(0.5), abs=1e-4) and longer == pytest.approx(sqrt(0.5), abs=1e-4)


# Always

STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1), st.integers(0, 100)), min_size=1, max_size=12).map(
    lambda rows: rollouts(
        [r[0] for r in rows],
        [{"a": "x", "b": "x", "c": "y"}[r[0]] for r in rows],
        [r[1] for r in rows],
        [r[2] for r in rows],
    )
)
ALL = Beyond(TaskEma(0.9, 5.0), Difficulty("hard", 0.25), Length(0.5, 0.5, 40))


@given(st.lists(STEPS, min_size=1, max_size=4))
def test_advantages_are_finite_bounded_and_of_mean_0_before_the_clip(steps):
    moments = TaskMoments(0.9)
    for step in steps:
        found = computed(step, ALL, moments)
        assert np.isfinite(found.values).all() and (np.abs(found.values) <= 5).all()
        assert ((found.lengths >= -1) & (found.lengths <= 0)).all() and (
            (found.weights >= 0) & (found.weights <= 1)
        ).all()
        wide = computed(step, ALL._replace(task_ema=TaskEma(0.9, 1e12)), TaskMoments(0.9))
        for group in set(step.groups):
            of_group = wide.values[np.array(step.groups) == group]
            assert abs(of_group.sum()) <= 1e-6 * max(1, np.abs(of_group).max())
