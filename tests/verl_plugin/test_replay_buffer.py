"""The replay buffers as verl makes them: the right one for each trainer, with the settings of the recipe."""

import pytest
from sv6d.verl_plugin.replay_buffer import BalancedAsync, BalancedReplayBuffer, BalancedSync

VERLS_ARGUMENTS = dict(trainer_config={}, max_off_policy_threshold=3, max_off_policy_strategy="wait", refill_fn=print)


def make(mode="colocate_async", sampler_kwargs=None, **more):
    return BalancedReplayBuffer(trainer_mode=mode, sampler_kwargs=sampler_kwargs, **VERLS_ARGUMENTS, **more)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("sync", BalancedSync), ("colocate_async", BalancedAsync), ("separate_async", BalancedAsync)],
)
def test_the_buffer_of_each_mode(mode, expected):
    buffer = make(mode)
    assert type(buffer) is expected
    assert (buffer.max_off_policy_threshold, buffer.max_off_policy_strategy) == (3, "wait")


def test_settings_and_their_defaults():
    assert (make().poll_interval, make().quota.patience) == (0.05, (5, 300))
    given = make(sampler_kwargs={"poll_interval": 1, "wait_for_oldest": 2, "wait_for_task": float("inf")})
    assert (given.poll_interval, given.quota.patience) == (1.0, (2, float("inf")))


def test_an_unknown_setting_is_refused():
    with pytest.raises(
        ValueError, match=r"sampler_kwargs\.wait is unknown; this buffer takes poll_interval, wait_for_o"
    ):
        make(sampler_kwargs={"wait": 3})


def test_a_setting_below_0_is_refused():
    with pytest.raises(ValueError, match=r"sampler_kwargs\.spares is -1; set it to 0 or more"):
        make(sampler_kwargs={"spares": -1})


def test_verl_finds_it_by_the_path_in_the_recipes():
    from verl.utils.import_utils import load_extern_type

    assert load_extern_type("pkg://sv6d.verl_plugin.replay_buffer", "BalancedReplayBuffer") is BalancedReplayBuffer


@pytest.mark.parametrize("mode", ["sync", "colocate_async"])
def test_another_trainer_is_told_what_to_set(mode):
    buffer = make(mode)
    buffer.finished_keys["train"].update("ab")
    with pytest.raises(RuntimeError, match=f"2 groups were not dispatched by an sv6d trainer.*sv6d_{mode}"):
        buffer._select_prompt_uids("train", {"a", "b"}, 2)


def test_synchronous_steps_train_what_was_dispatched():
    buffer = make("sync")
    buffer.quota.dispatch({"a": "x", "b": "y"})
    assert sorted(buffer._select_prompt_uids("train", {"a", "b"}, 2)[0]) == ["a", "b"]
    assert buffer.quota.report().trained == {"x": 1, "y": 1}


@pytest.mark.parametrize("mode", ["sync", "colocate_async"])
def test_validation_takes_what_is_finished(mode):
    buffer = make(mode)
    assert set(buffer._select_prompt_uids("val", {"c", "d"}, 2)[0]) == {"c", "d"}
    assert mode == "sync" or buffer._has_enough_samples(1, "val", 2, {"c", "d"})
