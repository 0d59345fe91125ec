"""Every recipe composes, and the base recipe is Table 3 of the report, row by row."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from sv6d.recipes.compose import compose

RECIPES = Path(__file__).parents[2] / "recipes"
PLACES = ["sv6d.data=DATA", "sv6d.model=MODEL", "sv6d.run_dir=RUN"]


def grpo(recipe, *overrides):
    config = compose("grpo", recipe, [*PLACES, *overrides])
    OmegaConf.resolve(config)
    return config


@pytest.mark.parametrize("path", sorted((RECIPES / "grpo").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_grpo_recipe_composes_and_resolves(path):
    config = grpo(path.stem)
    assert config.reward.reward_manager.name == "sv6d"
    assert config.trainer.v1.trainer_mode.startswith("sv6d_")


@pytest.mark.parametrize("path", sorted((RECIPES / "sft").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sft_recipe_composes_and_resolves(path):
    config = compose("sft", path.stem, PLACES)
    OmegaConf.resolve(config)
    assert config.data.custom_cls.name == "SFTDataset"


@pytest.mark.parametrize(
    ("row", "key", "value"),
    [
        ("Group size G", "actor_rollout_ref.rollout.n", 8),
        ("Prompts per step", "data.train_batch_size", 390),
        ("PPO mini-batch size (single gradient step)", "actor_rollout_ref.actor.ppo_mini_batch_size", 390),
        ("a single gradient step", "actor_rollout_ref.actor.ppo_epochs", 1),
        ("Learning rate", "actor_rollout_ref.actor.optim.lr", 1e-6),
        ("cosine", "actor_rollout_ref.actor.optim.lr_scheduler_type", "cosine"),
        ("-> 1e-7", "actor_rollout_ref.actor.optim.min_lr_ratio", 0.1),
        ("KL penalty disabled, in the loss", "actor_rollout_ref.actor.use_kl_loss", False),
        ("KL penalty disabled, in the reward", "algorithm.use_kl_in_reward", False),
        ("GRPO", "algorithm.adv_estimator", "grpo"),
        ("Advantage normalization by std", "algorithm.norm_adv_by_std_in_grpo", True),
        ("Loss aggregation", "actor_rollout_ref.actor.loss_agg_mode", "seq-mean-token-mean"),
        ("Figure 3: 150 steps", "trainer.total_training_steps", 150),
    ],
)
def test_the_base_recipe_is_table_3(row, key, value):
    assert OmegaConf.select(grpo("leum_8b_1node"), key) == value, row


def test_table_3_sequences_per_step():
    config = grpo("leum_8b_1node")
    assert config.data.train_batch_size * config.actor_rollout_ref.rollout.n == 3120


def test_the_demo_is_table_3_scaled_by_its_named_factors():
    config = grpo("cpu_demo")
    scale = config.sv6d.scale
    assert config.data.train_batch_size == 13 * round(30 * scale.prompts)
    assert config.trainer.total_training_steps == round(150 * scale.steps)
    assert config.actor_rollout_ref.actor.optim.lr == pytest.approx(1e-6 * scale.learning_rate)
    assert config.actor_rollout_ref.rollout.n == 8


def test_the_mixture_covers_the_run_and_what_is_fetched_ahead():
    config = grpo("cpu_demo")
    steps, prompts = config.trainer.total_training_steps, config.data.train_batch_size
    assert config.data.mixture.length >= (steps + config.trainer.v1.colocate_async.num_warmup_batches + 1) * prompts
