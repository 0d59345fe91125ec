"""What our trainers add to a step's measurements: every rollout recorded, and metrics by task and reward component.

Rollouts go to `sv6d.record_dir` (`sv6d.reports.recorder.Recorder`), with the texts of some (`sv6d.record_responses`); where
it is null or absent, nothing is recorded. What is measured is there once the advantages are, and gone after the step: it is
fetched on a thread of its own while the driver waits for the update. Rollouts that cannot be measured are counted and told.
"""

import json
import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf, open_dict
from verl.utils.fs import copy_to_local

from ...data_mixers.torch_loader import PositionLoader
from ...data_mixers.verl_dataset import MixtureDataset
from ...reports.recorder import METRICS, Recorder, set_aside
from .. import mends
from ..problems import PROBLEMS
from ..replay_buffer import column
from ..rollouts import constrained
from .rollout_frame import end_tokens, ended_by_itself, fresh_difference, pick_texts, rollout_frame
from .task_metrics import task_metrics

log = logging.getLogger(__name__)

TEXTS = 52  # a step: the best, the worst and two others of each of 13 tasks


def require_plugin() -> None:
    """Refuse to train with a half-registered plug-in.

    Raises:
        RuntimeError: says what could not be registered or mended, and why.
    """
    if PROBLEMS:
        raise RuntimeError("sv6d cannot train, its plug-in did not load whole: " + "; ".join(PROBLEMS))
    mends.require("verl")


def texts_a_step(config: DictConfig) -> int | None:
    """`sv6d.record_responses`: how many rollouts of a step keep their text; None: all.

    Raises:
        ValueError: it is neither a number nor `all` or `none`.
    """
    asked = OmegaConf.select(config, "sv6d.record_responses", default=TEXTS)
    if isinstance(asked, int) and not isinstance(asked, bool) and asked >= 0:
        return asked
    if asked not in ("all", "none"):
        raise ValueError(
            f"sv6d.record_responses={asked}: give the number of rollouts a step whose text is kept (the default, {TEXTS}, is "
            "the best, the worst and two at random of each task), all, or none"
        )
    return None if asked == "all" else 0


class Measured(NamedTuple):
    """What one batch came to."""

    rollouts: pd.DataFrame | None
    """None where they could not be measured."""
    difference: float | None
    """`fresh_difference`; None where there is nothing to compare."""
    seconds: float
    lost: int = 0
    """Rollouts that could not be measured."""
    reason: str = ""


class RecordingTrainer:
    """Mixin over a V1 trainer. `base_mode` is the mode of the trainer under it, by whose name verl asks questions."""

    base_mode: str
    kl_of: Mapping[str, float] = MappingProxyType({})  # by key; `KLTrainer` sets it where it measures

    def __init__(self, config):
        require_plugin()
        if OmegaConf.select(config, "actor_rollout_ref.rollout.agent.default_agent_loop") == "sv6d_constrained":
            constrained.read_settings(config)  # a wrong one would fail rollout after rollout
        with open_dict(config):
            config.trainer.v1.trainer_mode = self.base_mode
        super().__init__(config)
        self._texts = texts_a_step(config)
        self._recorder = None
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="sv6d-recording")
        self._measuring: list[Future[Measured]] = []

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
        if directory and self.config.trainer.get("val_only", False):
            set_aside(Path(directory) / METRICS)  # a look at an earlier checkpoint: what was recorded after it stays
            directory = None
        if not directory:
            return super().fit(agent_loop_manager)
        mixture = getattr(self.train_dataset, "mixture", None)  # a dataset that is not ours has none
        about = mixture and {"mixture": mixture.requested(0, len(self.train_dataset))}
        with Recorder(directory, resume_step=self.global_steps, about=about) as self._recorder:
            return super().fit(agent_loop_manager)

    def _update_actor(self, batch, metrics):
        self._measuring.append(self._aside.submit(self._measure, batch, self.global_steps))
        return super()._update_actor(batch, metrics)

    def _compute_metrics(self, batch, metrics, timing_raw, global_steps, epoch):
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        start = time.perf_counter()
        if not self._measuring:  # the actor was not updated: its critic still warms up
            self._measuring.append(self._aside.submit(self._measure, batch, global_steps))
        found = [measuring.result() for measuring in self._measuring]
        self._measuring.clear()
        lost = sum(one.lost for one in found)
        metrics["sv6d/unmeasured_rollouts"] = lost
        metrics["sv6d/padded_sequences"] = len(batch.keys) - lost
        tables = [one.rollouts for one in found if one.rollouts is not None]
        if tables:
            rollouts = pd.concat(tables, ignore_index=True)
            metrics.update(task_metrics(rollouts))
            metrics["sv6d/padded_sequences"] -= len(rollouts)
        if isinstance(self.train_dataset, MixtureDataset):
            metrics.update(self.train_dataset.metrics(self.train_dataloader.position))
        if differences := [one.difference for one in found if one.difference is not None]:
            metrics["sv6d/fresh_rollout_probs_diff_max"] = max(differences)
        if self._recorder is not None:
            if lost:
                self._recorder.lose(global_steps, lost, next(one.reason for one in found if one.lost))
            if tables:
                self._recorder.write(rollouts, step=global_steps)
            metrics["sv6d/unrecorded_rollouts"] = self._recorder.dropped
        metrics["sv6d/record_seconds_beside_update"] = sum(one.seconds for one in found)
        metrics["timing_s/sv6d_record"] = time.perf_counter() - start

    def _measure(self, batch, step) -> Measured:
        """Whatever keeps a batch from being measured costs its rows, not the run."""
        start = time.perf_counter()
        real = [(key, tag) for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        keys, tags = [key for key, _ in real], [tag for _, tag in real]
        try:
            rollouts, difference = self._rollouts(keys, tags, batch.partition_id, step)
        except Exception as error:
            log.exception("step %d: %d rollouts could not be measured and are not recorded", step, len(keys))
            reason = f"not measured: {type(error).__name__}: {error}"
            return Measured(None, None, time.perf_counter() - start, len(keys), reason)
        return Measured(rollouts, difference, time.perf_counter() - start)

    def _rollouts(self, keys, tags, partition_id: str, step: int) -> tuple[pd.DataFrame, float | None]:
        bypass = (self.config.algorithm.get("rollout_correction") or {}).get("bypass_mode", False)
        comparable = self.config.actor_rollout_ref.rollout.calculate_log_probs and not bypass
        fields = ["data_source", "extra_info", "extra_fields", "rm_scores", "response_mask", "advantages"]
        fields += [] if bypass else ["entropy"]  # in bypass mode nobody computes it
        fields += ["rollout_log_probs", "old_log_probs"] if comparable else []
        data = tq.kv_batch_get(keys=keys, partition_id=partition_id, select_fields=fields)
        rollouts = rollout_frame(keys, tags, data, step=step, limits=self._limits(tags), kl_of=self.kl_of)
        self._read_responses(rollouts, partition_id, step)
        return rollouts, fresh_difference(tags, data, step=step) if comparable else None

    @cached_property
    def _stops(self) -> set[int]:
        return end_tokens(self.tokenizer, copy_to_local(self.config.actor_rollout_ref.model.path))

    def _limits(self, tags: list[dict[str, Any]]) -> list[int]:
        """How many tokens each response could have, beside its prompt."""
        longest, context = self.config.data.max_response_length, self.config.actor_rollout_ref.rollout.max_model_len
        return [longest if context is None else min(longest, context - tag["prompt_len"]) for tag in tags]

    def _read_responses(self, rollouts: pd.DataFrame, partition_id: str, step: int) -> None:
        """The texts that are kept; and of responses as long as they could be, whether they ended there by themselves."""
        kept = pick_texts(rollouts, self._texts, step) if self._recorder is not None else {}
        full = set(np.flatnonzero(rollouts["truncated"]).tolist())
        rows = sorted({*kept, *full})
        if not rows:
            return
        keys = rollouts["uid"].iloc[rows].tolist()
        data = tq.kv_batch_get(keys=keys, partition_id=partition_id, select_fields=["responses", "reward_model"])
        responses = dict(zip(rows, data["responses"].unbind(), strict=True))
        truths = dict(zip(rows, column(data, "reward_model"), strict=True))
        rollouts["truncated"] = [
            row in full and not ended_by_itself(responses[row], self._stops) for row in rollouts.index
        ]
        texts = {row: self.tokenizer.decode(responses[row], skip_special_tokens=True) for row in kept}
        rollouts["response"] = [texts.get(row) for row in rollouts.index]
        rollouts["ground_truth"] = [
            _text(truths[row].get("ground_truth")) if row in texts else None for row in rollouts.index
        ]
        rollouts["text_at_random"] = [kept.get(row) for row in rollouts.index]


def _text(truth: Any) -> str | None:
    """Another package's ground truth may be any JSON."""
    return truth if truth is None or isinstance(truth, str) else json.dumps(truth, default=str)
