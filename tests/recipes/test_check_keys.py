"""Keys that nothing reads are caught with the nearest that exists; what verl, vLLM or we read is left alone."""

import pytest
from preflight import findings, only, subject
from sv6d.recipes.checking.keys import unknown_keys, wrong_kinds
from sv6d.recipes.checking.verl_fields import fields
from sv6d.recipes.compose import available


@pytest.mark.parametrize("recipe", available("grpo"))
def test_packaged_recipes_have_no_unknown_key(recipe):
    assert findings(unknown_keys, subject(recipe)) == []


@pytest.mark.parametrize(
    ("typo", "near"),
    [
        ("trainer.savefreq=2", "trainer.save_freq"),
        ("actor_rollout_ref.rollout.max_model_length=3", "actor_rollout_ref.rollout.max_model_len"),
        ("data.mixture.wieghts=1", "data.mixture.weights"),
        ("data.mixture.video.fsp=2", "data.mixture.video.fps"),
        (
            "actor_rollout_ref.model.lora.rnk=8",
            "actor_rollout_ref.model.lora.rank",
        ),  # the block is a plain dict to verl
        ("algorithm.rollout_is=token", "algorithm.rollout_correction.rollout_is"),
        ("actor_rollout_ref.actor.train_batch_size=8", "data.train_batch_size"),
        ("sv6d.gpu_mem=80", "(did you mean sv6d.gpu_gb?)"),
        ("sv6d.scale.promts=0.5", "sv6d.scale.prompts"),
        ("sv6d.colour=red", "(did you mean sv6d."),  # of our own block every key is known
    ],
)
def test_a_typo_is_an_error_with_the_nearest_key(typo, near):
    [(level, text)] = findings(unknown_keys, subject("leum_8b_1node", typo))
    assert level == "error"
    assert text.startswith(f"{typo.split('=')[0]} is read by nothing") and near in text


def test_a_key_that_resembles_nothing_is_only_a_warning():
    assert findings(unknown_keys, subject("leum_8b_1node", "my_tool.colour=red")) == [
        ("warning", "my_tool.colour is read by nothing that we know of; correct it, or take it out")
    ]


@pytest.mark.parametrize(
    "legitimate",
    [
        "actor_rollout_ref.rollout.engine_kwargs.vllm.max_num_partial_prefills=2",
        "actor_rollout_ref.model.override_config.attn_implementation=sdpa",
        "ray_kwargs.ray_init.log_to_driver=false",
        "reward.reward_kwargs.alpha=0.7",
        "sv6d.env.NCCL_DEBUG=INFO",
        "data.mm_processor_kwargs.max_pixels=4096",
        "data.apply_chat_template_kwargs.enable_thinking=false",
        "data.mixture.taxonomy=cooking",
        "data.mixture.video.min_frames=8",
        "trainer.v1.sampler.sampler_kwargs.spares=0",
        "actor_rollout_ref.rollout.limit_images=4",  # a field of verl's RolloutConfig that its YAML has not
        "actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=bf16",
        "actor_rollout_ref.actor.optim.override_optimizer_config.lr_groups.vision=1e-6",
        "actor_rollout_ref.rollout.agent.agent_loop_config_path=x.yaml",
    ],
)
def test_what_somebody_reads_is_left_alone(legitimate):
    assert findings(unknown_keys, subject("leum_8b_1node", legitimate)) == []


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("trainer.nnodes=four", "trainer.nnodes='four' is text, and a number is wanted; the base recipe has 1"),
        ("data.shuffle=no thanks", "data.shuffle='no thanks' is neither true nor false"),
        ("sv6d.scale.prompts='0.2'", "sv6d.scale.prompts='0.2' is text"),
        ("sv6d.gpu_gb=big", "sv6d.gpu_gb='big' is text, and a number of GB is wanted"),
        ("sv6d.node_gb='2 TB'", "sv6d.node_gb='2 TB' is text, and a number of GB is wanted"),
    ],
)
def test_words_in_the_place_of_numbers_are_named(setting, said):
    level, text = only(wrong_kinds, subject("leum_8b_1node", setting))
    assert level == "error" and text.startswith(said)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("sv6d.restarts=null", "sv6d.restarts is None; set it to a whole number, 0 for no restarts"),
        ("sv6d.restarts=1.5", "sv6d.restarts is 1.5; set it to a whole number"),
        ("sv6d.restart_pause=-1", "sv6d.restart_pause is -1; set it to seconds, 0 or more"),
        ("sv6d.grace=null", "sv6d.grace is None; set it to seconds, 0 or more"),
        ("sv6d.grace=long", "sv6d.grace is 'long'; set it to seconds, 0 or more"),
        ("sv6d.stalled_after=0", "sv6d.stalled_after is 0; set it to seconds above 0, or null for never"),
        ("sv6d.on_failed_save=abort", "sv6d.on_failed_save is 'abort'; set it to continue or stop"),
    ],
)
def test_what_a_run_is_to_do_about_failures_is_read_before_there_is_one(setting, said):
    level, text = only(wrong_kinds, subject("leum_8b_1node", setting))
    assert level == "error" and text.startswith(said)


@pytest.mark.parametrize(
    "fine",
    ["sv6d.stalled_after=null", "sv6d.record_responses=all", "sv6d.kl.sample=3", "trainer.max_actor_ckpt_to_keep=null"],
)
def test_words_and_numbers_that_are_read_are_left_alone(fine):
    assert findings(wrong_kinds, subject("leum_8b_1node", fine)) == []


@pytest.mark.parametrize("recipe", available("grpo"))
def test_packaged_recipes_have_numbers_where_numbers_belong(recipe):
    assert findings(wrong_kinds, subject(recipe)) == []


def test_verls_fields_are_read_with_those_of_their_bases():
    optimizer = fields("verl.workers.config.FSDPOptimizerConfig")
    assert {"lr", "min_lr_ratio", "override_optimizer_config"} <= optimizer.keys()
    assert fields("somebody.else.Config") == {}
