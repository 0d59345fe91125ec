"""Weights that change along a run: steps, linear ramps, a task that leaves, a change that nobody planned.

What a task is entitled to is the integral of its share over the draws so far. Tijdeman's theorem holds for weights that
vary in time, so a planned change keeps the bound of every prefix (section 5.2.4); an unplanned one carries the debt.
"""

import hashlib
import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from fractions import Fraction
from functools import cached_property
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from .course import Piece, follow, worst_error
from .cycle import Cycle, Draw, check_positions
from .entitlement import Entitlement, Stretch
from .packing import Step, pack, unpack
from .schedule import Mode, Schedule
from .weights import MAX_PERIOD, WeightError, bound, integer_counts

IDENTITY_BYTES = 700
"""What a plan's identity may take of a checkpoint's state of 1 KB."""


class Segment(NamedTuple):
    """Weights from a position on.

    Args:
        start: first position that follows these weights; the first segment starts at 0.
        weights: weight by task, of any scale. 0, or leaving the task out, gives it nothing from here on.
        ramp: draws over which the shares move in a straight line from those before to these; 0 changes them at once.
    """

    start: int
    weights: Mapping[str, int | float]
    ramp: int = 0


class PlanCertificate(NamedTuple):
    """What a plan keeps, in draws, exact.

    prefix_error: worst |draws - entitlement| over all tasks and prefixes, for ever.
    bound: Tijdeman's 1 - 1/(2n-2); planned changes keep it, an unplanned one may pass it until its debts are repaid.
    digest: hash of the sequence; equal digests are equal sequences.
    """

    prefix_error: Fraction
    bound: Fraction
    digest: str

    @property
    def holds(self) -> bool:
        """Whether every prefix keeps the bound."""
        return self.prefix_error <= self.bound


class _Chapter(NamedTuple):
    """Steps that were decided together at position `start`, and the pieces that follow them; both count from there.

    before: draws of each task before `start`.
    """

    start: int
    before: tuple[int, ...]
    steps: tuple[Step, ...]
    entitlement: Entitlement
    pieces: tuple[Piece, ...]


class Plan:
    """A sequence of tasks under weights that change, with the random access of a `Schedule`.

    `Plan(weights)` is the sequence of `Schedule(weights)`. Plans are immutable: `change` and `leave` give a new one, which
    agrees with this one before the position of the change.

    Args:
        segments: the planned segments, in the order of their starts, or the weights alone if they never change.
        mode: as of `Schedule`, for what comes before the first change; what follows is built for the prefix bound.
        max_period: as of `Schedule`, for every segment.

    Attributes:
        tasks: names of all tasks that ever have a weight, in the order in which they are first named.
        rounding_error: largest |share - share asked for| in any segment, exact; 0 when the weights are met.

    Raises:
        WeightError: weights that no schedule can follow, or segments that overlap or do not begin at a whole position.
    """

    def __init__(
        self,
        segments: Mapping[str, int | float] | Iterable[Segment],
        mode: Mode = "prefix",
        max_period: int = MAX_PERIOD,
    ):
        segments = [Segment(0, segments)] if isinstance(segments, Mapping) else [_checked(*s) for s in segments]
        self._begin(dict.fromkeys(task for segment in segments for task in segment.weights), mode, max_period)
        steps = [self._step(segment) for segment in segments]
        if not segments or (segments[0].start, segments[0].ramp) != (0, 0):
            raise WeightError("the first segment starts at 0, without a ramp")
        self._append(0, steps)

    def take(self, start: int, stop: int) -> np.ndarray:
        """Task indices at positions start..stop-1, int16 (stop - start,)."""
        if not 0 <= start <= stop:
            raise ValueError(f"take({start}, {stop}): positions need 0 <= start <= stop")
        taken = [
            piece.cycle.take(max(start, begin) - begin, min(stop, end) - begin)
            for begin, end, piece in self._between(start, max(stop, start + 1))
        ]
        return taken[0] if len(taken) == 1 else np.concatenate(taken)

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Task indices at any positions (integers, >= 0), int16 of the same shape."""
        positions = np.asarray(positions)
        check_positions(positions)
        tasks = np.zeros(positions.shape, np.int16)
        if positions.size:
            for begin, end, piece in self._between(int(positions.min()), int(positions.max()) + 1):
                inside = (positions >= begin) & (positions < end)
                tasks[inside] = piece.cycle.order[(positions[inside] - begin) % piece.cycle.period]
        return tasks

    def draw(self, position: int) -> Draw:
        """The task at a position (>= 0) and how often it came before; O(log pieces), without history."""
        start, piece = self._piece(position)
        task, number = piece.cycle.draw(position - start)
        return Draw(task, piece.before[task] + number)

    def drawn(self, position: int) -> np.ndarray:
        """Draws of each task at the positions before this one, int64 (n,)."""
        start, piece = self._piece(position)
        return np.array(piece.before) + piece.cycle.drawn(position - start)

    def entitled(self, position: int) -> list[Fraction]:
        """What each task was entitled to at the positions before this one, in draws, exact.

        The draws so far, and what `change` and `leave` settled, are within `certificate.prefix_error` of it.
        """
        self._piece(position)
        chapter = next(chapter for chapter in reversed(self._chapters) if chapter.start <= position)
        since = chapter.entitlement.after(position - chapter.start)
        return [before + level for before, level in zip(chapter.before, since, strict=True)]

    def position_of(self, task: str, number: int) -> int | None:
        """The position of a task's draw `number` (0 is its first); None if that never comes."""
        index = self.tasks.index(task)
        ends = [*self._pieces[1:], None]
        for start, piece, following in zip(self._starts, self._pieces, ends, strict=True):
            if following is None or number < following.before[index]:
                place = piece.cycle.place_of(index, number - piece.before[index])
                return None if place is None else start + place

    def change(self, position: int, weights: Mapping[str, int | float], ramp: int = 0) -> "Plan":
        """Other weights from `position` on, decided there: the sequence before stays, what was planned after is dropped.

        What each task is owed, or is ahead, is carried over and repaid; for a task that gets weight 0 at once it is
        settled: the others share it by their new weights.

        Raises:
            WeightError: as of the class, or a task that the plan does not have (give it weight 0 from the start).
        """
        since = self._since(position)
        now = [Step(0, self._counts(since))] if ramp else []
        plan = self._copy()
        plan._append(position, [*now, plan._step(_checked(0, weights, ramp))])
        return plan

    def leave(self, position: int, task: str) -> "Plan":
        """The task has weight 0 from `position` on (its rows are used up); the others keep the ratios of their weights.

        Later planned segments stay, without the task. Debts are carried as by `change`.
        """
        index, since = self.tasks.index(task), self._since(position)
        steps = [Step(0, self._counts(since))]
        for step in self._chapters[-1].steps:
            if step.start > since:
                steps.append(step._replace(start=step.start - since))
            elif step.start + step.ramp > since:
                steps.append(Step(0, step.counts, step.start + step.ramp - since))
        steps = [step._replace(counts=_without(step.counts, index)) for step in steps]
        if any(sum(step.counts) == 0 for step in steps):
            raise WeightError(
                f"{task!r} is the last task with a weight at position {position:,}: nothing is left to draw"
            )
        plan = self._copy()
        plan._append(position, steps)
        return plan

    @cached_property
    def certificate(self) -> PlanCertificate:
        """What the plan keeps, measured over every piece."""
        ends = [chapter.start for chapter in self._chapters[1:]] + [None]
        worst = max(
            worst_error(chapter.entitlement, chapter.pieces, None if end is None else end - chapter.start)
            for chapter, end in zip(self._chapters, ends, strict=True)
        )
        return PlanCertificate(worst, bound(len(self.tasks)), self.digest)

    @cached_property
    def digest(self) -> str:
        """Hash of the sequence: equal digests are equal sequences, on any machine."""
        parts = [f"{start} {piece.cycle.digest}" for start, piece in zip(self._starts, self._pieces, strict=True)]
        return _digest(parts)

    @property
    def identity(self) -> dict[str, Any]:
        """What the sequence depends on, as plain JSON under 700 bytes; `restore` rebuilds the plan from it.

        Raises:
            WeightError: so many changes that they need more.
        """
        identity = {
            "tasks": _digest(self.tasks),
            "mode": self.mode,
            "max_period": self.max_period,
            "segments": pack((chapter.start, chapter.steps) for chapter in self._chapters),
            "sequence": self.digest,
        }
        if len(json.dumps(identity)) >= IDENTITY_BYTES:
            raise WeightError(
                f"the segments of this plan need more than {IDENTITY_BYTES} bytes; begin a new plan with the present "
                f"weights, or use fewer changes or a smaller max_period"
            )
        return identity

    @classmethod
    def restore(cls, tasks: Iterable[str], identity: Mapping[str, Any]) -> "Plan":
        """The plan of an `identity`, unplanned changes included, given its tasks in their order.

        Raises:
            ValueError: other tasks, or the identity belongs to no plan that this version would make.
        """
        plan = cls.__new__(cls)
        plan._begin(tasks, identity["mode"], identity["max_period"])
        if _digest(plan.tasks) != identity["tasks"]:
            raise ValueError("the saved plan has other tasks, or another order of them")
        for start, steps in unpack(identity["segments"], len(plan.tasks)):
            plan._append(start, steps)
        if plan.digest != identity["sequence"]:
            raise ValueError("the saved plan's sequence differs from what its segments give here: it was edited")
        return plan

    @property
    def segments(self) -> list[Segment]:
        """What the plan follows, in integers: every step of every chapter as a `Segment` (tasks of weight 0 left out)."""
        return [segment for chapter in self.chapters for segment in chapter]

    @property
    def chapters(self) -> list[list[Segment]]:
        """The segments by decision: those that were planned at the start, then those of each `change` and `leave`, which
        replace what was planned from their start on."""
        return [
            [
                Segment(
                    chapter.start + step.start,
                    {task: count for task, count in zip(self.tasks, step.counts, strict=True) if count},
                    step.ramp,
                )
                for step in chapter.steps
            ]
            for chapter in self._chapters
        ]

    def _begin(self, tasks: Iterable[str], mode: Mode, max_period: int) -> None:
        self.tasks = tuple(tasks)
        self.mode, self.max_period = mode, max_period
        self.rounding_error = Fraction(0)
        self._chapters: tuple[_Chapter, ...] = ()
        self._starts: list[int] = []
        self._pieces: list[Piece] = []

    def _step(self, segment: Segment) -> Step:
        unknown = [task for task in segment.weights if task not in self.tasks]
        if unknown:
            raise WeightError(f"the plan has no task {unknown[0]!r}; a task that comes later has weight 0 at the start")
        counts = integer_counts({task: w for task, w in segment.weights.items() if w != 0}, self.max_period)
        self.rounding_error = max(self.rounding_error, counts.rounding_error)
        by_task = dict(zip((t for t, w in segment.weights.items() if w != 0), counts.counts.tolist(), strict=True))
        return Step(segment.start, tuple(by_task.get(task, 0) for task in self.tasks), segment.ramp)

    def _since(self, position: int) -> int:
        """Draws since the last chapter began."""
        last = self._chapters[-1].start
        if position < last:
            raise ValueError(f"a change at {position:,} would come before the one that was made at {last:,}")
        return position - last

    def _counts(self, since: int) -> tuple[int, ...]:
        """The weights so far into the last chapter, in integers; in a ramp the nearest ones of `max_period`."""
        shares = self._chapters[-1].entitlement.shares(since)
        scale = math.lcm(*(share.denominator for share in shares))
        return tuple(round(share * min(scale, self.max_period)) for share in shares)

    def _copy(self) -> "Plan":
        plan = copy(self)
        plan.__dict__.pop("certificate", None)
        plan.__dict__.pop("digest", None)
        return plan

    def _append(self, position: int, steps: Sequence[Step]) -> None:
        stretches = _stretches(steps)
        if self._chapters:
            before = tuple(self.drawn(position).tolist())
            owed = [level - done for level, done in zip(self.entitled(position), before, strict=True)]
            entitlement = Entitlement(_settled(owed, steps[0].counts), stretches)
            pieces = tuple(follow(entitlement, 0, (0,) * len(before)))
        else:
            before = (0,) * len(self.tasks)
            entitlement = Entitlement([Fraction(0)] * len(self.tasks), stretches)
            pieces = tuple(self._first_pieces(entitlement, stretches[0]))
        self._chapters = (*self._chapters, _Chapter(position, before, tuple(steps), entitlement, pieces))
        kept = [i for i, start in enumerate(self._starts) if start < position]
        moved = [piece._replace(before=tuple(map(int.__add__, before, piece.before))) for piece in pieces]
        self._starts = [*(self._starts[i] for i in kept), *(position + piece.start for piece in pieces)]
        self._pieces = [*(self._pieces[i] for i in kept), *moved]

    def _first_pieces(self, entitlement: Entitlement, stretch: Stretch) -> Iterator[Piece]:
        """The `Schedule` for as many periods as the first weights last, then towards the next ones."""
        nothing = (0,) * len(self.tasks)
        if not stretch.steady:
            yield from follow(entitlement, 0, nothing)
            return
        weights = {task: count for task, count in zip(self.tasks, stretch.first, strict=True) if count}
        schedule = Schedule(weights, self.mode, sum(stretch.first))
        periods = 1 if stretch.stop is None else stretch.stop // schedule.period
        if periods:
            indices = np.flatnonzero(stretch.first).astype(np.int16)
            yield Piece(0, nothing, Cycle(indices[schedule.order], len(self.tasks)))
        if stretch.stop is not None:
            before = tuple(count * periods for count in stretch.first)
            yield from follow(entitlement, periods * schedule.period, before)

    def _between(self, start: int, stop: int) -> Iterator[tuple[int, int, Piece]]:
        """The pieces that hold positions start..stop-1, with their own start and end (at most `stop`)."""
        first, last = bisect_right(self._starts, start) - 1, bisect_left(self._starts, stop)
        ends = [*self._starts[first + 1 : last], stop]
        yield from zip(self._starts[first:last], ends, self._pieces[first:last], strict=True)

    def _piece(self, position: int) -> tuple[int, Piece]:
        if position < 0:
            raise ValueError(f"a position is at least 0; {position} is not")
        index = bisect_right(self._starts, position) - 1
        return self._starts[index], self._pieces[index]


def _checked(start: Any, weights: Any, ramp: Any = 0) -> Segment:
    for name, value in (("start", start), ("ramp", ramp)):
        if not isinstance(value, Integral) or value < 0:
            raise WeightError(f"the {name} of a segment is {value!r}; it is a whole number of draws, 0 or more")
    if not isinstance(weights, Mapping):
        raise WeightError(f"the weights of the segment at {start:,} are {weights!r}; give each task its weight")
    return Segment(int(start), weights, int(ramp))


def _stretches(steps: Sequence[Step]) -> list[Stretch]:
    stretches = []
    for former, step, following in zip([None, *steps], steps, [*steps[1:], None], strict=False):
        reached = step.start + step.ramp
        end = None if following is None else following.start
        if end is not None and end < reached:
            raise WeightError(
                f"the segment at {step.start:,} with a ramp of {step.ramp:,} draws overlaps the next one at {end}; "
                f"give segments in the order of their starts, each ramp ending before the next one"
            )
        if step.ramp:
            stretches.append(Stretch(step.start, reached, former.counts, step.counts))
        if end is None or end > reached:
            stretches.append(Stretch(reached, end, step.counts, step.counts))
    return stretches


def _settled(owed: list[Fraction], counts: tuple[int, ...]) -> list[Fraction]:
    """What tasks without weight are owed goes to the others, by weight."""
    left = sum(debt for debt, count in zip(owed, counts, strict=True) if not count)
    total = sum(counts)
    return [
        debt + left * Fraction(count, total) if count else Fraction(0) for debt, count in zip(owed, counts, strict=True)
    ]


def _without(counts: tuple[int, ...], index: int) -> tuple[int, ...]:
    return (*counts[:index], 0, *counts[index + 1 :])


def _digest(parts: Iterable[str]) -> str:
    return hashlib.blake2b(json.dumps(list(parts)).encode(), digest_size=16).hexdigest()
