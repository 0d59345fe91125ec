"""Which finished groups a gradient step trains: each task's share of the step, in each task the oldest first.

Section 5.2.4 of the report has every gradient step cover all task families. Rollouts come back out of order, late or not
at all; this keeps the promise all the same. A step *requests* the tasks of the prompts that the stream dispatched for it;
what it trains less or more of a task is that task's *debt*, in groups, which later steps repay. Pure bookkeeping, fed by
`verl_plugin/replay_buffer.py` and by `benchmarks/async_balance.py`.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from math import ceil
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

MEMORY = 100  # groups of a task over which its losses are averaged


class Patience(NamedTuple):
    """How many seconds a step may wait, counted from the moment at which it could have gone without waiting.

    Attributes:
        oldest: for the oldest groups of a task, when newer groups of the same task are finished and could stand in.
            While it lasts, steps train prompts in the order of their dispatch.
        task: for a task of which more than one group is missing, when other tasks could stand in. After it they do.
    """

    oldest: float = 5.0
    task: float = 300.0


@dataclass
class Tally:
    """What happened since the last report: groups by task (requested, trained, sent out in the place of lost ones, sent out
    again), groups in all that other tasks stood in for (skipped), and seconds waited for the sake of balance."""

    requested: Counter[str] = field(default_factory=Counter)
    trained: Counter[str] = field(default_factory=Counter)
    refilled: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    waited: float = 0.0


class Quota:
    """The groups in flight, and which task is owed how many.

    Of every task at least as many groups are in flight as are owed to it: the prompts that the stream dispatched for steps
    to come, and its debt. A task that loses many has spares, in proportion to what it lost lately, lest it be late for
    every step.

    Args:
        patience: how long a step waits.
        spares: the most spares of a task, as a multiple of what it is owed; 0 for none.

    Attributes:
        groups: task by group in flight, in the order of dispatch; a group is known by any string.
        stream: tasks that were dispatched for steps to come, in the order of the mixture.
        debt: groups owed to a task by past steps; negative where it was trained ahead. The sum is 0.
        refills: groups of a task that were sent out in the place of lost ones, since the beginning of the run.
        loss: share of a task's groups that was lost, over about the last hundred.
        stretch: prompts that the stream sent out beyond a batch a step (`next_batch`).
        tally: since the last `report`.
    """

    def __init__(self, patience: Patience = Patience(), spares: float = 1.0):  # noqa: B008 (immutable)
        if not (patience.oldest >= 0 and patience.task >= 0 and spares >= 0):
            raise ValueError(f"{patience}, spares={spares}: all are 0 or more (infinite patience waits for good)")
        self.patience = patience
        self.spares = spares
        self.groups: dict[str, str] = {}
        self.stream: list[str] = []
        self.debt: Counter[str] = Counter()
        self.refills: Counter[str] = Counter()
        self.loss: dict[str, float] = {}
        self.stretch = 0
        self.tally = Tally()
        self._possible_since: dict[str, float] = {}
        self._last_came: tuple[Collection[str], float] = ((), 0.0)
        self._dues: dict[int, dict[str, int]] = {}

    @property
    def owed(self) -> Counter[str]:
        """Groups that are owed to each task, by past steps and by the stream."""
        owed = Counter(self.stream)
        owed.update(self.debt)
        return owed

    def dispatch(self, groups: Mapping[str, str]) -> None:
        """The stream sends out groups, `{group: task}` in the order of the mixture."""
        self.groups.update(groups)
        self.stream.extend(groups.values())
        self._dues.clear()

    def next_batch(self, size: int) -> int:
        """How many prompts the stream is to send out for a step of `size`: more by what is in flight of tasks that are behind,
        beyond the usual, lest one that hands in nothing take up the window of the others; less once it is repaid."""
        behind = {task for task, debt in self.debt.items() if debt > 0}
        held = sum(self.debt[task] for task in behind)
        share = sum(task in behind for task in self.stream) / max(len(self.stream), 1)
        usual = size - self.stretch
        # of what is sent out beyond the usual as large a share is theirs
        number = max(1, usual + ceil(held / max(1 - share, 0.1)))
        self.stretch += number - size
        return number

    def stalled(self, finished: Collection[str], size: int, now: float) -> int:
        """How many more prompts the stream is to send out at `now`, for a step of `size` that cannot go.

        0 while groups come back; but when none came for `patience.task` seconds, those in flight hang, and without others no
        step would ever be possible. Then as many as it lacks, given how many tasks come back at all; and so on each time.
        """
        came, when = self._last_came
        if set(finished) != set(came):
            self._last_came = tuple(finished), now
            return 0
        if not finished or now - when < self.patience.task:
            return 0
        ready, owed = Counter(self.groups[group] for group in finished), self.owed
        missing = size - sum(min(count, owed[task]) for task, count in ready.items())
        if missing <= 0:
            return 0
        share = sum(task in ready for task in self.stream) / max(len(self.stream), 1)
        number = ceil(missing / max(share, 0.1))
        self._last_came = came, now
        self.stretch += number
        logger.warning(
            "no group came back for %.0f s and a step lacks %d: %d more prompts are sent out",
            now - when,
            missing,
            number,
        )
        return number

    def lose(self, groups: Collection[str]) -> list[str]:
        """Groups are lost. The tasks of which other rows are to be sent out now, one each: for what is owed, and spares."""
        tasks = [self.groups.pop(group) for group in groups]
        for task in tasks:
            self.loss[task] = 1 - (1 - self.loss.get(task, 0.0)) * (1 - 1 / MEMORY)
        flying, owed = Counter(self.groups.values()), self.owed
        missing = {task: self._wanted(task, owed[task]) - flying[task] for task in dict.fromkeys(tasks)}
        return [task for task, count in missing.items() for _ in range(count)]

    def _wanted(self, task: str, owed: int) -> int:
        """Groups to have in flight so that as many as are owed come back."""
        return round(owed * min(1 / max(1 - self.loss[task], 1 / MEMORY), 1 + self.spares))

    def refill_number(self, task: str) -> int:
        """The number of the task's next refill, counted from 0; each is given once."""
        self.refills[task] += 1
        return self.refills[task] - 1

    def refill(self, groups: Mapping[str, str]) -> None:
        """Other rows were sent out, `{group: task}`; they queue behind what is in flight."""
        self.groups.update(groups)
        self.tally.refilled.update(groups.values())

    def repeat(self, group: str) -> None:
        """The same prompt was sent out again; the group keeps its place."""
        self.tally.repeated[self.groups[group]] += 1

    def choose(self, finished: Collection[str], size: int, now: float) -> list[str] | None:
        """The `size` groups to train at `now` (seconds of any clock that only rises), or None to wait.

        With everything finished that is due, these are the oldest groups of each task. Otherwise a step waits, within
        `patience`: rather than train newer groups of a task, or be a group of a task off; and rather than be further off.
        """
        if min(len(finished), len(self.stream)) < size:
            return None
        flying, ready = _by_task(self.groups), _by_task({g: t for g, t in self.groups.items() if g in finished})
        due = self._due(size)
        oldest = [group for task, count in due.items() for group in flying[task][:count]]
        if all(group in finished for group in oldest):
            return oldest
        available = {task: len(groups) for task, groups in ready.items()}
        within_one = {task: min(available.get(task, 0), count + 1) for task, count in due.items()}
        possible = self._allot(within_one, size) or self._allot(available, size)
        if possible is None:
            return None
        if now - self._since("any task", now) < self.patience.task and (
            not _near(possible, due) or now - self._since("same task", now) < self.patience.oldest
        ):
            return None
        return [group for task, count in possible.items() for group in ready[task][:count]]

    def train(self, groups: Sequence[str], now: float = 0.0) -> None:
        """A step trains these groups, as `choose` gave them at `now`: they leave, and debts change."""
        size = len(groups)
        requested, trained = Counter(self.stream[:size]), Counter(self.groups[group] for group in groups)
        short = Counter(self._due(size)) - trained
        self.tally.requested += requested
        self.tally.trained += trained
        self.tally.skipped += short.total()
        waited = now - self._possible_since.get("any task", now)
        self.tally.waited += waited
        if short:
            logger.info("after %.0f s other tasks stand in for groups of %s, which are owed now", waited, dict(short))
        for task, count in trained.items():
            self.loss[task] = self.loss.get(task, 0.0) * (1 - 1 / MEMORY) ** count
        for task in requested | trained:
            self.debt[task] += requested[task] - trained[task]
        del self.stream[:size]
        for group in groups:
            del self.groups[group]
        self._possible_since.clear()
        self._dues.clear()

    def report(self) -> Tally:
        """What happened since the last report."""
        tally, self.tally = self.tally, Tally()
        return tally

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the groups in flight themselves, as plain JSON."""
        tasks = sorted({*self.stream, *self.debt, *self.refills, *self.loss})
        place = {task: index for index, task in enumerate(tasks)}
        return {
            "tasks": tasks,
            "stream": [place[task] for task in self.stream],
            "debt": [self.debt[task] for task in tasks],
            "refills": [self.refills[task] for task in tasks],
            "loss": [self.loss.get(task, 0.0) for task in tasks],
            "stretch": self.stretch,
        }

    def restore(self, groups: Mapping[str, str], state: Mapping[str, Any] | None) -> None:
        """Begin with the groups in flight of a checkpoint, `{group: task}` in the order of dispatch.

        Args:
            state: what `state` gave; None where the checkpoint has none: then all that is in flight is owed, nothing else.
        """
        self.dispatch(groups)
        if state is None:
            return
        tasks, flying = state["tasks"], Counter(groups.values())
        self.refills = Counter(dict(zip(tasks, state["refills"], strict=True)))
        self.loss = dict(zip(tasks, state["loss"], strict=True))
        self.stretch = state["stretch"]
        self.stream = [tasks[i] for i in state["stream"]]
        self.debt = Counter(dict(zip(tasks, state["debt"], strict=True)))
        if any(self.owed[task] > flying[task] for task in tasks):
            owed = {task: count for task, count in self.owed.items() if count}
            logger.warning(
                "the checkpoint owes %s and holds %s: debts start from zero, with what it holds", owed, dict(flying)
            )
            self.stream, self.debt, self.stretch = list(groups.values()), Counter(), 0

    def _since(self, what: str, now: float) -> float:
        return self._possible_since.setdefault(what, now)

    def _claims(self) -> Iterator[str]:
        """Tasks in the order in which groups are owed: debts, the largest first; then the stream without what was trained
        ahead of it."""
        for task in sorted(self.debt, key=lambda task: (-self.debt[task], task)):
            yield from repeat(task, self.debt[task])
        ahead = {task: -debt for task, debt in self.debt.items() if debt < 0}
        for task in self.stream:
            if ahead.get(task):
                ahead[task] -= 1
            else:
                yield task

    def _due(self, size: int) -> dict[str, int] | None:
        """The next step's groups by task when everything is finished; what is lost meanwhile changes nothing."""
        if size not in self._dues:
            self._dues[size] = self._allot(self.owed, size)
        return self._dues[size]

    def _allot(self, available: Mapping[str, int], size: int) -> dict[str, int] | None:
        """How many groups of each task make a step, of those available; None where too few of these are owed.

        Claims are served in their order, within bounds that keep every step mixed however large the debts: each task has
        half of its request at least and twice its request at most, where that can be had.
        """
        owed = self.owed
        available = {task: min(count, owed[task]) for task, count in available.items() if owed[task] > 0}
        if sum(available.values()) < size:
            return None
        requested = Counter(self.stream[:size])
        counts = Counter({task: min(requested[task] // 2, count) for task, count in available.items()})
        left, advance = size - counts.total(), Counter(counts)
        waiting = list(self._claims())
        for bounded in (True, False):
            claims, waiting = waiting, []
            for task in claims:
                if not left:
                    break
                most = requested[task] + max(requested[task], 1) if bounded else size
                if advance[task]:
                    advance[task] -= 1
                elif counts[task] < min(most, available.get(task, 0)):
                    counts[task] += 1
                    left -= 1
                else:
                    waiting.append(task)
        return {task: count for task, count in counts.items() if count}


def _near(possible: Mapping[str, int], due: Mapping[str, int]) -> bool:
    """Whether every task is within one group of its due, and none goes without."""
    tasks = possible.keys() | due.keys()
    return possible.keys() == due.keys() and all(abs(possible[task] - due[task]) <= 1 for task in tasks)


def _by_task(groups: Mapping[str, str]) -> dict[str, list[str]]:
    by_task: dict[str, list[str]] = {}
    for group, task in groups.items():
        by_task.setdefault(task, []).append(group)
    return by_task
