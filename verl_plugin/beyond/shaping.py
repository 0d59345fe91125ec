"""The trainers' side of `sv6d.beyond`: advantages that Table 3 does not have, and their state in checkpoints.

verl hands an advantage estimator neither the tasks of the samples nor a place for state, so this computes GRPO's advantages
again after verl did (a vector of one number a sample), beside everything else that verl did there.
"""

import json
import logging
from collections import defaultdict

import numpy as np
import torch
import transfer_queue as tq
from tensordict import TensorDict
from verl.utils.tensordict_utils import nested_tensor_from_tensor_list

from ..replay_buffer import column
from ..surviving.checkpoint_folder import resumed_from, saved_in
from .advantages import Advantages, Rollouts, TaskMoments, advantages
from .settings import Beyond, read_settings

logger = logging.getLogger(__name__)

STATE = "task_moments.json"


class ShapingTrainer:
    """Mixin over a V1 trainer; idle where `sv6d.beyond` is off. It stands behind `JudgedTrainer`, which takes masked samples
    out of their groups."""

    _beyond = Beyond()
    _moments: TaskMoments | None = None

    def __init__(self, config):
        self._beyond = read_settings(config)
        if self._beyond.task_ema:
            self._moments = TaskMoments(self._beyond.task_ema.decay)
        super().__init__(config)

    def _compute_advantage(self, batch, metrics):
        computed = super()._compute_advantage(batch, metrics)
        if any(self._beyond):
            metrics.update(self._shape(batch))
        return computed

    def _shape(self, batch) -> dict[str, float]:
        """Write the advantages of the batch's real samples; its padding has no tokens that train."""
        real = [(key, tag) for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        keys = [key for key, _ in real]
        _refuse_several_outputs(keys)
        earned = "token_level_rewards" if self.config.algorithm.use_kl_in_reward else "rm_scores"
        columns = ["uid", "data_source", "response_mask", *{earned, "rm_scores"}]
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=columns)
        rollouts = Rollouts(
            groups=column(data, "uid"),
            tasks=column(data, "data_source"),
            rewards=_sums(data[earned]),
            lengths=np.array([tag["response_len"] for _, tag in real], dtype=float),
            scores=_sums(data["rm_scores"]),
        )
        found = advantages(
            rollouts,
            self._beyond,
            self._moments,
            by_std=self.config.algorithm.get("norm_adv_by_std_in_grpo", True),
            longest=self.config.data.max_response_length,
        )
        masks = data["response_mask"].unbind()
        tokens = nested_tensor_from_tensor_list(
            [mask.to(torch.float32) * value for mask, value in zip(masks, found.values, strict=True)]
        )
        fields = TensorDict({"advantages": tokens, "returns": tokens}, batch_size=len(keys))
        tq.kv_batch_put(keys=keys, partition_id=batch.partition_id, fields=fields)
        return shaping_metrics(rollouts.tasks, found, self._beyond)

    def _save_checkpoint(self):
        if self._moments is not None:
            (saved_in(self) / STATE).write_text(json.dumps(self._moments.state()))
        super()._save_checkpoint()

    def _load_checkpoint(self):
        super()._load_checkpoint()
        folder = resumed_from(self)
        if not folder or self._moments is None:
            return
        if (folder / STATE).exists():
            self._moments = TaskMoments(self._moments.decay, json.loads((folder / STATE).read_text()))
        else:
            logger.warning("%s has no %s: each task's moments begin with its next rewards", folder, STATE)


def shaping_metrics(tasks, found: Advantages, beyond: Beyond) -> dict[str, float]:
    """Of what is on, by task: the deviation that advantages were divided by, and the means of the groups' weights and of the
    length rewards."""
    metrics = {f"task/{task}/ema_deviation": deviation for task, deviation in found.deviations.items()}
    shown = {"difficulty_weight": beyond.difficulty and found.weights, "length_reward": beyond.length and found.lengths}
    of_task = defaultdict(list)
    for index, task in enumerate(tasks):
        of_task[task].append(index)
    for name, values in shown.items():
        if values is not None:
            metrics |= {f"task/{task}/{name}": float(values[rows].mean()) for task, rows in sorted(of_task.items())}
    return metrics


def _sums(tokens) -> np.ndarray:
    return np.array([float(row.sum()) for row in tokens.unbind()])


def _refuse_several_outputs(keys) -> None:
    """verl compares the last outputs of sessions (`<group>_<session>_<index>`); here a sample is a session."""
    if len({key.rsplit("_", 1)[0] for key in keys}) < len(keys):
        raise ValueError(
            "sv6d.beyond: this agent loop hands in several outputs a session, which task_ema, difficulty and length do not "
            "know; switch them off"
        )
