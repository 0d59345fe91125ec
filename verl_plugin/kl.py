"""The KL between the policy and its reference, measured where it is no penalty. Table 3 has no penalty, and the report states the KL:
below 0.3 after 150 steps (section 5.2).

    sv6d.kl: {every: 10, sample: 0.25}

verl makes a reference policy, the model that training began from, only for a penalty, and then asks it at every step. Here
it is made without one and asked on chosen steps about chosen sequences, after verl has asked the policy about all of them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf
from verl.trainer.ppo.core_algos import kl_penalty_forward
from verl.workers.utils.padding import response_from_nested

from .settings import read_block, require


class KLSettings(NamedTuple):
    """`sv6d.kl`. Also on: the first step, where policy and reference are one and the KL is 0, and the last.

    Attributes:
        every: measure at steps that are multiples of this; 0 measures nothing and makes no reference.
        sample: which part of a step's sequences: up to 1 a share, above 1 their number. Rounded up to whole micro-batches on all ranks.
    """

    every: int = 0
    sample: float = 1.0

    def due(self, step: int, last: int) -> bool:
        return self.every > 0 and (step in (1, last) or step % self.every == 0)

    def number(self, sequences: int, multiple: int) -> int:
        """How many of `sequences` are measured; `sequences` is a multiple of `multiple`, and so is the result."""
        wanted = round(self.sample * sequences) if self.sample <= 1 else int(self.sample)
        return min(max(math.ceil(wanted / multiple), 1) * multiple, sequences)


def read_settings(config: DictConfig) -> KLSettings:
    """
    Raises:
        ValueError: an unknown key, a value out of range, or a penalty that already measures the KL.
    """
    given = read_block(config, "sv6d.kl", KLSettings._fields)
    every = 0 if given.get("every") is None else given["every"]
    sample = given.get("sample", KLSettings().sample)
    require("sv6d.kl.every", every, lambda value: value >= 0 and value == int(value), "a number of steps, or 0 for off")
    require(
        "sv6d.kl.sample",
        sample,
        lambda value: 0 < value <= 1 or (value > 1 and value == int(value)),
        "a share (above 0, up to 1) or a whole number of sequences a step",
    )
    settings = KLSettings(int(every), sample)
    if settings.every:
        _require_measurable(config, settings)
    return settings


def _require_measurable(config: DictConfig, settings: KLSettings) -> None:
    actor, ref = config.actor_rollout_ref.actor, config.actor_rollout_ref.ref
    if actor.use_kl_loss or config.algorithm.use_kl_in_reward:
        raise ValueError(
            "sv6d.kl measures a KL that is no penalty, and this run has one (actor.use_kl_loss or algorithm.use_kl_in_reward), "
            "which verl itself logs at each step. Set sv6d.kl.every=0"
        )
    if not ref.log_prob_use_dynamic_bsz and ref.log_prob_micro_batch_size_per_gpu is None:
        raise ValueError(
            "sv6d.kl needs actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu: the sequences that the reference reads at once"
        )
    if settings.sample != 1 and OmegaConf.select(config, "algorithm.rollout_correction.bypass_mode"):
        raise ValueError(
            "sv6d.kl.sample: in bypass mode (algorithm.rollout_correction.bypass_mode) nothing but the reference writes "
            "log-probs, and verl then wants them of all sequences. Set sv6d.kl.sample=1"
        )


class SequenceKL(NamedTuple):
    """Two estimates of a sequence's KL(policy || reference), each a mean over its tokens, in nats."""

    k3: float
    k1: float


def sequence_kl(policy: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor) -> SequenceKL | None:
    """With d = log policy - log reference of a token that the policy drew: k1 = d, unbiased, of either sign; and
    k3 = exp(-d) - 1 + d, unbiased as well, never negative and of less variance (Schulman, 2020). verl's, which cuts k3 at 10.

    Args:
        policy, reference: log-probabilities, (tokens,).
        mask: which tokens count, (tokens,).

    Returns:
        None where no token counts.
    """
    tokens = mask.sum()
    if not tokens:
        return None
    means = ((kl_penalty_forward(policy, reference, kind) * mask).sum() / tokens for kind in ("k3", "k1"))
    return SequenceKL(*(float(mean) for mean in means))


def kl_metrics(found: Sequence[SequenceKL]) -> dict[str, float]:
    """Means over sequences of their means over tokens (Table 3's seq-mean-token-mean)."""
    if not found:
        return {}
    k3, k1 = (sum(values) / len(found) for values in zip(*found, strict=True))
    return {"sv6d/kl": k3, "sv6d/kl_k1": k1, "sv6d/kl_sequences": len(found)}


class KLTrainer:
    """Mixin over a V1 trainer; idle where `sv6d.kl.every` is 0 or absent.

    `kl_of` has the KL (k3) of the last step's measured rollouts by their keys. `timing_s/ref` is what a step paid for it.
    """

    def __init__(self, config):
        self._kl = read_settings(config)
        super().__init__(config)
        self.kl_of = {}
        self.use_reference_policy = self.use_reference_policy or self._kl.every > 0

    def _init_resource_pool_mgr(self):
        # Here verl decides by this key whether workers hold a reference. They are configured later and must find no penalty.
        actor = self.config.actor_rollout_ref.actor
        penalty = actor.use_kl_loss
        actor.use_kl_loss = penalty or self._kl.every > 0
        try:
            super()._init_resource_pool_mgr()
        finally:
            actor.use_kl_loss = penalty

    def _compute_ref_log_prob(self, batch, metrics):
        if not self._kl.every:
            return super()._compute_ref_log_prob(batch, metrics)
        if self.local_trigger_step == 0:
            self.kl_of = {}
        if self._kl.due(self.global_steps, self.total_training_steps):
            found = self._measure_kl(self._kl_sample(batch))
            metrics.update(kl_metrics(list(found.values())))
            self.kl_of |= {key: kl.k3 for key, kl in found.items()}
        return batch

    def _kl_sample(self, batch):
        """The sequences of a batch that are measured, drawn by seed and step; padding comes last and only to fill up."""
        section = self.config.actor_rollout_ref["rollout" if self.ref_in_actor else "ref"]
        micro = 1 if section.log_prob_use_dynamic_bsz else section.log_prob_micro_batch_size_per_gpu
        number = self._kl.number(len(batch), multiple=micro * self.actor_rollout_wg.world_size)
        draw = np.random.default_rng([self.config.data.get("seed") or 0, self.global_steps]).random(len(batch))
        order = sorted(range(len(batch)), key=lambda i: (batch.tags[i].get("is_padding", False), draw[i]))
        return batch.select_keys([batch.keys[i] for i in sorted(order[:number])])  # in order: ranks are balanced

    def _measure_kl(self, sample) -> dict[str, SequenceKL]:
        """Have the reference read the sample; it leaves its log-probs where those of the policy lay before."""
        sample.extra_info.update(
            calculate_entropy=False,
            compute_loss=False,
            temperature=self.config.actor_rollout_ref.rollout.temperature,
        )
        if self.ref_in_actor:  # LoRA: the reference is the policy without its adapters
            sample.extra_info["no_lora_adapter"] = True
            self.actor_rollout_wg.compute_log_prob(sample)
        else:
            self.ref_policy_wg.compute_ref_log_prob(sample)
        fields = ["log_probs", "old_log_probs", "response_mask"]
        data = tq.kv_batch_get(keys=sample.keys, partition_id=sample.partition_id, select_fields=fields)
        reference = response_from_nested(data["log_probs"], data["response_mask"])
        columns = (data["old_log_probs"].unbind(), reference.unbind(), data["response_mask"].unbind())
        found = {
            key: sequence_kl(*row)
            for key, tag, *row in zip(sample.keys, sample.tags, *columns, strict=True)
            if not tag.get("is_padding", False)
        }
        return {key: kl for key, kl in found.items() if kl is not None}
