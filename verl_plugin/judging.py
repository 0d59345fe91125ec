"""The trainers' side of a judge that fails: masked samples leave their groups, and too many failures end the run.

A reward manager sees one sample at a time, and a sample of a group cannot be taken out of it there. Here it can: under a
group id of its own, a sample's advantage is its reward (mean 0, deviation 1), which for a masked sample is 0; and the mean
and deviation of its former group are those of the others. Exact for GRPO, RLOO and whatever else compares within groups;
an estimator that whitens over the whole batch (GDPO, REINFORCE++) counts it there as a sample of average worth.
"""

import ray
import transfer_queue as tq
from omegaconf import OmegaConf
from verl.utils import tensordict_utils as tu

from ..rewards.chain_of_thought import is_masked
from ..rewards.judging.health import Counts, JudgeStopped
from ..rewards.verl_manager import OUR_TRAINER
from .reward_components import reward_components


class JudgedTrainer:
    """Mixin over a V1 trainer; idle where no model judges."""

    def __init__(self, config):
        OmegaConf.update(config, OUR_TRAINER, config.trainer.v1.trainer_mode, force_add=True)
        super().__init__(config)
        settings = OmegaConf.select(config, "reward.reward_kwargs.judge")
        self._judge_asked = settings is not None or bool(OmegaConf.select(config, "reward.reward_model.enable"))
        self._masks = settings is not None and settings.get("fallback") == "mask"
        self._judged_before = Counts(0, 0, None)

    def _compute_advantage(self, batch, metrics):
        """
        Raises:
            JudgeStopped: before the update, where the judge failed too often.
        """
        if self._judge_asked:
            counts = judge_counts(self.reward_loop_manager.reward_loop_workers)
            metrics.update(judge_metrics(counts, self._judged_before))
            self._judged_before = counts
            if counts.stopped:
                raise JudgeStopped(counts.stopped)
        if self._masks:
            metrics["judge/masked_samples"] = len(set_masked_apart(batch))
        return super()._compute_advantage(batch, metrics)


def judge_counts(workers) -> Counts:
    """What the judges of verl's reward loop workers (Ray actors) were asked so far, together."""
    counts = [found for found in ray.get([worker.__ray_call__.remote(_counts_of) for worker in workers]) if found]
    stopped = next((found.stopped for found in counts if found.stopped), None)
    return Counts(sum(found.asked for found in counts), sum(found.failed for found in counts), stopped)


def judge_metrics(now: Counts, before: Counts) -> dict[str, float]:
    """What the judge did since the last step; prefetched rollouts count when they are judged."""
    asked, failed = now.asked - before.asked, now.failed - before.failed
    return {"judge/asked": asked, "judge/failed": failed, "judge/failure_rate": failed / max(asked, 1)}


def set_masked_apart(batch) -> list[str]:
    """Give every masked sample of a TransferQueue batch a group of its own, and return their keys."""
    components = reward_components(batch.keys, batch.partition_id)
    masked = [key for key, found in zip(batch.keys, components, strict=True) if found and is_masked(found)]
    if masked:
        alone = tu.get_tensordict({"uid": [f"masked {key}" for key in masked]})
        tq.kv_batch_put(keys=masked, partition_id=batch.partition_id, fields=alone)
    return masked


def _counts_of(worker) -> Counts | None:
    """Runs in a reward loop worker; another manager than ours counts nothing."""
    counts = getattr(worker.reward_manager, "judge_counts", None)
    return counts() if counts else None
