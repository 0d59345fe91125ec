"""Balanced steps end to end: verl's trainer, its buffer and its checkpoints as they are, on a real TransferQueue.

Only the models are missing: `Run` finishes, fails or holds back rollouts as each test says, where verl would sleep between
two looks at the queue. Time is the run's own clock.
"""

import random
from collections import Counter
from pathlib import Path

import pytest
from balanced_run import TASKS, ids
from sv6d.verl_plugin import replay_buffer
from sv6d.verl_plugin.balance import STATE, mixture_metrics

pytestmark = pytest.mark.slow  # Ray and a TransferQueue: ten seconds to start


def test_a_step_trains_the_oldest_of_each_task_whatever_finishes_first(run):
    now = run()
    now.trainer._add_prompts_to_generate(12)

    def newest_first():
        now.end(*ids(11, 10, 9, 8, 7, 6))  # a whole batch, two of each task: verl would train it
        yield
        now.end(*ids(5, 4, 3, 2, 1))
        yield
        now.end(*ids(0))
        yield

    assert now.step(newest_first()) == ids(0, 1, 2, 3, 4, 5)
    assert now.step() == ids(10, 11, 6, 7, 8, 9)


def test_after_a_while_newer_groups_of_the_task_stand_in_for_a_straggler(run):
    now = run()
    now.trainer._add_prompts_to_generate(12)
    now.end(*ids(1, 2, 3, 4, 5, 6))

    def time_passes():
        now.now = 9.9
        yield
        now.now = 10.0
        yield

    assert now.step(time_passes()) == ids(1, 2, 3, 4, 5, 6)
    now.end(*ids(0, 7, 8, 9, 10, 11))
    assert now.step() == ids(0, 10, 11, 7, 8, 9)


def test_a_failed_group_gives_way_to_another_row_of_its_task(run):
    now = run()
    now.trainer._add_prompts_to_generate(12)
    now.end(*ids(0, 3, 5), status="failure")
    assert now.step(now.end(*ids(1, 2, 4, 6, 8, 9)) for _ in range(1)) == ids(1, 2, 4, 6, 8, 9)
    assert {name for name in now.sent if "refill" in name} == {"a:refill0", "a:refill1", "c:refill0"}
    now.end(*ids(7, 10, 11), "a:refill0", "a:refill1", "c:refill0")
    assert now.step() == [*ids(10, 11, 7), "a:refill0", "c:refill0", "a:refill1"]
    assert now.buffer.quota.report().refilled == {"a": 2, "c": 1}
    assert not now.buffer.quota.groups


def test_a_refill_that_fails_is_refilled_and_holds_nobody_up(run):
    now = run()
    now.trainer._add_prompts_to_generate(12)

    def b_never_works():
        while True:
            now.end(*[name for name in now.sent if name.startswith("b")], status="failure")
            now.now += 40
            yield

    now.end(*ids(0, 2, 3, 5, 6, 8, 9, 11))
    assert now.step(b_never_works()) == ids(0, 2, 3, 5, 6, 8)
    assert now.buffer.quota.debt["b"] == 2
    assert now.now == 120
    flying = Counter(now.buffer.quota.groups.values())["b"]
    assert 4 <= flying <= 8  # what is owed and spares, all of them refills


def test_a_run_ends_where_no_rollout_of_a_task_works_any_more(run, monkeypatch):
    monkeypatch.setattr(replay_buffer, "MAX_FAILURES", 10)
    now = run()
    now.trainer._add_prompts_to_generate(6)

    def b_fails():
        for _ in range(100):
            now.end(*[name for name in now.sent if name.startswith("b")], status="failure")
            yield

    with pytest.raises(RuntimeError, match=r"the last 1[1-9] groups of 'b' failed and none finished"):
        now.step(b_fails())


def test_failures_with_a_group_that_finishes_between_them_end_nothing(run, monkeypatch):
    monkeypatch.setattr(replay_buffer, "MAX_FAILURES", 3)
    now = run()
    now.trainer._add_prompts_to_generate(6)

    def every_other_b_fails():
        now.end(*ids(1, 4), status="failure")
        yield
        for _ in range(5):
            first, *others = [name for name in now.sent if name.startswith("b")]
            now.end(first)
            yield
            now.end(*others, status="failure")
            now.end(*[name for name in ids(0, 2, 3, 5) if name in now.sent])
            yield

    assert Counter(name[0] for name in now.step(every_other_b_fails())) == {"a": 2, "b": 2, "c": 2}


def test_a_stale_group_is_rolled_out_again_from_the_same_prompt_and_keeps_its_place(run):
    now = run()
    now.trainer._add_prompts_to_generate(12)
    now.end(*ids(1, 2, 3, 4, 5, 6))
    now.trainer.global_steps = 4  # dispatched at step 1, one step more than the threshold allows
    assert set(now.sent) == set(ids(0, 7, 8, 9, 10, 11))

    def rolled_out_again():
        assert set(ids(1, 2, 3, 4, 5, 6)) <= now.sent.keys()
        now.end(*ids(6, 5, 4, 3, 2, 1))
        yield
        now.end(*ids(0))  # its rollout began at step 1 too
        yield
        now.end(*ids(0))
        yield

    assert now.step(rolled_out_again()) == ids(0, 1, 2, 3, 4, 5)
    tally = now.buffer.quota.report()
    assert (tally.repeated, tally.refilled) == ({"a": 3, "b": 2, "c": 2}, {})


def test_a_starving_task_is_skipped_after_its_time_and_repaid(run):
    now = run()
    now.trainer._add_prompts_to_generate(12)
    now.end(*ids(0, 1, 3, 4, 6, 7, 9, 10))

    def time_passes():
        for now.now in (99, 100):
            yield

    assert now.step(time_passes()) == ids(0, 1, 3, 4, 6, 7)
    assert now.buffer.quota.debt == {"a": -1, "b": -1, "c": 2}
    tally = now.buffer.quota.report()
    assert (tally.skipped, tally.waited) == (2, 100)
    assert mixture_metrics(tally, now.buffer.quota.debt)["mixture/c/realised"] == 0

    now.trainer._add_batch_to_generate()
    # a batch, and three more, of which two come back, for the two that are held up
    assert set(ids(12, 20)) <= now.sent.keys() and "a:21" not in now.sent
    now.end(*ids(2, 5, 8, 11, 12, 13, 14, 15, 16, 17))
    assert now.step() == ids(10, 11, 2, 5, 8, 9)  # c twice its share, a and b one less
    assert set(now.buffer.quota.debt.values()) == {0}


def test_tasks_that_hang_cannot_stop_the_run(run):
    now = run()
    now.trainer._add_prompts_to_generate(12)

    def only_a_comes_back():
        while True:
            now.end(*[name for name in now.sent if name.startswith("a")])
            now.now += 50
            yield

    # 12 and 15 were sent out when nothing came any more
    assert set(now.step(only_a_comes_back())) == set(ids(0, 3, 6, 9, 12, 15))
    assert now.now <= 300
    assert now.buffer.quota.debt == {"a": -4, "b": 2, "c": 2}


@pytest.mark.parametrize("seed", range(3))
def test_shares_hold_under_random_finishing_failures_and_staleness(run, seed):
    """c fails half of the time and takes ten times as long; every step has two groups of each task, none twice."""
    rng, now, trained = random.Random(seed), run(), []
    now.trainer._add_prompts_to_generate(6)

    def chaos():
        while True:
            for name in rng.sample(sorted(now.sent), len(now.sent)):
                slow = name.startswith("c")
                if rng.random() < (0.05 if slow else 0.5):
                    now.end(name, status="failure" if slow and rng.random() < 0.5 else "finished")
            yield

    for _ in range(12):
        now.trainer._add_prompts_to_generate(6)
        step = now.step(chaos())
        assert Counter(name[0] for name in step) == {"a": 2, "b": 2, "c": 2}
        trained += step
    assert len(set(trained)) == len(trained)
    tally = now.buffer.quota.report()
    assert tally.requested == tally.trained == {"a": 24, "b": 24, "c": 24}
    assert tally.refilled["c"] > 5 and tally.refilled.total() == tally.refilled["c"]


def test_verls_other_strategy_still_waits_for_rollouts_that_would_grow_stale(run):
    now = run(max_off_policy_strategy="wait")
    now.trainer._add_prompts_to_generate(12)
    now.end(*ids(0, 1, 2, 3, 4, 5))
    now.trainer.global_steps = 3

    def the_others():
        now.end(*ids(6, 7, 8, 9, 10))
        now.now = 1e6
        yield
        now.end(*ids(11))
        yield

    assert now.step(the_others()) == ids(0, 1, 2, 3, 4, 5)
    assert "a:11" not in now.sent and not now.sent


# Checkpoints


def kill(queue):
    for partition, items in queue.kv_list().items():
        queue.kv_clear(keys=list(items), partition_id=partition)


def saved_in_debt(run):
    """A run that was killed after a step without c and a refill, and went on from its checkpoint."""
    first = run()
    first.trainer._add_prompts_to_generate(12)
    first.end(*ids(1), status="failure")
    first.end(*ids(0, 3, 4, 6, 7, 9, 10))

    def time_passes():
        for first.now in (0, 100):
            yield

    assert first.step(time_passes()) == sorted(ids(0, 3, 4, 6, 7, 10), key=lambda name: name[2:])
    first.trainer.global_steps -= 1  # verl saves within the step
    first.trainer._save_checkpoint()
    kill(first.tq)
    return first, Path(first.trainer.config.trainer.default_local_dir, "global_step_1")


def test_a_resumed_run_knows_its_debts_and_goes_on_with_other_refills(run):
    first, _ = saved_in_debt(run)
    again = run(resume=True)
    assert again.buffer.quota.debt == first.buffer.quota.debt == {"a": -1, "b": -1, "c": 2}
    assert list(again.buffer.quota.groups.items()) == list(first.buffer.quota.groups.items())
    again.trainer._add_prompts_to_generate(6)
    again.end(*ids(13), status="failure")
    again.end("b:refill0", *ids(2, 5, 8, 11))
    assert again.trainer.global_steps == 2
    assert again.step() == [*ids(11, 2, 5, 8, 9), "b:refill0"]  # a:9 was finished before the kill
    assert "b:refill1" in again.sent and not any(again.buffer.quota.debt.values())


def test_a_checkpoint_of_another_buffer_starts_without_debts(run):
    first, folder = saved_in_debt(run)
    (folder / STATE).unlink()
    again = run(resume=True)
    assert not any(again.buffer.quota.debt.values())
    assert Counter(again.buffer.quota.stream) == Counter(first.buffer.quota.groups.values())


# Told at the start, and at every step


def test_a_dataset_that_cannot_refill_is_refused_at_the_start(run, monkeypatch):
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    now = run()
    now.trainer.train_dataset = [1, 2, 3]
    monkeypatch.setattr(PPOTrainer, "_init_dataloader", lambda self: None)
    with pytest.raises(TypeError, match=r"list has no refill\(task, number\).*MixtureDataset"):
        now.trainer._init_dataloader()


def test_metrics_of_a_step(run):
    now = run()
    now.trainer._add_prompts_to_generate(6)
    now.end(*ids(0), status="failure")
    now.end(*ids(1, 2, 3, 4, 5))
    assert "a:refill0" in now.step(now.end("a:refill0") for _ in range(1))
    metrics = mixture_metrics(now.buffer.quota.report(), now.buffer.quota.debt)
    third = pytest.approx(1 / 3)
    assert metrics == {
        "sv6d/refilled_groups": 1,
        "sv6d/repeated_groups": 0,
        "sv6d/skipped_groups": 0,
        "sv6d/balance_wait_seconds": 0,
        **{f"mixture/{task}/{share}": third for task in TASKS for share in ("requested", "realised")},
        **{f"mixture/{task}/debt": 0 for task in TASKS},
        **{f"mixture/{task}/replaced": int(task == "a") for task in TASKS},
    }
