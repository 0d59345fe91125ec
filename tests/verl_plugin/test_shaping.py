"""`sv6d.beyond` in a trainer: verl's own advantages on a real TransferQueue, then ours in their place; and what a checkpoint
keeps. The arithmetic itself is in test_advantages.py."""

import json
from math import nan, sqrt

import pytest
import torch
from omegaconf import OmegaConf
from sv6d.rewards import COMPONENTS
from sv6d.verl_plugin.beyond.shaping import STATE, ShapingTrainer
from sv6d.verl_plugin.judging import JudgedTrainer
from tensordict import NonTensorData, NonTensorStack, TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.utils.tensordict_utils import nested_tensor_from_tensor_list

TASKS = {"a": "x", "b": "x", "c": "y", "pad": "x"}
MASKED = dict.fromkeys(COMPONENTS, nan) | {"score": 0.0, "format": 1.0, "failed": 1.0}


def scored(score):
    return dict.fromkeys(COMPONENTS, nan) | {"score": score, "format": 1.0, "failed": 0.0}


class Base:
    """Stands for what of verl's trainer needs models; the advantages are its own."""

    def __init__(self, config):
        self.config, self.global_steps, self.saved = config, 0, False

    _compute_advantage = PPOTrainer._compute_advantage

    def _save_checkpoint(self):
        self.saved = True

    def _load_checkpoint(self):
        self.global_steps = 7


class Trainer(JudgedTrainer, ShapingTrainer, Base):
    pass


def trainer(beyond, folder="."):
    algorithm = {"adv_estimator": "grpo", "gamma": 1.0, "lam": 1.0, "use_kl_in_reward": False}
    algorithm["norm_adv_by_std_in_grpo"] = True
    made = Trainer(
        OmegaConf.create(
            {
                "sv6d": {"beyond": beyond},
                "trainer": {"v1": {"trainer_mode": "sync"}, "default_local_dir": str(folder), "resume_mode": "auto"},
                "reward": {"reward_kwargs": {"judge": {"fallback": "mask"}}},
                "algorithm": algorithm,
                "data": {"max_response_length": 100},
                "actor_rollout_ref": {"rollout": {"n": 2}},
            }
        )
    )
    made._judge_asked = False  # no workers to ask; what they masked is in the components
    return made


def put(queue, rollouts):
    """A batch of {key: components} as the agent loop leaves it: two, three, four ... tokens, the reward on the last."""
    keys = list(rollouts)
    masks = [torch.ones(2 + i) for i in range(len(keys))]
    scores = [
        torch.cat([torch.zeros(len(m) - 1), torch.tensor([c["score"]])])
        for m, c in zip(masks, rollouts.values(), strict=True)
    ]
    columns = {
        "uid": NonTensorStack.from_list([NonTensorData(key.split("_")[0]) for key in keys]),
        "data_source": NonTensorStack.from_list([NonTensorData(TASKS[key.split("_")[0]]) for key in keys]),
        "extra_fields": NonTensorStack.from_list([NonTensorData({"reward_extra_info": c}) for c in rollouts.values()]),
        "response_mask": nested_tensor_from_tensor_list(masks),
        "rm_scores": nested_tensor_from_tensor_list(scores),
    }
    tags = [{"response_len": len(mask)} for mask in masks]
    queue.kv_batch_put(keys=keys, partition_id="train", tags=tags, fields=TensorDict(columns, batch_size=len(keys)))
    return KVBatchMeta(partition_id="train", keys=keys, tags=tags)


def advantages(queue, batch):
    """By sample, of its first token; all its tokens have the same."""
    data = queue.kv_batch_get(keys=batch.keys, partition_id="train", select_fields=["advantages", "returns"])
    queue.kv_clear(keys=batch.keys, partition_id="train")
    rows = data["advantages"].unbind()
    assert [len(row) for row in rows] == [2 + i for i in range(len(rows))]
    assert all(bool((row == row[0]).all()) for row in rows)
    assert all(torch.equal(row, back) for row, back in zip(rows, data["returns"].unbind(), strict=True))
    return [float(row[0]) for row in rows]


ROLLOUTS = {
    "a_0_0": scored(0.0),
    "b_0_0": scored(1.0),
    "a_1_0": scored(1.0),
    "b_1_0": scored(1.0),
    "c_0_0": scored(0.8),
}
ROLLOUTS |= {"c_1_0": scored(0.9), "c_2_0": MASKED}


@pytest.mark.slow  # Ray and a TransferQueue: ten seconds to start
def test_off_verls_advantages_stay(queue):
    metrics, batch = {}, put(queue, ROLLOUTS)
    trainer({})._compute_advantage(batch, metrics)
    half = sqrt(0.5)  # every group of two has deviation |difference| * sqrt(1/2)
    assert advantages(queue, batch) == pytest.approx([-half, 0, half, 0, -half, half, 0], abs=1e-4)
    assert metrics == {"judge/masked_samples": 1}


@pytest.mark.slow
def test_each_task_is_divided_by_its_own_deviation_and_a_masked_sample_stays_out(queue):
    metrics, batch = {}, put(queue, ROLLOUTS)
    made = trainer({"task_ema": {"decay": 0.9}})
    made._compute_advantage(batch, metrics)
    # x: 0 1 1 1, deviation sqrt(3)/4; y: 0.8 0.9, deviation 0.05 (with the masked 0 it would be 0.4)
    expected = [-2 / sqrt(3), 0, 2 / sqrt(3), 0, -1, 1, 0]
    assert advantages(queue, batch) == pytest.approx(expected, abs=1e-4)
    assert metrics["task/x/ema_deviation"] == pytest.approx(sqrt(3) / 4)
    assert metrics["task/y/ema_deviation"] == pytest.approx(0.05)
    assert not any("length" in name or "difficulty" in name for name in metrics)


@pytest.mark.slow
def test_lengths_and_difficulty_of_real_samples(queue):
    batch = put(queue, {key: ROLLOUTS[key] for key in ("a_0_0", "a_1_0", "b_0_0", "b_1_0")} | {"pad_0_0": scored(0.0)})
    batch.tags[-1]["is_padding"] = True
    metrics = {}
    made = trainer({"difficulty": {"stage": "hard"}, "length": {"weight": 1, "correct": 1}})
    made._compute_advantage(batch, metrics)
    # a earns 1/2, its weight is 1, and its wrong answer (2 tokens, the right one 3) differs all the same; b is all right
    half = sqrt(0.5)
    assert advantages(queue, batch) == pytest.approx([-half, half, 0, 0, 0], abs=1e-4)
    assert metrics["task/x/difficulty_weight"] == pytest.approx((1 + 1 + 0 + 0) / 4, abs=1e-12)
    # cos(pi 2/3) = -1/2: -(1 - 1/2) / 2 = -1/4 for one of four
    assert metrics["task/x/length_reward"] == pytest.approx(-0.25 / 4)


@pytest.mark.slow
def test_several_outputs_a_session_are_refused(queue):
    batch = put(queue, {"a_0_0": scored(0.0), "a_0_1": scored(1.0)})
    with pytest.raises(ValueError, match="several outputs a session"):
        trainer({"task_ema": {"decay": 0.9}})._compute_advantage(batch, {})
    queue.kv_clear(keys=batch.keys, partition_id="train")


def test_moments_lie_beside_the_checkpoint_and_come_back(tmp_path):
    first = trainer({"task_ema": {"decay": 0.9}}, tmp_path)
    first.global_steps, first._moments.moments = 7, {"x": (0.5, 0.4)}
    first._save_checkpoint()
    assert first.saved
    assert json.loads((tmp_path / "global_step_7" / STATE).read_text()) == {"x": [0.5, 0.4]}
    again = trainer({"task_ema": {"decay": 0.9}}, tmp_path)
    again._load_checkpoint()
    assert again._moments.moments == {"x": (0.5, 0.4)}


def test_a_checkpoint_without_moments_is_said(tmp_path, caplog):
    again = trainer({"task_ema": {"decay": 0.9}}, tmp_path)
    again._load_checkpoint()
    assert again._moments.moments == {} and "global_step_7 has no task_moments.json" in caplog.text


def test_an_option_that_is_off_leaves_nothing_in_a_checkpoint(tmp_path):
    made = trainer({"difficulty": {"stage": "easy"}}, tmp_path)
    made._save_checkpoint()
    made._load_checkpoint()
    assert made.saved and not list(tmp_path.iterdir())


def test_a_wrong_setting_ends_a_run_before_it_starts():
    with pytest.raises(ValueError, match=r"sv6d\.beyond\.task_ema\.decay is 2"):
        trainer({"task_ema": {"decay": 2}})
