"""Table 3's 3,120 sequences over data-parallel ranks: what divides, what verl makes of what does not, what to change."""

import pytest
from preflight import findings, only, subject
from sv6d.recipes.checking.batch import divisors, micro_batches, near, read_batch, signal, step


def on(nodes, *overrides, recipe="leum_8b_1node"):
    return subject(recipe, f"trainer.nnodes={nodes}", *overrides)


# Nothing to learn from


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("actor_rollout_ref.rollout.n=1", "rollout.n=1: a rollout that is alone in its group is compared with nothing"),
        ("actor_rollout_ref.rollout.temperature=0", "temperature=0: all rollouts of a prompt are then alike"),
        ("trainer.total_training_steps=0", "trainer.total_training_steps=0: of these a run has 1 at least"),
        ("trainer.total_training_steps=null", "trainer.total_training_steps=None: of these a run has 1 at least"),
        ("data.train_batch_size=0", "set sv6d.prompts_per_task or this key to 1 or more"),
        ("trainer.nnodes=0", "trainer.nnodes=0: of these a run has 1 at least; set it to 1 or more"),
        ("trainer.n_gpus_per_node=-1", "trainer.n_gpus_per_node=-1: of these a run has 1 at least"),
        ("sv6d.group_size=0", "actor_rollout_ref.rollout.n=0: of these a run has 1 at least; set sv6d.group_size"),
    ],
)
def test_a_run_that_could_not_learn_is_refused(setting, said):
    level, text = only(signal, on(1, setting))
    assert level == "error" and said in text


def test_table_3_has_something_to_learn_from_and_an_estimator_without_groups_may_have_one_rollout():
    assert findings(signal, on(1)) == []
    assert findings(signal, on(1, "actor_rollout_ref.rollout.n=1", "algorithm.adv_estimator=reinforce_plus_plus")) == []


# 3,120 = 2^4 x 3 x 5 x 13: up to 2^4 of the power of two.
@pytest.mark.parametrize("nodes", [1, 2, 3, 5, 6, 10])
def test_table_3_divides_over_these_nodes_of_8_in_one_gradient_step(nodes):
    level, text = only(step, on(nodes))
    assert level == "note"
    assert f"3,120 sequences over {8 * nodes} ranks: {3120 // (8 * nodes)} each, one gradient step" in text


# lcm(32, 3,120) = 2 x 3,120; lcm(64, .) = 4 x; lcm(96 = 2^5 x 3, .) = 2 x; lcm(128, .) = 8 x 3,120 = 24,960.
@pytest.mark.parametrize(("nodes", "padded", "steps"), [(4, 6240, 2), (8, 12480, 4), (12, 6240, 2), (16, 24960, 8)])
def test_over_32_64_96_and_128_ranks_verl_would_pad_and_stop(nodes, padded, steps):
    of = on(nodes)
    level, text = only(step, of)
    assert level == "error"
    assert read_batch(of.config).padded == padded and read_batch(of.config).updates == steps
    assert f"verl pads them to {padded:,}" in text and f"{steps} gradient steps of the one" in text
    assert f"a mini-batch of 3,120 is not {8 * nodes} equal shares" in text


def test_the_mends_are_the_nearest_whole_nodes_prompts_that_divide_and_a_padded_mini_batch():
    _, text = only(step, on(4))
    # 24 and 40 GPUs of nodes of 8; 13 x 8 x 28 = 32 x 91 and 13 x 8 x 32 = 32 x 104; 392 x 8 = 32 x 98, 2 prompts more than 390.
    assert "take 24 or 40 GPUs" in text
    assert "sv6d.prompts_per_task=28 or 32" in text
    assert "ppo_mini_batch_size=392: verl then pads 16 masked rows and makes one gradient step, 0.5% smaller" in text


def test_every_mend_that_is_named_works():
    assert only(step, on(3))[0] == only(step, on(5))[0] == "note"
    assert (
        only(step, on(4, "sv6d.prompts_per_task=28"))[0] == only(step, on(4, "sv6d.prompts_per_task=32"))[0] == "note"
    )
    level, text = only(step, on(4, "actor_rollout_ref.actor.ppo_mini_batch_size=392"))
    assert level == "warning"
    assert "pads 16 masked rows, and makes one gradient step that is 0.5% smaller" in text


def test_sequence_parallelism_leaves_fewer_data_parallel_ranks_and_rollouts_tensor_parallelism_does_not():
    of = on(4, "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size=2")  # 32 GPUs / 2 = 16 ranks
    assert "over 16 ranks: 195 each" in only(step, of)[1]
    of = on(4, "actor_rollout_ref.rollout.tensor_model_parallel_size=4")
    assert only(step, of)[0] == "error" and read_batch(of.config).ranks == 32


def test_gpus_that_do_not_divide_by_the_sequence_parallelism_are_refused():
    of = on(1, "actor_rollout_ref.actor.ulysses_sequence_parallel_size=3")
    assert only(step, of) == (
        "error",
        "8 GPUs of the trainer do not divide by ulysses_sequence_parallel_size=3; take a sequence parallelism of 1, 2, 4, 8",
    )


def test_a_mini_batch_that_fits_the_ranks_and_not_the_batch_is_padded():
    # 256 x 8 = 2,048 over 8 ranks; 3,120 is padded to 4,096: two steps, 976 masked rows.
    level, text = only(step, on(1, "actor_rollout_ref.actor.ppo_mini_batch_size=256"))
    assert level == "error"
    assert "pads them to 4,096 and makes 2 gradient steps" in text and "976 masked rows" in text
    assert text.endswith("Set actor_rollout_ref.actor.ppo_mini_batch_size=390 for one gradient step, as in Table 3")


def test_more_than_one_gradient_step_is_a_departure_from_table_3():
    level, text = only(step, on(1, "actor_rollout_ref.actor.ppo_mini_batch_size=130"))
    assert (level, text.split(" a batch")[0]) == ("warning", "3 gradient steps")


def test_the_separate_trainer_divides_its_batch_by_its_syncs():
    of = on(
        3,
        "trainer.v1.separate_async.parameter_sync_step=2",
        "actor_rollout_ref.actor.ppo_mini_batch_size=195",
        recipe="leum_8b_async",
    )
    assert "195 prompts x 8 = 1,560 sequences over 24 ranks: 65 each" in only(step, of)[1]


def test_a_micro_batch_that_does_not_divide_is_refused_with_sizes_that_do():
    # 39 prompts x 8 = 312 sequences on one rank
    of = subject("cpu_demo", "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=100")
    [(level, text), _] = findings(micro_batches, of)
    assert level == "error"
    assert "ppo_micro_batch_size_per_gpu=100 does not divide a rank's share of 312 sequences" in text
    assert "78, 104, 156, 312" in text


def test_divisors_and_their_neighbours():
    assert divisors(12) == [1, 2, 3, 4, 6, 12] and divisors(1) == [1] and divisors(9) == [1, 3, 9]
    assert near([1, 2, 4, 8], 4) == [2, 8] and near([4], 4) == [] and near([1, 2], 9) == [2]
