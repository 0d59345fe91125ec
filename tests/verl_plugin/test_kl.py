"""The KL to the reference where it is no penalty: the estimates, when and of what they are made, and who makes the reference."""

import math
from copy import deepcopy
from functools import lru_cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from sv6d.recipes.compose import compose
from sv6d.verl_plugin import kl, trainers
from sv6d.verl_plugin.kl import KLSettings, KLTrainer, kl_metrics, sequence_kl
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.utils import Role

LN2 = math.log(2)


def logs(*probabilities):
    return torch.tensor(probabilities).log()


def test_both_estimates_of_a_sequence_by_hand():
    """Tokens of probability 1/2 and 1/4, which the reference gives 1/4 and 1/2, and one that does not count. d = ln 2 and -ln 2:
    k1 = (ln 2 - ln 2) / 2 = 0; k3 = ((1/2 - 1 + ln 2) + (2 - 1 - ln 2)) / 2 = 1/4."""
    found = sequence_kl(logs(0.5, 0.25, 0.9), logs(0.25, 0.5, 0.1), torch.tensor([1, 1, 0]))
    assert found == pytest.approx((0.25, 0.0), abs=1e-6)


def test_of_one_token_twice_as_likely_as_before():
    assert sequence_kl(logs(0.5), logs(0.25), torch.ones(1)) == pytest.approx((LN2 - 0.5, LN2), abs=1e-6)


def test_a_sequence_without_tokens_has_no_kl():
    assert sequence_kl(logs(0.5), logs(0.25), torch.zeros(1)) is None


weights = st.lists(
    st.floats(0.3, 1.0), min_size=4, max_size=4
)  # no quotient of two shares is so large that verl cuts it


@given(weights, weights)
def test_both_estimates_average_to_the_kl_over_what_the_policy_draws(p, q):
    """sum p log(p/q), exactly: each token's estimate weighed by how often the policy draws it."""
    p, q = (torch.tensor(w, dtype=torch.float64) / sum(w) for w in (p, q))
    exact = float((p * (p / q).log()).sum())
    tokens = [sequence_kl(a.log().view(1), b.log().view(1), torch.ones(1)) for a, b in zip(p, q, strict=True)]
    for estimate in ("k1", "k3"):
        mean = sum(float(share) * getattr(token, estimate) for share, token in zip(p, tokens, strict=True))
        assert mean == pytest.approx(exact, abs=1e-9)


@given(weights, weights)
def test_k3_is_never_negative(p, q):
    assert sequence_kl(logs(*p), logs(*q), torch.ones(4)).k3 >= -1e-6


def test_a_long_sequence_counts_as_much_as_a_short_one():
    """Table 3's seq-mean-token-mean: (1/4 + (ln 2 - 1/2)) / 2."""
    long = sequence_kl(logs(*[0.5, 0.25] * 50), logs(*[0.25, 0.5] * 50), torch.ones(100))
    short = sequence_kl(logs(0.5), logs(0.25), torch.ones(1))
    assert kl_metrics([long, short]) == pytest.approx(
        {"sv6d/kl": (0.25 + LN2 - 0.5) / 2, "sv6d/kl_k1": LN2 / 2, "sv6d/kl_sequences": 2}, abs=1e-6
    )
    assert kl_metrics([]) == {}


def test_the_steps_that_are_measured():
    assert [step for step in range(1, 26) if KLSettings(every=10).due(step, last=25)] == [1, 10, 20, 25]
    assert not any(KLSettings().due(step, last=25) for step in range(1, 26))


@pytest.mark.parametrize(
    "sample, number",
    [(1, 3120), (0.25, 792), (0.1, 312), (0.001, 24), (100, 120), (24, 24), (10_000, 3120)],
)
def test_the_sequences_that_are_measured_are_whole_micro_batches_on_all_ranks(sample, number):
    """Of 3,120 on 24 ranks: a quarter is 780, and 33 x 24 = 792; a tenth is 13 x 24."""
    assert KLSettings(1, sample).number(3120, multiple=24) == number


@lru_cache
def recipe():
    return compose("grpo", "cpu_demo", ["sv6d.data=D", "sv6d.model=M", "sv6d.run_dir=R", "sv6d.kl.every=1"])


def config(**overrides):
    changed = deepcopy(recipe())
    for key, value in overrides.items():
        OmegaConf.update(changed, key, value, force_add=True)
    return changed


@pytest.mark.parametrize(
    "overrides, said",
    [
        ({"sv6d.kl": 5}, "sv6d.kl is 5; it is a block of every, sample"),
        ({"sv6d.kl.often": 1}, "sv6d.kl.often is unknown; known: every, sample"),
        ({"sv6d.kl.every": -1}, "sv6d.kl.every is -1; set it to a number of steps, or 0 for off"),
        ({"sv6d.kl.every": 0.5}, "sv6d.kl.every is 0.5; set it to a number of steps"),
        ({"sv6d.kl.every": "each"}, "sv6d.kl.every is 'each'; set it to a number of steps"),
        ({"sv6d.kl.sample": 0}, "sv6d.kl.sample is 0; set it to a share"),
        ({"sv6d.kl.sample": 2.5}, "sv6d.kl.sample is 2.5; set it to a share"),
        ({"sv6d.kl.sample": "all"}, "sv6d.kl.sample is 'all'; set it to a share"),
        ({"sv6d.kl.sample": None}, "sv6d.kl.sample is None; set it to a share"),
        ({"actor_rollout_ref.actor.use_kl_loss": True}, "this run has one .* Set sv6d.kl.every=0"),
        ({"actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": None}, "needs actor_rollout_ref.ref.log_prob"),
        ({"algorithm.rollout_correction.bypass_mode": True, "sv6d.kl.sample": 0.5}, "Set sv6d.kl.sample=1"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_starts(overrides, said):
    with pytest.raises(ValueError, match=said):
        kl.read_settings(config(**overrides))


def test_it_is_off_in_the_recipes_and_where_nobody_speaks_of_it():
    assert not kl.read_settings(config(**{"sv6d.kl.every": 0})).every
    assert not kl.read_settings(OmegaConf.create({})).every
    assert kl.read_settings(config(**{"sv6d.kl.every": None})).every == 0


def roles(trainer_class, settings, **overrides):
    trainer = trainer_class.__new__(trainer_class)  # verl's own method on a trainer that is never started
    trainer.config, trainer._kl = config(**overrides), settings
    trainer._enable_hybrid_replicas = trainer.config.actor_rollout_ref.hybrid_engine
    trainer._init_resource_pool_mgr()
    return set(trainer.role_worker_mapping), trainer.config.actor_rollout_ref.actor.use_kl_loss


def test_verl_gives_the_workers_a_reference_and_the_actor_no_penalty():
    on, off = KLSettings(every=1), KLSettings()
    assert roles(trainers.SyncTrainer, on) == ({Role.ActorRolloutRef}, False)
    assert roles(trainers.SyncTrainer, off) == ({Role.ActorRollout}, False)
    separate = {"actor_rollout_ref.hybrid_engine": False}
    assert roles(trainers.SeparateAsyncTrainer, on, **separate) == ({Role.Actor, Role.RefPolicy}, False)
    assert roles(trainers.SeparateAsyncTrainer, off, **separate) == ({Role.Actor}, False)


def test_adapters_need_no_second_model():
    assert roles(trainers.SyncTrainer, KLSettings(1), **{"actor_rollout_ref.model.lora_rank": 8})[0] == {
        Role.ActorRollout
    }


class Workers:
    """Stands for verl's workers: remembers what it was asked, and by which method."""

    world_size = 2

    def __init__(self):
        self.asked = []

    def compute_ref_log_prob(self, batch):
        self.asked.append(("reference", batch))

    def compute_log_prob(self, batch):
        self.asked.append(("policy", batch))


class Base:
    """Stands for verl's trainer."""

    def __init__(self, config):
        self.config, self.use_reference_policy, self.ref_in_actor = config, False, False
        self.actor_rollout_wg = self.ref_policy_wg = Workers()
        self.global_steps, self.total_training_steps, self.local_trigger_step = 1, 9, 0


class Trainer(KLTrainer, Base):
    pass


@pytest.fixture
def batch(monkeypatch):
    """Eight sequences, of which two are padding. TransferQueue has prompts of two tokens and responses of two; the reference gave
    every token 1/4, and the policy those of sequence i: 1/4 of i = 0, else 1/2."""
    keys = [f"g_{i}_0" for i in range(8)]

    def kv_batch_get(keys, partition_id, select_fields):
        assert set(select_fields) == {"log_probs", "old_log_probs", "response_mask"} and partition_id == "train"
        numbers = [int(key.split("_")[1]) for key in keys]
        nested = lambda rows: torch.nested.as_nested_tensor(rows, layout=torch.jagged)  # noqa: E731
        return {
            # verl's model output: of token t the probability of token t + 1
            "log_probs": nested([logs(1.0, 0.25, 0.25, 1.0) for _ in numbers]),
            "old_log_probs": nested([logs(0.25, 0.25) if i == 0 else logs(0.5, 0.5) for i in numbers]),
            "response_mask": nested([torch.ones(2) for _ in numbers]),
        }

    monkeypatch.setattr(kl.tq, "kv_batch_get", kv_batch_get)
    return KVBatchMeta(keys=keys, tags=[{"is_padding": i in (2, 5)} for i in range(8)], partition_id="train")


def measured(batch, step=1, lora=False, **overrides):
    trainer, metrics = Trainer(config(**overrides)), {}
    trainer.global_steps, trainer.ref_in_actor = step, lora
    assert trainer._compute_ref_log_prob(batch, metrics) is batch
    return trainer, metrics


ONE_A_RANK = {"actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": 1}


def test_a_measured_step(batch):
    trainer, metrics = measured(batch, **ONE_A_RANK)
    ((who, sample),) = trainer.actor_rollout_wg.asked
    assert who == "reference" and sample.keys == batch.keys and "no_lora_adapter" not in sample.extra_info
    # five of six real sequences have k3 = ln 2 - 1/2 and k1 = ln 2, one has 0; padding is read by the reference, and no more
    assert metrics == pytest.approx(
        {"sv6d/kl": 5 / 6 * (LN2 - 0.5), "sv6d/kl_k1": 5 / 6 * LN2, "sv6d/kl_sequences": 6}, abs=1e-6
    )
    assert set(trainer.kl_of) == {f"g_{i}_0" for i in (0, 1, 3, 4, 6, 7)}
    assert trainer.kl_of["g_0_0"] == 0 and trainer.kl_of["g_7_0"] == pytest.approx(LN2 - 0.5)


def test_a_step_between_asks_nobody_and_forgets_the_last_one(batch):
    trainer, metrics = measured(batch, step=5, **ONE_A_RANK, **{"sv6d.kl.every": 4})
    assert (trainer.actor_rollout_wg.asked, metrics, trainer.kl_of) == ([], {}, {})


def test_a_sample_takes_real_sequences_first_and_others_at_other_steps(batch):
    """A third of 8 is 2.67; on two ranks it is 4."""
    samples = []
    for step in range(1, 9):
        trainer, metrics = measured(batch, step=step, **ONE_A_RANK, **{"sv6d.kl.sample": 0.33})
        ((_, sample),) = trainer.actor_rollout_wg.asked
        assert len(sample.keys) == metrics["sv6d/kl_sequences"] == 4
        assert sample.keys == sorted(sample.keys)  # as they lay in the batch, which balances the ranks
        samples.append(tuple(sample.keys))
    assert len(set(samples)) > 1
    assert set().union(*samples) == {f"g_{i}_0" for i in (0, 1, 3, 4, 6, 7)}


def test_with_adapters_the_policy_is_asked_without_them(batch):
    trainer, _ = measured(batch, lora=True, **{"actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": 4})
    ((who, sample),) = trainer.actor_rollout_wg.asked
    assert who == "policy" and sample.extra_info["no_lora_adapter"] is True
    assert "no_lora_adapter" not in batch.extra_info  # or the update would go without them too


def test_mini_batches_of_a_step_are_gathered(batch):
    """`parameter_sync_step` > 1: verl calls once a mini-batch."""
    trainer, _ = measured(batch.select_keys(batch.keys[:2]), **ONE_A_RANK)
    trainer.local_trigger_step = 1
    trainer._compute_ref_log_prob(batch.select_keys(batch.keys[6:]), {})
    assert set(trainer.kl_of) == {"g_0_0", "g_1_0", "g_6_0", "g_7_0"}
