"""Groups that teach nothing give way to other rows of their task, on verl's own buffer and a real TransferQueue: tasks a, b, c
with two groups each in a step, each of two samples, which `end(..., scores=(x, y))` scores."""

from collections import Counter

import pytest
from balanced_run import ids
from sv6d.verl_plugin.balance import filter_metrics

pytestmark = pytest.mark.slow  # Ray and a TransferQueue: ten seconds to start


def filtering(run, batches=1, metric="reward", **sampler):
    now = run(filter_groups={"enable": True, "metric": metric, "max_num_gen_batches": batches}, **sampler)
    now.trainer._add_prompts_to_generate(12)
    return now


def filtered(now):
    return filter_metrics(*now.buffer.filter.report())


def test_a_group_of_equal_scores_gives_way_to_another_row_of_its_task(run):
    now = filtering(run)
    now.end(*ids(0, 1, 2, 4, 5), scores=(0, 1))
    now.end(*ids(3), scores=(1, 1))

    def its_refill():
        assert "a:refill0" in now.sent
        now.end("a:refill0", scores=(0.2, 0.3))
        now.end(*ids(6))
        now.now = 100
        yield

    assert Counter(name[0] for name in now.step(its_refill())) == {"a": 2, "b": 2, "c": 2}
    assert "a:3" not in now.sent  # not rolled out again: it would teach nothing again
    assert filtered(now) == {"sv6d/filtered_groups": 1, "sv6d/unfiltered_groups": 0, "mixture/a/filtered": 1}
    assert now.buffer.quota.report().refilled == {"a": 1}


def test_a_solved_task_is_replaced_up_to_its_limit_and_then_trains_as_it_is(run, caplog):
    """b always earns 1. A step requests two groups of it, so with batches=2 four may go for one step."""
    now = filtering(run, batches=2)
    taken = []

    def b_is_solved():
        while True:
            now.end(*[name for name in now.sent if name.startswith("b")], scores=(1, 1))
            now.end(*list(now.sent), scores=(0, 1))
            yield

    for _ in range(4):
        assert Counter(name[0] for name in now.step(b_is_solved())) == {"a": 2, "b": 2, "c": 2}
        metrics = filtered(now)
        assert metrics["sv6d/filtered_groups"] == metrics.get("mixture/b/filtered", 0)
        taken.append((metrics["sv6d/filtered_groups"], metrics["sv6d/unfiltered_groups"]))
        now.trainer._add_batch_to_generate()
    # the four of b that ran ahead go, and four refills go through: two train, two wait for the second step, and so on
    assert taken == [(4, 4), (0, 0), (4, 4), (0, 0)]
    assert now.buffer.quota.debt["b"] == 0
    assert caplog.text.count("groups of 'b' that taught nothing were replaced") == 1


def test_a_group_that_was_let_through_is_not_taken_out_for_a_later_step(run):
    now = filtering(run, batches=1)
    now.end(*ids(1, 4, 7, 10), scores=(0, 0))  # two of b may go, two go through
    now.end(*ids(0, 2, 3, 5), scores=(0, 1))
    assert now.step() == ids(0, 10, 2, 3, 5, 7)
    assert filtered(now)["sv6d/unfiltered_groups"] == 2


def test_a_component_can_decide_instead_of_the_reward(run):
    now = filtering(run, metric="iou")
    now.end(*ids(0), scores=(0, 1), components=[{"iou": 0.5}, {"iou": 0.5}])
    now.end(*ids(1, 2, 3, 4, 5, 6), scores=(1, 1), components=[{"iou": 0.5}, {"iou": 0.6}])
    now.now = 100
    assert now.step() == ids(1, 2, 3, 4, 5, 6)


def test_a_task_that_teaches_nothing_and_is_slow_is_owed_its_groups(run):
    """Its refills hang: others stand in after wait_for_task (100 s here), and the debt is repaid."""
    now = filtering(run)
    now.end(*ids(0, 1, 3, 4, 6, 7, 9, 10), scores=(0, 1))
    now.end(*ids(2, 5), scores=(0, 0))

    def refills_hang():
        for now.now in (99, 100):
            yield

    assert set(now.step(refills_hang())) == set(ids(0, 1, 3, 4, 6, 7))
    assert now.buffer.quota.debt["c"] == 2


def test_a_wrong_setting_ends_a_run_before_it_starts(run):
    with pytest.raises(ValueError, match=r"max_num_gen_batches is 0: .* solved would be rolled out for ever"):
        filtering(run, batches=0)


def test_off_nothing_is_filtered_nor_logged(run):
    now = run()
    now.trainer._add_prompts_to_generate(6)
    now.end(*ids(0, 1, 2, 3, 4, 5), scores=(1, 1))
    assert now.step() == ids(0, 1, 2, 3, 4, 5) and now.buffer.filter is None
