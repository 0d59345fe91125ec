"""The replay buffers poll as often as they are told, and take groups in the order of their dispatch."""

import pytest
from sv6d.verl_plugin.replay_buffer import InOrder, OrderedReplayBuffer
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

VERLS_ARGUMENTS = dict(trainer_config={}, max_off_policy_threshold=3, max_off_policy_strategy="wait", refill_fn=print)


@pytest.mark.parametrize(
    ("mode", "expected"), [("sync", ReplayBuffer), ("colocate_async", InOrder), ("separate_async", InOrder)]
)
def test_the_buffer_of_each_mode(mode, expected):
    buffer = OrderedReplayBuffer(trainer_mode=mode, sampler_kwargs={}, **VERLS_ARGUMENTS)
    assert type(buffer) is expected
    assert (buffer.max_off_policy_threshold, buffer.max_off_policy_strategy, buffer.refill_fn) == (3, "wait", print)


@pytest.mark.parametrize(("options", "seconds"), [(None, 0.05), ({}, 0.05), ({"poll_interval": 0.5}, 0.5)])
def test_poll_interval(options, seconds):
    buffer = OrderedReplayBuffer(trainer_mode="sync", sampler_kwargs=options, **VERLS_ARGUMENTS)
    assert buffer.poll_interval == seconds


def test_verl_finds_it_by_the_path_in_the_recipes():
    from verl.utils.import_utils import load_extern_type

    assert load_extern_type("pkg://sv6d.verl_plugin.replay_buffer", "OrderedReplayBuffer") is OrderedReplayBuffer


@pytest.fixture
def buffer(monkeypatch):
    """A buffer whose TransferQueue holds prompts a, b, c, d in that order; `finish` marks some as finished."""
    status = dict.fromkeys("abcd", "running")

    def kv_list():
        prompts = {key: {"is_prompt": True, "status": status[key], "global_steps": 1} for key in status}
        return {"train": prompts, "val": prompts}

    monkeypatch.setattr("transfer_queue.kv_list", kv_list)
    made = OrderedReplayBuffer(trainer_mode="colocate_async", sampler_kwargs={}, **VERLS_ARGUMENTS)

    def finish(*keys):
        status.update(dict.fromkeys(keys, "finished"))
        made._sync_metadata_from_transfer_queue()
        return made.finished_keys["train"]

    return made, finish


def test_it_waits_for_the_oldest_groups(buffer):
    made, finish = buffer
    assert not made._has_enough_samples(1, "train", 2, finish("c", "d"))
    assert not made._has_enough_samples(1, "train", 2, finish("b"))
    assert made._has_enough_samples(1, "train", 2, finish("a"))


def test_it_takes_the_oldest_groups_in_order(buffer):
    made, finish = buffer
    selected, _, _ = made._select_prompt_uids("train", finish("d", "b", "a"), 2)
    assert selected == ["a", "b"]


def test_validation_takes_what_is_finished(buffer):
    made, finish = buffer
    finished = finish("c", "d")
    assert made._has_enough_samples(1, "val", 2, finished)
    assert set(made._select_prompt_uids("val", finished, 2)[0]) == {"c", "d"}
