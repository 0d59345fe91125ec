"""A judge that fails, seen from the trainer: what masked samples do to a group's advantages, in verl's own arithmetic, and
how too many failures end the run. On a real TransferQueue, with real Ray actors in the place of verl's reward loop workers.
"""

from math import nan, sqrt
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sv6d.rewards import COMPONENTS
from sv6d.rewards.judging.health import Counts, JudgeStopped
from sv6d.rewards.verl_manager import OUR_TRAINER
from sv6d.verl_plugin import judging
from tensordict import NonTensorData, NonTensorStack, TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.core_algos import get_adv_estimator_fn
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.utils.tensordict_utils import nested_tensor_from_tensor_list

A_HALF = sqrt(0.125)  # the deviation of 1 and 1/2, with n - 1
MASKED = dict.fromkeys(COMPONENTS, nan) | {"score": 0.0, "format": 1.0, "failed": 1.0}


def judged(score):
    return dict.fromkeys(COMPONENTS, nan) | {"score": score, "format": 1.0, "judge": score, "failed": 0.0}


# The idea, in verl's own functions


@pytest.mark.parametrize("estimator", ["grpo", "grpo_vectorized", "rloo", "rloo_vectorized"])
def test_alone_in_a_group_a_reward_of_0_has_no_advantage_and_the_others_do_not_see_it(estimator):
    def advantages(rewards, groups):
        rewards = torch.tensor([[0.0, reward] for reward in rewards])
        fn = get_adv_estimator_fn(estimator)
        config = SimpleNamespace(norm_adv_by_std_in_grpo=True)
        values, _ = fn(rewards, torch.ones_like(rewards), index=np.array(groups, dtype=object), config=config)
        return values[:, 0].tolist()

    others = advantages([1.0, 0.5], ["a", "a"])
    assert advantages([1.0, 0.0, 0.5], ["a", "masked a_1_0", "a"]) == pytest.approx(
        [others[0], 0.0, others[1]], abs=1e-6
    )
    if estimator == "grpo":  # mean 3/4: (1 - 3/4) / deviation
        assert others == pytest.approx([0.25 / A_HALF, -0.25 / A_HALF], abs=1e-5)


def test_what_the_judge_did_since_the_last_step():
    metrics = judging.judge_metrics(Counts(30, 8, None), Counts(10, 3, None))
    assert metrics == {"judge/asked": 20, "judge/failed": 5, "judge/failure_rate": 0.25}
    assert judging.judge_metrics(Counts(5, 1, None), Counts(5, 1, None))["judge/failure_rate"] == 0.0


# In a trainer


class Base:
    """Stands for what of verl's trainer needs models; the advantages are its own."""

    def __init__(self, config):
        self.config = config

    _compute_advantage = PPOTrainer._compute_advantage


class Trainer(judging.JudgedTrainer, Base):
    pass


def config(estimator="grpo", **judge):
    algorithm = {"adv_estimator": estimator, "gamma": 1.0, "lam": 1.0, "use_kl_in_reward": False}
    algorithm["gdpo_reward_keys"] = ["format", "judge"]
    return OmegaConf.create(
        {
            "trainer": {"v1": {"trainer_mode": "sync"}},
            "reward": {"reward_kwargs": {"judge": judge} if judge else {}},
            "algorithm": algorithm,
            "actor_rollout_ref": {"rollout": {"n": 4}},
        }
    )


def put(queue, rollouts):
    """A batch of {key: components} as the agent loop leaves it: one, two, three ... tokens, the reward on the last."""
    keys = list(rollouts)
    masks = [torch.ones(2 + i) for i in range(len(keys))]
    scores = [
        torch.cat([torch.zeros(len(m) - 1), torch.tensor([c["score"]])])
        for m, c in zip(masks, rollouts.values(), strict=True)
    ]
    columns = {
        "uid": NonTensorStack.from_list([NonTensorData(key.split("_")[0]) for key in keys]),
        "extra_fields": NonTensorStack.from_list([NonTensorData({"reward_extra_info": c}) for c in rollouts.values()]),
        "response_mask": nested_tensor_from_tensor_list(masks),
        "rm_scores": nested_tensor_from_tensor_list(scores),
    }
    tags = [{} for _ in keys]
    queue.kv_batch_put(keys=keys, partition_id="train", tags=tags, fields=TensorDict(columns, batch_size=len(keys)))
    return KVBatchMeta(partition_id="train", keys=keys, tags=tags)


def advantages(queue, batch):
    data = queue.kv_batch_get(keys=batch.keys, partition_id="train", select_fields=["advantages"])
    queue.kv_clear(keys=batch.keys, partition_id="train")
    return [float(row[0]) for row in data["advantages"].unbind()]


def workers(*counts):
    """Ray actors whose reward manager says these counts (None: a manager that counts nothing)."""
    import ray

    @ray.remote
    class Worker:
        def __init__(self, counts):
            self.reward_manager = SimpleNamespace(judge_counts=lambda: counts)

        async def compute_score(self):  # as in verl, an actor with an event loop
            pass

    return [Worker.remote(each) for each in counts]


def trainer(*counts, **settings):
    made = Trainer(config(**settings))
    made.reward_loop_manager = SimpleNamespace(reward_loop_workers=workers(*counts))
    return made


ROLLOUTS = {"a_0_0": judged(1.0), "a_1_0": MASKED, "a_2_0": judged(0.5), "b_0_0": MASKED, "b_1_0": MASKED}


@pytest.mark.slow  # Ray and a TransferQueue: ten seconds to start
def test_a_masked_sample_leaves_its_groups_advantages_alone(queue):
    metrics, batch = {}, put(queue, ROLLOUTS)
    trainer(Counts(3, 2, None), None, fallback="mask")._compute_advantage(batch, metrics)
    alone = 0.25 / A_HALF
    assert advantages(queue, batch) == pytest.approx([alone, 0.0, -alone, 0.0, 0.0], abs=1e-5)
    assert metrics == {"judge/asked": 3, "judge/failed": 2, "judge/failure_rate": 2 / 3, "judge/masked_samples": 3}


@pytest.mark.slow
def test_without_mask_a_failure_counts_with_what_its_fallback_gave(queue):
    metrics, batch = {}, put(queue, ROLLOUTS)
    trainer(Counts(3, 2, None), fallback="zero")._compute_advantage(batch, metrics)
    # 1, 0, 1/2: mean 1/2, deviation 1/2
    assert advantages(queue, batch) == pytest.approx([1.0, -1.0, 0.0, 0.0, 0.0], abs=1e-5)
    assert "judge/masked_samples" not in metrics


@pytest.mark.slow
def test_a_judge_that_failed_too_often_ends_the_run_before_the_update(queue):
    batch = put(queue, ROLLOUTS)
    with pytest.raises(JudgeStopped, match="failed 60%"):
        trainer(Counts(3, 0, None), Counts(5, 3, "the judge failed 60%"), url="x")._compute_advantage(batch, {})
    queue.kv_clear(keys=batch.keys, partition_id="train")


@pytest.mark.slow
def test_gdpo_runs_in_a_v1_trainer_once_mended(queue):
    components = {"a_0_0": (1.0, 1.0), "a_1_0": (1.0, 0.0), "b_0_0": (0.0, 0.0), "b_1_0": (1.0, 0.0)}
    rollouts = {key: judged(judge) | {"format": form} for key, (form, judge) in components.items()}
    batch = put(queue, rollouts)
    made = trainer(estimator="gdpo")
    made._compute_advantage(batch, {})
    first, second, third, fourth = advantages(queue, batch)
    # by hand: group a differs in judge alone (+z, -z with z = 1/sqrt(2)), group b in format alone (-z, +z); the whole is
    # then whitened over 2, 3, 4 and 5 tokens, which keeps the order
    assert first == pytest.approx(fourth, abs=1e-5) and second == pytest.approx(third, abs=1e-5) and second < 0 < first


def test_where_no_model_judges_nobody_is_asked():
    assert not trainer()._judge_asked and not trainer()._masks


def test_the_trainer_says_that_it_is_there():
    made = Trainer(config(fallback="mask"))
    assert OmegaConf.select(made.config, OUR_TRAINER) == "sync" and made._masks
