"""The trainers' side of the balanced replay buffer: what was dispatched, replacements, checkpoints, metrics.

verl's trainer knows the tasks of the prompts that it dispatches, and the buffer is told nothing of them; this tells it.
"""

import json
from collections import Counter
from collections.abc import Mapping

from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import collate_fn

from ..data_mixers.quota import Tally
from .beyond.settings import read_filtering
from .replay_buffer import Balanced, BalancedAsync, column
from .surviving.checkpoint_folder import resumed_from, saved_in

STATE = "balance.json"


def mixture_metrics(tally: Tally, debt: Mapping[str, int]) -> dict[str, float]:
    """A step's metrics: by task the shares requested and trained (0 to 1), the groups that it is owed now and those of
    it that were replaced; and in all the groups replaced by other rows, rolled out again and stood in for."""
    steps = {"requested": tally.requested, "realised": tally.trained}
    replaced = tally.refilled + tally.repeated
    metrics = {
        "sv6d/refilled_groups": tally.refilled.total(),
        "sv6d/repeated_groups": tally.repeated.total(),
        "sv6d/skipped_groups": tally.skipped,
        "sv6d/balance_wait_seconds": tally.waited,
    }
    for task in sorted({*tally.requested, *tally.trained, *debt}):
        for name, counts in steps.items():
            metrics[f"mixture/{task}/{name}"] = counts[task] / max(counts.total(), 1)
        metrics[f"mixture/{task}/debt"] = debt.get(task, 0)
        metrics[f"mixture/{task}/replaced"] = replaced[task]
    return metrics


def filter_metrics(taken: Counter[str], passed: Counter[str]) -> dict[str, float]:
    """A step's groups that taught nothing: those replaced, in all and by task, and those that trained all the same."""
    by_task = {f"mixture/{task}/filtered": count for task, count in sorted(taken.items())}
    return {"sv6d/filtered_groups": taken.total(), "sv6d/unfiltered_groups": passed.total(), **by_task}


class BalancedTrainer:
    """Mixin over a V1 trainer; idle where the replay buffer is another one."""

    def _build_replay_buffer(self):
        buffer = super()._build_replay_buffer()
        if isinstance(buffer, Balanced):
            self._filter_groups(buffer)
        if isinstance(buffer, BalancedAsync):
            buffer.connect(refill=self._dispatch_other_rows, repeat=self._dispatch_again)
        return buffer

    def _filter_groups(self, buffer: Balanced) -> None:
        """verl leaves the filtering of groups to its own buffers."""
        filtering = read_filtering(self.config, synchronous=not isinstance(buffer, BalancedAsync))
        if filtering:
            buffer.filter_groups(filtering, self.config.data.train_batch_size)

    def _init_dataloader(self):
        super()._init_dataloader()
        if isinstance(self.replay_buffer, BalancedAsync) and not hasattr(self.train_dataset, "refill"):
            raise TypeError(
                f"{type(self.train_dataset).__name__} has no refill(task, number), with which the balanced replay buffer "
                f"replaces a failed group by its task: set data.custom_cls to MixtureDataset (docs/data.md), or leave "
                f"trainer.v1.sampler.custom_sampler unset"
            )

    def _next_train_batch(self, num_prompts=None):
        if num_prompts is None and isinstance(self.replay_buffer, BalancedAsync):  # the batch of a step
            num_prompts = self.replay_buffer.quota.next_batch(self.config.data.train_batch_size)
        batch = super()._next_train_batch(num_prompts)
        if isinstance(self.replay_buffer, Balanced):
            groups = zip(column(batch, "uid"), column(batch, "data_source"), strict=True)
            self.replay_buffer.quota.dispatch(dict(groups))
        return batch

    def _dispatch_other_rows(self, tasks: list[str]) -> dict[str, str]:
        """Another row of each task: `refill(task, number)` of the dataset, fed through verl's own way of fetching."""
        number = self.replay_buffer.quota.refill_number
        rows = [collate_fn([self.train_dataset.refill(task, number(task))]) for task in tasks]
        stream, self.train_dataloader_it = self.train_dataloader_it, iter(rows)
        try:
            batch = super()._next_train_batch(len(rows))
        finally:
            self.train_dataloader_it = stream
        self._submit_batch_to_rollout(batch)
        return dict(zip(column(batch, "uid"), tasks, strict=True))

    def _dispatch_again(self, prompts) -> None:
        tu.assign_non_tensor_data(prompts, "global_steps", self.global_steps)
        self._submit_batch_to_rollout(prompts)

    def _save_checkpoint(self):
        if isinstance(self.replay_buffer, BalancedAsync):
            (saved_in(self) / STATE).write_text(json.dumps(self.replay_buffer.quota.state()))
        super()._save_checkpoint()  # its last act names this checkpoint the latest

    def _load_checkpoint(self):
        super()._load_checkpoint()
        folder = resumed_from(self)
        if folder and isinstance(self.replay_buffer, BalancedAsync):
            path = folder / STATE
            self.replay_buffer.restore(json.loads(path.read_text()) if path.exists() else None)

    def _compute_metrics(self, batch, metrics, timing_raw, global_steps, epoch):
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        if isinstance(self.replay_buffer, Balanced):
            quota = self.replay_buffer.quota
            metrics.update(mixture_metrics(quota.report(), quota.debt))
        if getattr(self.replay_buffer, "filter", None):
            metrics.update(filter_metrics(*self.replay_buffer.filter.report()))
