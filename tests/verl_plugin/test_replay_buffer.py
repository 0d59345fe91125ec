"""The replay buffers poll as often as they are told and are verl's own otherwise."""

import pytest
from sv6d.verl_plugin.replay_buffer import PromptReplayBuffer
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync

VERLS_ARGUMENTS = dict(trainer_config={}, max_off_policy_threshold=3, max_off_policy_strategy="wait", refill_fn=print)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("sync", ReplayBuffer), ("colocate_async", ReplayBufferAsync), ("separate_async", ReplayBufferAsync)],
)
def test_verls_own_buffer_for_each_mode(mode, expected):
    buffer = PromptReplayBuffer(trainer_mode=mode, sampler_kwargs={}, **VERLS_ARGUMENTS)
    assert type(buffer) is expected
    assert (buffer.max_off_policy_threshold, buffer.max_off_policy_strategy, buffer.refill_fn) == (3, "wait", print)


@pytest.mark.parametrize(("options", "seconds"), [(None, 0.05), ({}, 0.05), ({"poll_interval": 0.5}, 0.5)])
def test_poll_interval(options, seconds):
    buffer = PromptReplayBuffer(trainer_mode="sync", sampler_kwargs=options, **VERLS_ARGUMENTS)
    assert buffer.poll_interval == seconds


def test_verl_finds_it_by_the_path_in_the_recipes():
    from verl.utils.import_utils import load_extern_type

    assert load_extern_type("pkg://sv6d.verl_plugin.replay_buffer", "PromptReplayBuffer") is PromptReplayBuffer
