"""Entropy that is gone and a policy that fell apart, over all tasks and in one, whatever the scale of the rewards."""

import pytest
from sv6d.reports.diagnosis import diagnose
from told_run import told_run

TASKS = ("subject", "shot_framing", "ocr_regular", "visual_reasoning")


def seen(run, *levels):
    """(rule, task) of the findings of these levels."""
    return {(f.rule, f.task) for f in diagnose(run) if f.level in (levels or ("alarm", "warning"))}


def falls(t):
    return 1.2 - 1.19 * t


@pytest.fixture
def told(tmp_path):
    return lambda tasks, **more: told_run(tmp_path / "run", {task: tasks.get(task, {}) for task in TASKS}, **more)


def test_entropy_collapse(told):
    run = told({task: {"entropy": falls} for task in TASKS})
    (found,) = [f for f in diagnose(run) if f.level == "alarm"]
    # mean of the first five steps of 1.2 - 1.19 t: 1.2 - 1.19 * .1; of the last five, t = 26/30 ... 1: 1.2 - 1.19 * 28/30
    assert found.rule == "entropy_collapse" and "entropy 1.081 -> 0.089 nats" in found.evidence
    assert found.steps == (26, 30) and "clip_ratio_high" in found.advice
    assert {("entropy_collapse", task) for task in TASKS} == seen(run, "warning")


def test_entropy_of_one_task_that_collapses_among_others_is_a_warning(told):
    """Over all four tasks entropy falls to (3 * .73 + .09) / 4 = .57, which says nothing."""
    assert seen(told({"subject": {"entropy": falls}})) == {("entropy_collapse", "subject")}
    assert seen(told({"subject": {"entropy": falls}}), "alarm") == set()


def test_entropy_that_was_gone_from_the_start_is_a_warning(told):
    run = told({task: {"entropy": lambda t: 0.04} for task in TASKS})
    assert seen(run, "alarm") == set() and seen(run) == {("entropy_collapse", task) for task in (None, *TASKS)}


def hill(t):
    """From .3 up to .7 in the middle and down to .02."""
    return 0.3 + 0.8 * t if t < 0.5 else max(0.02, 1.5 - 1.6 * t)


SCALES = {"0 to 1": (1.0, 0.0), "-1 to 1": (2.0, -1.0), "below 0": (1.0, -1.0)}


@pytest.mark.parametrize(("times", "plus"), SCALES.values(), ids=SCALES)
def test_the_policy_falls_apart(told, times, plus):
    run = told({task: {"score": lambda t: times * hill(t) + plus} for task in TASKS})
    assert ("policy_collapse", None) in seen(run, "alarm")


def test_what_was_gained_and_lost_is_said(told):
    """Means of five steps, less 1: .38 at first (t = 1/30 ... 5/30), .657 at best (12/30 ... 16/30), .047 at last."""
    run = told({task: {"score": lambda t: hill(t) - 1.0} for task in TASKS}, noise=0.0)
    (found,) = [f for f in diagnose(run) if f.rule == "policy_collapse"]
    assert found.evidence == (
        "mean reward -0.620 at first, -0.343 at its best, -0.953 now: of 0.277 gained 0.611 are lost "
        "(alarm above 50% of the gain and above 0.1)"
    )


@pytest.mark.parametrize("reward", [lambda t: -0.8 + 1.2 * t, lambda t: -1.0, lambda t: 0.0, lambda t: -0.1 + 0.2 * t])
def test_a_reward_that_is_negative_or_zero_is_no_collapse(told, reward):
    """Rewards of -1 and 1, as in DAPO: the mean of a run that learns begins below 0 and crosses it."""
    run = told({task: {"score": reward} for task in TASKS})
    assert "policy_collapse" not in {rule for rule, _ in seen(run)}


def test_a_fall_within_the_noise_is_no_collapse(told):
    """Steps scatter by .35 around .5: the best five of them are above the last five, by chance."""
    run = told({task: {"score": lambda t: 0.5 + 0.35 * (-1) ** round(30 * t)} for task in TASKS})
    assert "policy_collapse" not in {rule for rule, _ in seen(run)}
