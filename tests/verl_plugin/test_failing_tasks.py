"""When the buffer ends a run whose rollouts of a task all fail; test_balance.py has the same on a TransferQueue."""

import pytest
from sv6d.verl_plugin.replay_buffer import MAX_FAILURES, BalancedReplayBuffer


def buffer():
    """Groups a0 and b0 to b999 in flight; nothing looks into a TransferQueue here."""
    made = BalancedReplayBuffer(
        "colocate_async", trainer_config={}, max_off_policy_threshold=None, max_off_policy_strategy="drop"
    )
    made.quota.dispatch({"a0": "a"} | {f"b{i}": "b" for i in range(1000)})
    return made


def look(made, failed, finished):
    """One look at the queue with these groups in it; the step is too large to go."""
    made._end_at_failures({failed})
    made._choose(None, set(finished), 1001, 0.0)


def test_a_group_that_finished_long_ago_does_not_hide_that_the_others_fail():
    """b0 waits for its step, which needs more of b: every b after it fails."""
    made = buffer()
    for i in range(1, MAX_FAILURES + 1):
        look(made, f"b{i}", ["a0", "b0"])
    # b0 was new at the first look, and ended what b1 had begun.
    look(made, "b998", ["a0", "b0"])
    with pytest.raises(RuntimeError, match=f"the last {MAX_FAILURES + 1} groups of 'b' failed and none finished"):
        look(made, "b999", ["a0", "b0"])


def test_every_group_that_finishes_begins_the_count_anew():
    made, finished = buffer(), []
    for i in range(0, 1000, 2):
        finished.append(f"b{i}")
        look(made, f"b{i + 1}", finished)
    assert not made._failures
