"""Which finished groups a gradient step trains: each task's share of the step, in each task the oldest first.

Section 5.2.4 of the report has every gradient step cover all task families. Rollouts come back out of order, late or not
at all; this keeps the promise all the same. A step *requests* the tasks of the prompts that the stream dispatched for it;
what it trains less or more of a task is that task's *debt*, in groups, which later steps repay. Pure bookkeeping, fed by
`verl_plugin/replay_buffer.py` and by `benchmarks/async_balance.py`.
"""

import logging
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)


class Patience(NamedTuple):
    """How many seconds a step may wait, counted from the moment at which it could have gone without waiting.

    Attributes:
        oldest: for the oldest groups of a task, when newer groups of the same task are finished and could stand in.
            While it lasts, steps train prompts in the order of their dispatch.
        task: for groups of a task, when only groups of other tasks could stand in. After it the task is skipped.
    """

    oldest: float = 60.0
    task: float = 300.0


@dataclass
class Tally:
    """What happened since the last report: groups by task (requested, trained, replaced), in all (skipped: those that
    others stood in for), and the seconds waited for the sake of balance."""

    requested: Counter[str] = field(default_factory=Counter)
    trained: Counter[str] = field(default_factory=Counter)
    refilled: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    waited: float = 0.0


class Quota:
    """The groups in flight, and which task is owed how many.

    Every dispatched group is owed to one step, and one that is lost is replaced by another of its task. So at any time the
    groups in flight of a task are as many as its debt and its prompts in the stream together, and nothing that is owed
    can be out of reach for good.

    Attributes:
        groups: task by group in flight, in the order of dispatch; a group is known by any string.
        stream: tasks that were dispatched for steps to come, in the order of the mixture.
        debt: groups owed to a task by past steps; negative where it was trained ahead. The sum is 0.
        refills: groups of a task that were replaced by another row, since the beginning of the run.
        tally: since the last `report`.
    """

    def __init__(self, patience: Patience = Patience()):  # noqa: B008 (immutable)
        if not (patience.oldest >= 0 and patience.task >= 0):
            raise ValueError(f"patience is {patience}; seconds are 0 or more (inf waits for good)")
        self.patience = patience
        self.groups: dict[str, str] = {}
        self.stream: list[str] = []
        self.debt: Counter[str] = Counter()
        self.refills: Counter[str] = Counter()
        self.tally = Tally()
        self._possible_since: dict[str, float] = {}

    def dispatch(self, groups: Mapping[str, str]) -> None:
        """The stream sends out groups, `{group: task}` in the order of the mixture."""
        self.groups.update(groups)
        self.stream.extend(groups.values())

    def refill_number(self, task: str) -> int:
        """The number of the task's next refill, counted from 0; each is given once."""
        self.refills[task] += 1
        return self.refills[task] - 1

    def replace(self, old: str, new: str) -> None:
        """A group is lost, and another row of its task was sent out in its place; it queues behind what is in flight."""
        task = self.groups.pop(old)
        self.groups[new] = task
        self.tally.refilled[task] += 1

    def repeat(self, group: str) -> None:
        """The same prompt was sent out again; the group keeps its place."""
        self.tally.repeated[self.groups[group]] += 1

    def choose(self, finished: Collection[str], size: int, now: float) -> list[str] | None:
        """The `size` groups to train at `now` (seconds of any clock that only rises), or None to wait.

        With everything finished that is due, these are the oldest groups of each task. Otherwise a step waits, within
        `patience`, first rather than train newer groups of a task, and then rather than train another task.
        """
        flying, ready = _by_task(self.groups), _by_task({g: t for g, t in self.groups.items() if g in finished})
        possible = self._allot(ready, size)
        if possible is None:
            return None
        due = self._allot(flying, size)
        oldest = [group for task, count in due.items() for group in flying[task][:count]]
        if all(group in finished for group in oldest):
            return oldest
        if now - self._since("any task", now) < self.patience.task and (
            possible != due or now - self._since("same task", now) < self.patience.oldest
        ):
            return None
        return [group for task, count in possible.items() for group in ready[task][:count]]

    def train(self, groups: Sequence[str], now: float = 0.0) -> None:
        """A step trains these groups, as `choose` gave them at `now`: they leave, and debts change."""
        size = len(groups)
        requested, trained = Counter(self.stream[:size]), Counter(self.groups[group] for group in groups)
        due = self._allot(_by_task(self.groups), size) or {}
        self.tally.requested += requested
        self.tally.trained += trained
        self.tally.skipped += sum(max(0, count - trained[task]) for task, count in due.items())
        self.tally.waited += now - self._possible_since.get("any task", now)
        self._possible_since.clear()
        for task in requested | trained:
            self.debt[task] += requested[task] - trained[task]
        del self.stream[:size]
        for group in groups:
            del self.groups[group]

    def report(self) -> Tally:
        """What happened since the last report."""
        tally, self.tally = self.tally, Tally()
        return tally

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the groups in flight themselves, as plain JSON."""
        tasks = sorted({*self.stream, *self.debt, *self.refills})
        place = {task: index for index, task in enumerate(tasks)}
        return {
            "tasks": tasks,
            "stream": [place[task] for task in self.stream],
            "debt": [self.debt[task] for task in tasks],
            "refills": [self.refills[task] for task in tasks],
        }

    def restore(self, groups: Mapping[str, str], state: Mapping[str, Any] | None) -> None:
        """Continue with the groups in flight of a checkpoint, `{group: task}` in the order of dispatch.

        Args:
            state: what `state` gave; None where the checkpoint has none: then nobody is owed anything.
        """
        self.groups, self.stream, self.debt, self.refills = dict(groups), list(groups.values()), Counter(), Counter()
        if state is None:
            return
        tasks = state["tasks"]
        self.refills = Counter(dict(zip(tasks, state["refills"], strict=True)))
        stream, debt = [tasks[i] for i in state["stream"]], dict(zip(tasks, state["debt"], strict=True))
        owed = Counter(stream)
        owed.update(debt)
        if owed != Counter(groups.values()):
            logger.warning(
                "the checkpoint was saved with other groups in flight (%s) than it holds (%s): debts start from zero",
                dict(+owed),
                dict(Counter(groups.values())),
            )
            return
        self.stream, self.debt = stream, Counter(debt)

    def _since(self, what: str, now: float) -> float:
        return self._possible_since.setdefault(what, now)

    def _claims(self) -> Iterator[str]:
        """Tasks in the order in which groups are owed: debts, then the stream without what was trained ahead of it."""
        for task, debt in self.debt.items():
            yield from repeat(task, debt)
        ahead = {task: -debt for task, debt in self.debt.items() if debt < 0}
        for task in self.stream:
            if ahead.get(task):
                ahead[task] -= 1
            else:
                yield task

    def _allot(self, available: Mapping[str, Sequence[str]], size: int) -> dict[str, int] | None:
        """How many groups of each task make a step, of those available; None when these are too few.

        Claims are served in their order, within bounds that keep every step mixed however large the debts: each task has
        half of its request at least and twice its request at most, where that can be had.
        """
        if sum(map(len, available.values())) < size:
            return None
        requested = Counter(self.stream[:size])
        counts = {task: min(requested[task] // 2, len(groups)) for task, groups in available.items()}
        left, served = size - sum(counts.values()), Counter(counts)
        unserved = list(self._claims())
        for ceiling in ({task: count + max(count, 1) for task, count in requested.items()}, None):
            claims, unserved = unserved, []
            for task in claims:
                limit = len(available.get(task, ()))
                if served[task] > 0:
                    served[task] -= 1
                elif left and counts.get(task, 0) < min(limit, ceiling.get(task, 1) if ceiling else math.inf):
                    counts[task] += 1
                    left -= 1
                else:
                    unserved.append(task)
        return {task: count for task, count in counts.items() if count}


def _by_task(groups: Mapping[str, str]) -> dict[str, list[str]]:
    by_task: dict[str, list[str]] = {}
    for group, task in groups.items():
        by_task.setdefault(task, []).append(group)
    return by_task
