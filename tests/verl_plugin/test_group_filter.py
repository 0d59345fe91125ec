"""Dynamic sampling within limits, step by step: a task's groups that teach nothing are taken out up to `batches` times its share."""

from sv6d.verl_plugin.beyond.group_filter import GroupFilter

TASK_OF = {"a1": "a", "a2": "a", "a3": "a", "a4": "a", "b1": "b"}


def test_the_oldest_are_taken_out_up_to_the_limit_and_the_others_go_through():
    # a has 2 of a step's groups: with batches=1 two of its groups may go
    assert GroupFilter(1).beyond(["a1", "a2", "a3", "b1"], TASK_OF, {"a": 2, "b": 1}) == {"a3"}
    assert GroupFilter(2).beyond(["a1", "a2", "a3", "b1"], TASK_OF, {"a": 2, "b": 1}) == set()


def test_what_was_taken_for_a_step_counts_until_it_is_complete():
    limits = GroupFilter(1)
    limits.take(["a", "a"])
    assert limits.beyond(["a3"], TASK_OF, {"a": 2}) == {"a3"}
    limits.next_step()
    assert limits.beyond(["a3", "a4"], TASK_OF, {"a": 2}) == set()


def test_a_task_that_the_step_does_not_request_may_lose_one():
    assert GroupFilter(1).beyond(["b1"], TASK_OF, {}) == set()
    assert GroupFilter(1).beyond(["a1", "a2"], TASK_OF, {}) == {"a2"}


def test_asking_twice_takes_nothing():
    limits = GroupFilter(1)
    for _ in range(2):
        assert limits.beyond(["a1", "a2"], TASK_OF, {"a": 1}) == {"a2"}


def test_reports_are_of_complete_steps_and_begin_anew(caplog):
    limits = GroupFilter(1)
    limits.take(["a", "b"])
    limits.next_step()
    limits.take(["a"])
    limits.let_through(["a"])
    limits.let_through(["a", "a"])
    assert limits.report() == ({"a": 1, "b": 1}, {"a": 3})
    assert limits.report() == ({}, {})
    assert caplog.text.count("1 groups of 'a' that taught nothing were replaced") == 1
