"""Modes, rollout nodes, how far rollouts run ahead and how stale they may be."""

import pytest
from preflight import findings, only, subject
from sv6d.recipes.checking.asynchrony import replicas, separate, staleness, trainer_mode
from sv6d.recipes.compose import available

RECIPES = [name for name in available("grpo") if name != "table3"]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("check", [trainer_mode, separate, replicas, staleness])
def test_the_packaged_recipes_are_in_order(recipe, check):
    assert "error" not in [level for level, text in findings(check, subject(recipe)) if "cupy" not in text]


def test_an_unknown_mode_is_named():
    level, text = only(trainer_mode, subject("leum_8b_1node", "trainer.v1.trainer_mode=sv6d_asynch"))
    assert level == "error" and "trainer_mode=sv6d_asynch is none; take sv6d_sync, sv6d_colocate_async" in text


def test_the_balanced_buffer_wants_our_trainer_and_our_dataset():
    of = subject("leum_8b_1node", "trainer.v1.trainer_mode=colocate_async", "data.custom_cls.name=Other")
    texts = [text for _, text in findings(trainer_mode, of)]
    assert len(texts) == 2
    assert "set trainer.v1.trainer_mode=sv6d_colocate_async" in texts[0]
    assert "set data.custom_cls to MixtureDataset" in texts[1]


def test_the_separate_trainers_batch_is_its_syncs_times_its_mini_batch():
    of = subject("leum_8b_async", "trainer.v1.separate_async.parameter_sync_step=4")
    level, text = findings(separate, of)[0]
    assert level == "error"
    assert "data.train_batch_size (390) = parameter_sync_step (4) x actor.ppo_mini_batch_size (390) = 1560" in text
    assert "parameter_sync_step=1" in text


def test_several_gradient_steps_between_syncs_are_a_departure():
    of = subject(
        "leum_8b_async",
        "trainer.v1.separate_async.parameter_sync_step=3",
        "actor_rollout_ref.actor.ppo_mini_batch_size=130",
    )
    level, text = findings(separate, of)[0]
    assert level == "warning" and "3 gradient steps of 130 prompts between two weight syncs" in text


def test_separate_mode_needs_rollout_nodes_and_a_way_for_weights():
    of = subject(
        "leum_8b_async",
        "actor_rollout_ref.rollout.nnodes=0",
        "actor_rollout_ref.rollout.checkpoint_engine.backend=naive",
    )
    texts = [text for level, text in findings(separate, of) if level == "error"]
    assert ["rollout.nnodes=0" in texts[0], "backend=naive" in texts[1]] == [True, True]


def test_a_backend_that_needs_cupy_says_so_where_it_is_not_installed():
    level, text = only(separate, subject("leum_8b_async"))
    assert level == "warning" and "nccl needs cupy" in text  # a warning: this machine has no GPU


def test_replicas_have_to_divide_the_gpus():
    level, text = only(replicas, subject("leum_8b_1node", "actor_rollout_ref.rollout.tensor_model_parallel_size=3"))
    assert level == "error"
    assert "8 GPUs for rollouts, 8 a node, do not divide into replicas of 3" in text and "take 2 or 4" in text


def test_the_ratio_of_those_who_write_to_those_who_train_is_told():
    # 8 rollout GPUs and 3 x 8 trainer GPUs
    level, text = only(replicas, subject("leum_8b_async"))
    assert (
        level == "note"
        and "8 GPUs for rollouts and 24 for training (0.33 : 1); 8 replicas of 1 GPU for rollouts: up to 2,048 of the 3,120"
        in text
    )


def test_a_ratio_that_leaves_one_side_idle_is_a_warning():
    level, text = only(replicas, subject("leum_8b_async", "trainer.nnodes=10"))  # 8 : 80
    assert level == "warning" and "the trainers wait for rollouts" in text


def test_groups_that_are_stale_when_their_turn_comes_are_an_error():
    # Two batches ahead: sent out in step 1, trained in step 3, which is 3 - 1 + 1 = 3 in verl's counting, above 2.
    of = subject(
        "leum_8b_async",
        "trainer.v1.sampler.max_off_policy_threshold=2",
        "trainer.v1.separate_async.num_warmup_batches=2",
    )
    level, text = findings(staleness, of)[0]
    assert level == "error"
    assert "num_warmup_batches=2 and max_off_policy_threshold=2: groups are 3 steps old" in text
    assert "max_off_policy_threshold to 4 or more" in text


def test_waiting_for_all_that_runs_ahead_is_a_warning():
    # One batch ahead: what was sent out in step 1 is 2 steps old in step 2, at which verl waits with a threshold of 2.
    wait = "trainer.v1.sampler.max_off_policy_strategy=wait"
    level, text = findings(staleness, subject("leum_8b_1node", wait, "trainer.v1.sampler.max_off_policy_threshold=2"))[
        0
    ]
    assert level == "warning" and "a step waits for every rollout that is 2 steps old" in text
    assert (
        findings(staleness, subject("leum_8b_1node", wait, "trainer.v1.sampler.max_off_policy_threshold=3"))[0][0]
        == "note"
    )


def test_no_batch_ahead_is_no_asynchrony():
    of = subject("leum_8b_1node", "trainer.v1.colocate_async.num_warmup_batches=0")
    assert ("warning", True) in [
        (level, "sends no prompt out ahead" in text) for level, text in findings(staleness, of)
    ]


def test_a_mixture_that_ends_before_the_rollouts_that_run_ahead_is_an_error():
    # 150 steps and 1 batch ahead are 151 x 390 = 58,890 prompts.
    level, text = findings(staleness, subject("leum_8b_1node", "data.mixture.length=58500"))[-1]
    assert level == "error" and "data.mixture.length=58,500" in text and "58,890 prompts" in text


def test_the_synchronous_trainer_has_no_staleness():
    assert findings(staleness, subject("leum_8b_sync")) == []


def test_adapters_that_would_never_reach_the_rollouts():
    lora = "actor_rollout_ref.model.lora_rank=8"
    errors = [text for level, text in findings(separate, subject("leum_8b_async", lora)) if level == "error"]
    assert len(errors) == 1 and "set actor_rollout_ref.model.lora.merge=true" in errors[0]
    merged = subject("leum_8b_async", lora, "actor_rollout_ref.model.lora.merge=true")
    assert [text for level, text in findings(separate, merged) if level == "error"] == []
    assert [text for level, text in findings(separate, subject("leum_8b_1node", lora)) if level == "error"] == []


OWN = "trainer.v1.trainer_mode=colocate_async", "trainer.v1.sampler.custom_sampler.name=null"


@pytest.mark.parametrize(
    "asked", ["sv6d.beyond.task_ema.decay=0.99", "sv6d.beyond.length.weight=0.5", "sv6d.kl.every=10"]
)
def test_what_verls_own_trainers_would_silently_leave_out_is_an_error(asked):
    level, text = only(trainer_mode, subject("leum_8b_1node", *OWN, asked))
    assert level == "error" and text.startswith(f"{asked.partition('=')[0]}: nothing reads it in verl's own trainer")
    assert text.endswith("set trainer.v1.trainer_mode=sv6d_colocate_async")


def test_verls_own_trainer_records_nothing_and_that_is_told():
    level, text = only(trainer_mode, subject("leum_8b_1node", *OWN))
    assert level == "warning" and "no rollout is recorded" in text
    assert findings(trainer_mode, subject("leum_8b_1node", *OWN, "sv6d.record_dir=null")) == []
