"""What our trainers add to a step's measurements: every rollout recorded, and metrics by task and reward component.

Rollouts go to `+sv6d.record_dir` (`sv6d.reports.recorder.Recorder`); where it is null or absent, nothing is recorded.
Metrics are `task/<task>/<name>`.
"""

import logging
import math
import time
from collections import defaultdict
from types import MappingProxyType

import transfer_queue as tq
from omegaconf import OmegaConf, open_dict

from ..data_mixers.torch_loader import PositionLoader
from ..data_mixers.verl_dataset import MixtureDataset
from ..reports.recorder import Recorder
from ..rewards import COMPONENTS
from . import constrained_loop, mends
from .problems import PROBLEMS
from .replay_buffer import column

logger = logging.getLogger(__name__)


def require_plugin() -> None:
    """Refuse to train with a half-registered plug-in.

    Raises:
        RuntimeError: says what could not be registered or mended, and why.
    """
    if PROBLEMS:
        raise RuntimeError("sv6d cannot train, its plug-in did not load whole: " + "; ".join(PROBLEMS))
    mends.require("verl")


def rollout_rows(keys, tags, data, *, step: int, limit: int, decode=None, kl_of=MappingProxyType({})) -> list[dict]:
    """One record a rollout, as the recorder takes them.

    Args:
        keys: TransferQueue keys, `<group>_<session>_<index>`.
        tags: the keys' tags (`response_len`, `min_global_steps`, `max_global_steps`).
        data: fields data_source, extra_info, extra_fields, rm_scores, response_mask, advantages; entropy optionally,
            responses where `decode` is given.
        step: the training step.
        limit: `data.max_response_length`; a response of that many tokens counts as truncated.
        decode: token ids -> text; the text is recorded where it is given.
        kl_of: the KL to the reference by key, of the rollouts that were measured (`KLTrainer`).
    """
    rows = []
    tasks, infos, extras = column(data, "data_source"), column(data, "extra_info"), column(data, "extra_fields")
    scores, masks, advantages = (data[name].unbind() for name in ("rm_scores", "response_mask", "advantages"))
    entropies = data["entropy"].unbind() if "entropy" in data else [None] * len(keys)
    for i, (key, tag) in enumerate(zip(keys, tags, strict=True)):
        mask = masks[i]
        tokens = max(float(mask.sum()), 1.0)
        components = extras[i].get("reward_extra_info") or {}
        row = {
            "step": step,
            "uid": key,
            "task": tasks[i],
            "dataset": str((infos[i] or {}).get("dataset") or ""),
            "prompt": str((infos[i] or {}).get("id") or ""),
            "group": key.split("_")[0],
            "score": float(scores[i].sum()),
            "response_length": int(tag["response_len"]),
            "truncated": int(tag["response_len"]) >= limit,
            "entropy": None if entropies[i] is None else float((entropies[i] * mask).sum() / tokens),
            "kl": kl_of.get(key),
            "version_start": int(tag["min_global_steps"]),
            "version_end": int(tag["max_global_steps"]),
            "advantage": float((advantages[i] * mask).sum() / tokens),
        }
        row.update({name: float(components.get(name, math.nan)) for name in COMPONENTS if name != "score"})
        if decode is not None:
            row["response"] = decode(data["responses"][i])
        rows.append(row)
    return rows


def task_metrics(rows: list[dict]) -> dict[str, float]:
    """Means by task of everything numeric in the rows (NaN and missing values left out), and how many groups learnt
    nothing because all their scores are equal: `task/<task>/<name>`."""
    values, groups = defaultdict(list), defaultdict(lambda: defaultdict(list))
    numeric = ("score", *(c for c in COMPONENTS if c != "score"), "response_length", "truncated", "entropy", "kl")
    for row in rows:
        groups[row["task"]][row["group"]].append(row["score"])
        for name in numeric:
            if row.get(name) is not None and not math.isnan(row[name]):
                values[row["task"], name].append(float(row[name]))
    metrics = {f"task/{task}/{name}": sum(found) / len(found) for (task, name), found in values.items()}
    for task, scores in groups.items():
        metrics[f"task/{task}/groups"] = len(scores)
        metrics[f"task/{task}/groups_without_signal"] = sum(len(set(s)) == 1 for s in scores.values()) / len(scores)
    return metrics


def fresh_difference(tags, data, *, step: int) -> float | None:
    """The largest difference of a token's probability between rollout and actor, over the rollouts that the present
    policy wrote from end to end; None where there are none.

    verl's own `training/rollout_probs_diff_max` compares stale rollouts too, which differ as they should, and so says
    nothing of the weight sync when rollouts are asynchronous.
    """
    differences = [
        float(((rollout.exp() - actor.exp()) * mask).abs().max())
        for tag, rollout, actor, mask in zip(
            tags,
            *(data[name].unbind() for name in ("rollout_log_probs", "old_log_probs", "response_mask")),
            strict=True,
        )
        if tag["min_global_steps"] == step - 1
    ]
    return max(differences, default=None)


class RecordingTrainer:
    """Mixin over a V1 trainer. `base_mode` is the mode of the trainer under it, by whose name verl asks questions."""

    base_mode: str
    kl_of = MappingProxyType({})  # by key; `KLTrainer` sets it where it measures

    def __init__(self, config):
        require_plugin()
        if OmegaConf.select(config, "actor_rollout_ref.rollout.agent.default_agent_loop") == "sv6d_constrained":
            constrained_loop.read_settings(config)  # a wrong one would fail rollout after rollout
        with open_dict(config):
            config.trainer.v1.trainer_mode = self.base_mode
        super().__init__(config)
        self._record_text = bool(OmegaConf.select(config, "sv6d.record_responses", default=False))
        self._recorder = None

    def _init_dataloader(self):
        super()._init_dataloader()
        if isinstance(self.train_dataset, MixtureDataset):
            loader = self.train_dataloader  # ours saves a position, from which any number of workers can go on
            self.train_dataloader = PositionLoader(
                self.train_dataset, loader.batch_size, loader.num_workers, loader.collate_fn
            )

    def fit(self, agent_loop_manager):
        """Train; the recorder is open meanwhile. `global_steps` is here the step that training continues after."""
        directory = OmegaConf.select(self.config, "sv6d.record_dir", default=None)
        if not directory:
            return super().fit(agent_loop_manager)
        mixture = getattr(self.train_dataset, "mixture", None)  # a dataset that is not ours has none
        about = mixture and {"mixture": mixture.requested(0, len(self.train_dataset))}
        with Recorder(directory, resume_step=self.global_steps, about=about) as self._recorder:
            return super().fit(agent_loop_manager)

    def _compute_metrics(self, batch, metrics, timing_raw, global_steps, epoch):
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        start = time.perf_counter()
        rows, difference = self._measure(batch, global_steps)
        metrics.update(task_metrics(rows))
        metrics["sv6d/padded_sequences"] = len(batch.keys) - len(rows)
        if isinstance(self.train_dataset, MixtureDataset):
            metrics.update(self.train_dataset.metrics(self.train_dataloader.position))
        if difference is not None:
            metrics["sv6d/fresh_rollout_probs_diff_max"] = difference
        if self._recorder is not None:
            self._recorder.write(rows, step=global_steps)
        metrics["timing_s/sv6d_record"] = time.perf_counter() - start

    def _measure(self, batch, step):
        """The batch's rows and `fresh_difference`, from one fetch."""
        real = [(key, tag) for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        keys, tags = [key for key, _ in real], [tag for _, tag in real]
        bypass = (self.config.algorithm.get("rollout_correction") or {}).get("bypass_mode", False)
        comparable = self.config.actor_rollout_ref.rollout.calculate_log_probs and not bypass
        fields = ["data_source", "extra_info", "extra_fields", "rm_scores", "response_mask", "advantages"]
        fields += [] if bypass else ["entropy"]  # in bypass mode nobody computes it
        fields += ["rollout_log_probs", "old_log_probs"] if comparable else []
        fields += ["responses"] if self._record_text else []
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=fields)
        limit = self.config.data.max_response_length
        decode = self._decode if self._record_text else None
        rows = rollout_rows(keys, tags, data, step=step, limit=limit, decode=decode, kl_of=self.kl_of)
        return rows, fresh_difference(tags, data, step=step) if comparable else None

    def _decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True)
