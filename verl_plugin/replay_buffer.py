"""verl's replay buffers with quotas: every step has each task's share of the mixture (5.2.4), not what finished first.

verl takes whichever groups are finished first and replaces lost ones by whatever comes next, so a step can miss a task and
a task that fails often is trained less; and it looks every 2 seconds, which rounds each step up to that. What trains is
decided in `data_mixers/quota.py`; docs/verl.md ("Which groups train") has the settings.

    trainer.v1.sampler.custom_sampler.path=pkg://sv6d.verl_plugin.replay_buffer
    trainer.v1.sampler.custom_sampler.name=BalancedReplayBuffer
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import transfer_queue as tq
from tensordict import TensorDict
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync

from ..data_mixers.quota import Patience, Quota
from .beyond.group_filter import GroupFilter
from .beyond.settings import GroupFiltering

_SETTINGS = {
    "poll_interval": 0.05,
    "wait_for_oldest": Patience().oldest,
    "wait_for_task": Patience().task,
    "spares": 1.0,
}


def sampler_settings(given: Mapping[str, Any] | None) -> dict[str, float]:
    """`trainer.v1.sampler.sampler_kwargs` with what is left out.

    Raises:
        ValueError: an unknown setting, or one below 0.
    """
    where, given = "trainer.v1.sampler.sampler_kwargs", dict(given or {})
    if unknown := set(given) - set(_SETTINGS):
        raise ValueError(f"{where}.{min(unknown)} is unknown; this buffer takes {', '.join(_SETTINGS)}")
    settings = {name: float(value) for name, value in (_SETTINGS | given).items()}
    for name, value in settings.items():
        if not value >= 0:
            raise ValueError(f"{where}.{name} is {value:g}; set it to 0 or more")
    return settings


def BalancedReplayBuffer(trainer_mode: str, sampler_kwargs: Mapping[str, float] | None = None, **kwargs):
    """The buffer for `trainer_mode`: `BalancedSync`, whose batch is what was dispatched, or `BalancedAsync`.

    Args:
        sampler_kwargs: seconds: `poll_interval` between two looks, `wait_for_oldest` and `wait_for_task` (`Patience`); and
            `spares` (`Quota`).

    Raises:
        ValueError: an unknown setting, or one below 0.
    """
    sampler_settings(sampler_kwargs)
    buffer = BalancedSync if trainer_mode == "sync" else BalancedAsync
    return buffer(trainer_mode=trainer_mode, sampler_kwargs=sampler_kwargs, **kwargs)


def column(data, field) -> list:
    """A non-tensor column of a TransferQueue batch as a plain list (it comes as a LinkedList, a stack or an array)."""
    return [value if isinstance(value, str | dict) else getattr(value, "data", value) for value in data[field]]


class Balanced:
    """Mixin over verl's buffers that keeps the quota's books. The trainer tells what it dispatches (`quota.dispatch`).

    Args:
        clock: seconds, of any origin.

    Attributes:
        while_waiting: called with the partition before each wait for rollouts, where one is set.
    """

    while_waiting: Callable[[str], None] | None = None

    def __init__(self, *, sampler_kwargs, clock: Callable[[], float] = time.monotonic, **kwargs):
        given = sampler_settings(sampler_kwargs)
        super().__init__(sampler_kwargs=sampler_kwargs, poll_interval=given["poll_interval"], **kwargs)
        self.quota = Quota(Patience(given["wait_for_oldest"], given["wait_for_task"]), given["spares"])
        self.clock = clock

    def _select_prompt_uids(self, partition_id, sampleable_keys, batch_size):
        selected, partition, steps = super()._select_prompt_uids(partition_id, sampleable_keys, batch_size)
        if partition_id == "train":
            now = self.clock()
            selected = self._choose(selected, sampleable_keys, batch_size, now)
            self.quota.train(selected, now)
        return selected, partition, steps

    def _wait_for_next_poll(self, partition_id, last_debug_time):
        if self.while_waiting is not None:
            self.while_waiting(partition_id)
        return super()._wait_for_next_poll(partition_id, last_debug_time)

    def _choose(self, selected, sampleable_keys, batch_size, now):
        raise NotImplementedError

    def _refuse_strangers(self, groups) -> None:
        strangers = set(groups) - self.quota.groups.keys()
        if strangers:
            raise RuntimeError(
                f"{len(strangers)} groups were not dispatched by an sv6d trainer, so their tasks are unknown: set "
                f"trainer.v1.trainer_mode=sv6d_{self.trainer_mode}, or leave trainer.v1.sampler.custom_sampler unset"
            )


class BalancedSync(Balanced, ReplayBuffer):
    """verl's synchronous buffer: a step trains all that was dispatched for it."""

    def _choose(self, selected, sampleable_keys, batch_size, now):
        self._refuse_strangers(selected)
        return selected


MAX_FAILURES = 200
"""Groups of a task that may fail one after another, with none that finishes between them: beyond, it is not the rows."""


class BalancedAsync(Balanced, ReplayBufferAsync):
    """Whole groups by quota. What is lost is replaced at once, by the same task.

    A group that grew stale (verl's `max_off_policy_threshold` and `..._strategy`) is rolled out again from the same
    prompt. One that failed, or that teaches nothing (`filter_groups`), gives way to another row of its task.
    """

    def __init__(self, *, refill_fn: Callable[[int], Any] | None = None, **kwargs):
        super().__init__(**kwargs)  # without verl's refill_fn, which sends out the next prompts of whatever task
        self._send_more = refill_fn
        self._refill = self._repeat = None
        self._failures: Counter[str] = Counter()  # in a row, by task
        self._finished: set[str] = set()  # at the last look: one that still waits for its step says nothing of today
        self.filter: GroupFilter | None = None
        self._step_size = 0

    def connect(self, refill: Callable[[list[str]], dict[str, str]], repeat: Callable[[TensorDict], Any]) -> None:
        """The trainer's ways to replace groups.

        Args:
            refill: dispatches another row of each of these tasks and returns the new groups, `{id: task}`.
            repeat: dispatches prompts, as they lay in TransferQueue, once more.
        """
        self._refill, self._repeat = refill, repeat

    def filter_groups(self, filtering: GroupFiltering, step_size: int) -> None:
        """Replace groups that teach nothing, within the limits of a `GroupFilter`; a step requests `step_size` groups."""
        self.filter_groups_metric, self.filter = filtering.metric, GroupFilter(filtering.batches)
        self._step_size = step_size

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Continue with the groups that TransferQueue holds, and a checkpoint's `quota.state()`."""
        self._sync_metadata_from_transfer_queue()
        groups = list(self.prompt_global_steps["train"])
        tasks = tq.kv_batch_get(keys=groups, partition_id="train", select_fields=["data_source"]) if groups else None
        self.quota.restore(dict(zip(groups, column(tasks, "data_source"), strict=True)) if groups else {}, state)

    def _has_enough_samples(self, global_steps, partition_id, batch_size, sampleable_keys):
        enough = super()._has_enough_samples(global_steps, partition_id, batch_size, sampleable_keys)
        if partition_id == "val":
            return enough
        # Asked even while verl waits for stale rollouts: the quota's patience runs meanwhile.
        now = self.clock()
        chosen = self._choose(None, sampleable_keys, batch_size, now)
        if chosen is None and (more := self.quota.stalled(sampleable_keys, batch_size, now)):
            self._send_more(more)
        return chosen is not None and enough

    def _choose(self, selected, sampleable_keys, batch_size, now):
        self._refuse_strangers(sampleable_keys)
        for task in {self.quota.groups[group] for group in sampleable_keys - self._finished} & self._failures.keys():
            del self._failures[task]
        self._finished = set(sampleable_keys)
        return self.quota.choose(sampleable_keys, batch_size, now)

    def _select_prompt_uids(self, partition_id, sampleable_keys, batch_size):
        if self.filter and partition_id == "train":
            self.filter.next_step()
        return super()._select_prompt_uids(partition_id, sampleable_keys, batch_size)

    def _dapo_filtered_keys(self, partition_id):
        same, counts = super()._dapo_filtered_keys(partition_id)
        if not same:
            return same, counts
        self._refuse_strangers(same)
        in_order = [group for group in self.quota.groups if group in same]
        through = self.filter.beyond(in_order, self.quota.groups, Counter(self.quota.stream[: self._step_size]))
        known = self._dapo_classification_cache[partition_id]
        for group in through:
            counts[known[group]] -= 1
            known[group] = None  # as if its samples differed: it stays in
        self.filter.let_through(self.quota.groups[group] for group in through)
        return same - through, +counts

    def _evict_terminal_groups(self, global_steps, partition_id, eviction_reasons):
        stale, filtered, failed, _ = eviction_reasons
        self._refuse_strangers(stale | filtered | failed)
        self._end_at_failures(failed)
        if filtered:
            tasks = [self.quota.groups[group] for group in filtered]
            self.filter.take(tasks)
            for task in self._failures.keys() & set(tasks):  # they did finish
                del self._failures[task]
        gone = filtered | failed
        outdated = stale - gone
        lost = [group for group in self.quota.groups if group in gone]
        again = [group for group in self.quota.groups if group in outdated]
        prompts = tq.kv_batch_get(keys=again, partition_id=partition_id) if again else None
        evicted = super()._evict_terminal_groups(global_steps, partition_id, eviction_reasons)
        if again:
            self._repeat(prompts)
            for group in again:
                self.quota.repeat(group)
        refills = self.quota.lose(lost)
        if refills:
            self.quota.refill(self._refill(refills))
        return evicted

    def _end_at_failures(self, failed) -> None:
        """End a run that would replace failing groups for ever."""
        self._failures.update(self.quota.groups[group] for group in failed)
        for task, count in self._failures.items():
            if count > MAX_FAILURES:
                raise RuntimeError(
                    f"the rollouts of the last {count} groups of {task!r} failed and none finished: the run ends, as others "
                    f"would fail as well. The log above has their errors; mend the setting or the task's rows they name, and "
                    f"start the same command again"
                )
