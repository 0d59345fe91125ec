"""Clip-higher (DAPO, arXiv 2503.14476, eq. 10): verl has it, and a recipe sets it by two keys. By hand, on the loss that a
composed recipe's actor would run."""

from math import log

import pytest
import torch
from sv6d.recipes.compose import compose
from verl.trainer.ppo.core_algos import get_policy_loss_fn
from verl.utils.config import omega_conf_to_dataclass

RATIOS = [0.7, 0.9, 1.1, 1.25, 1.4]


def loss_by_token(advantage, *overrides):
    """-objective of one token at each ratio of new to old probability."""
    paths = [f"sv6d.{key}=somewhere" for key in ("data", "model", "run_dir")]
    config = compose("grpo", "cpu_demo", [*paths, *overrides])
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    loss = get_policy_loss_fn(actor.policy_loss.loss_mode)
    one = torch.ones(1, 1)
    return [
        float(loss(0 * one, one * log(ratio), one * advantage, one, loss_agg_mode=actor.loss_agg_mode, config=actor)[0])
        for ratio in RATIOS
    ]


def test_as_table_3_has_it_both_sides_are_clipped_at_a_fifth():
    assert loss_by_token(1.0) == pytest.approx([-0.7, -0.9, -1.1, -1.2, -1.2])
    assert loss_by_token(-1.0) == pytest.approx([0.8, 0.9, 1.1, 1.25, 1.4])


def test_clip_higher_lets_rare_tokens_rise_further_and_leaves_the_lower_side():
    higher = "actor_rollout_ref.actor.clip_ratio_low=0.2", "actor_rollout_ref.actor.clip_ratio_high=0.28"
    assert loss_by_token(1.0, *higher) == pytest.approx([-0.7, -0.9, -1.1, -1.25, -1.28])
    assert loss_by_token(-1.0, *higher) == pytest.approx([0.8, 0.9, 1.1, 1.25, 1.4])


def test_in_a_single_step_on_what_the_trainer_itself_computed_nothing_is_clipped():
    """The old probabilities are then the current ones, the ratio is 1, and the clip does nothing, whatever it is."""
    one = torch.ones(1, 1)
    config = compose("grpo", "cpu_demo", [f"sv6d.{key}=somewhere" for key in ("data", "model", "run_dir")])
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    assert config.data.train_batch_size == actor.ppo_mini_batch_size and actor.ppo_epochs == 1
    _, metrics = get_policy_loss_fn("vanilla")(-one, -one, one, one, loss_agg_mode="token-mean", config=actor)
    assert metrics["actor/pg_clipfrac"] == 0.0
