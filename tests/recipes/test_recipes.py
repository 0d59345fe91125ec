"""Every recipe composes, and each Leum recipe is Table 3 of the report, row by row, but for what its named factors say."""

from functools import cache

import pytest
from omegaconf import OmegaConf
from sv6d.recipes.compose import available, compose

PLACES = ["sv6d.data=DATA", "sv6d.model=MODEL", "sv6d.run_dir=RUN"]
LEUM = [name for name in available("grpo") if name.startswith("leum_")]


@cache
def grpo(recipe):
    config = compose("grpo", recipe, PLACES)
    OmegaConf.resolve(config)
    return config


@pytest.mark.parametrize("recipe", available("grpo"))
def test_every_grpo_recipe_composes_and_resolves(recipe):
    config = grpo(recipe)
    assert config.reward.reward_manager.name == "sv6d"
    assert config.trainer.v1.trainer_mode.startswith("sv6d_")


@pytest.mark.parametrize("recipe", available("sft"))
def test_every_sft_recipe_composes_and_resolves(recipe):
    config = compose("sft", recipe, PLACES)
    OmegaConf.resolve(config)
    assert config.data.custom_cls.name == "SFTDataset"


@pytest.mark.parametrize(
    ("row", "key", "value"),
    [
        ("Group size G", "actor_rollout_ref.rollout.n", 8),
        ("Prompts per step", "data.train_batch_size", 390),
        ("13 task types x 30", "sv6d.prompts_per_task", 30),
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
@pytest.mark.parametrize("recipe", LEUM)
def test_a_leum_recipe_is_table_3(recipe, row, key, value):
    config = grpo(recipe)
    scale = {
        "data.train_batch_size": config.sv6d.scale.prompts,
        "sv6d.prompts_per_task": config.sv6d.scale.prompts,
        "actor_rollout_ref.actor.ppo_mini_batch_size": config.sv6d.scale.prompts,
        "actor_rollout_ref.actor.optim.lr": config.sv6d.scale.learning_rate,
        "trainer.total_training_steps": config.sv6d.scale.steps,
    }.get(key, 1)
    assert OmegaConf.select(config, key) == (value if scale == 1 else pytest.approx(value * scale)), row


def test_which_leum_recipes_depart_from_table_3_and_by_what():
    factors = {recipe: {k: v for k, v in grpo(recipe).sv6d.scale.items() if v != 1} for recipe in LEUM}
    assert {recipe: found for recipe, found in factors.items() if found} == {
        "leum_2b_1gpu": {"prompts": 0.1},  # 13 x 3
        "leum_8b_lora": {"learning_rate": 10},
    }


@pytest.mark.parametrize("recipe", LEUM)
def test_a_step_of_a_leum_recipe_is_one_gradient_step_over_3120_sequences(recipe):
    config = grpo(recipe)
    sequences = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    assert sequences == 3120 * config.sv6d.scale.prompts
    assert sequences % (config.trainer.nnodes * config.trainer.n_gpus_per_node) == 0  # or verl pads the step
    mode = config.trainer.v1[config.trainer.v1.trainer_mode.removeprefix("sv6d_")]
    assert mode.get("parameter_sync_step", 1) == 1


@pytest.mark.parametrize("recipe", LEUM)
def test_a_leum_recipe_samples_video_as_the_report_does_within_a_budget_that_fits_its_context(recipe):
    config = grpo(recipe)
    video, tokens = config.data.mixture.video, config.sv6d.video_tokens
    assert (video.fps, video.max_frames) == (4, 768)
    assert tokens == (8_000 if recipe == "leum_2b_1gpu" else 50_000)  # "max 50K tokens/video"
    assert video.total_pixels == tokens * 32 * 32  # a token is 2 x 2 patches of 16 x 16, of a pair of frames
    pairs = video.max_frames // 2
    assert (
        pairs * 1.05 * video.min_pixels <= video.total_pixels
    )  # or qwen-vl-utils goes over the budget for long videos
    assert tokens + 11 * pairs < config.data.max_prompt_length  # <765.5 seconds>, and its frames' two marks
    rollout = config.actor_rollout_ref.rollout
    assert rollout.max_model_len == config.data.max_prompt_length + config.data.max_response_length
    assert config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu >= rollout.max_model_len


@pytest.mark.parametrize("recipe", LEUM)
def test_what_the_report_does_not_have_is_off(recipe):
    config = grpo(recipe)
    beyond, actor = config.sv6d.beyond, config.actor_rollout_ref.actor
    assert (beyond.task_ema.decay, beyond.difficulty.stage, beyond.length.weight) == (None, None, 0)
    assert actor.clip_ratio_low == actor.clip_ratio_high == 0.2
    assert not config.algorithm.filter_groups.enable
    assert config.sv6d.kl.every == 0


def test_the_asynchronous_recipe_trains_on_three_nodes_and_writes_on_a_fourth():
    config = grpo("leum_8b_async")
    rollout = config.actor_rollout_ref.rollout
    assert (config.trainer.nnodes, rollout.nnodes) == (3, 1)
    assert config.actor_rollout_ref.hybrid_engine is False
    assert rollout.checkpoint_engine.backend == "nccl"


def test_lora_leaves_the_vision_tower_alone_and_hands_vllm_whole_weights():
    model = grpo("leum_8b_lora").actor_rollout_ref.model
    assert (model.lora_rank, model.exclude_modules, model.lora.merge) == (64, ".*visual.*", True)


def test_the_demo_is_table_3_scaled_by_its_named_factors():
    config = grpo("cpu_demo")
    scale = config.sv6d.scale
    assert config.data.train_batch_size == 13 * round(30 * scale.prompts)
    assert config.trainer.total_training_steps == round(150 * scale.steps)
    assert config.actor_rollout_ref.actor.optim.lr == pytest.approx(1e-6 * scale.learning_rate)
    assert config.actor_rollout_ref.rollout.n == 8


@pytest.mark.parametrize("recipe", [*LEUM, "cpu_demo"])
def test_the_mixture_covers_the_run_and_what_is_fetched_ahead(recipe):
    config = grpo(recipe)
    steps, prompts = config.trainer.total_training_steps, config.data.train_batch_size
    mode = config.trainer.v1[config.trainer.v1.trainer_mode.removeprefix("sv6d_")]
    assert config.data.mixture.length >= (steps + mode.get("num_warmup_batches", 0) + 1) * prompts
