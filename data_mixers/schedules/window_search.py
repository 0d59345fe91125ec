"""A period whose worst window, of any length, errs little: candidates, each evaluated exactly; the best one is kept.

What a window errs by is the range of a discrepancy, wherever that range lies. So each task gets a *phase*, the place of its
range around 0, and earliest deadline first says whether all tasks keep a range with those phases. Phases are improved by small
seeded moves; integers alone decide, so every machine finds the same period.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import numpy as np

from .certificate import extremes
from .chairman import assign, earliest_deadline_first, period_jobs
from .peers import round_robin

BUDGET = 1_500_000
"""Draws placed in one search, in all trials together, and what a trial costs besides: a third of a second."""
STARTS = 6
"""Phases that are tried before the best of them are improved."""
PATIENCE = 400
"""Moves without success after which the next phases are improved."""
ONE = 1 << 16
"""Phases are in ONE-ths of the range: 0 puts the range above discrepancy 0, ONE below it."""
GOLDEN = 40_503
"""ONE / 1.618: its multiples spread evenly, however many there are."""


def closest_windows(counts: np.ndarray) -> np.ndarray:
    """One period of task indices, int16 (sum of counts,): the best found for the worst error of any window.

    It starts where the prefixes err least.
    """
    if len(counts) == 1:
        return np.zeros(1, np.int16)
    candidates = [assign(counts), round_robin(counts)]
    if min(_range(order, counts) for order in candidates) > _least_range(counts):
        found = _Search(counts).run()
        candidates += [] if found is None else [found]
    return _best_start(min(candidates, key=lambda order: _range(order, counts)), counts)


class _Found(NamedTuple):
    range: int
    phases: np.ndarray
    order: np.ndarray | None


class _Search:
    """Phases under which earliest deadline first keeps the smallest range, in units of 1/period, within a budget."""

    def __init__(self, counts: np.ndarray):
        self.counts, self.period, self.n = counts, int(counts.sum()), len(counts)
        self.random = Random(0)
        self.budget = BUDGET

    def run(self) -> np.ndarray | None:
        """The best period found; None if the budget was spent before any."""
        starts = self._starts()
        pool = sorted((self._shrink(next(starts)) for _ in range(STARTS)), key=lambda found: found.range)
        best = pool[0]
        for found in self._turns(pool, starts):
            if self.budget <= 0 or best.range <= _least_range(self.counts):
                return best.order
            best = min(best, self._climb(found), key=lambda found: found.range)

    def _starts(self) -> Iterator[np.ndarray]:
        """Phases to start from: spread over the tasks from the heaviest to the lightest, then random ones."""
        heaviest_first = np.argsort(-self.counts, kind="stable")
        for spread in (np.arange(self.n) * GOLDEN + ONE // 2, (2 * np.arange(self.n) + 1) * ONE // (2 * self.n)):
            phases = np.empty(self.n, np.int64)
            phases[heaviest_first] = spread % ONE
            yield self._balanced(phases)
        while True:
            yield self._balanced(np.array([self.random.getrandbits(16) for _ in range(self.n)]))

    def _turns(self, pool: list[_Found], starts: Iterator[np.ndarray]) -> Iterator[_Found]:
        yield from pool
        while True:
            yield self._shrink(next(starts))

    def _balanced(self, phases: np.ndarray) -> np.ndarray:
        """Discrepancies sum to 0 at every position, so the phases' mean must be one half."""
        for _ in range(8):
            phases = np.clip(phases + (self.n * ONE // 2 - int(phases.sum())) // self.n, 0, ONE)
        return phases

    def _attempt(self, phases: np.ndarray, width: int) -> tuple[np.ndarray | None, int]:
        low = -((width * phases) >> 16)
        jobs = period_jobs(self.counts, low, low + width)
        order, reached = earliest_deadline_first(jobs)
        self.budget -= reached + self.period // 4 + 100
        return (None if order is None else jobs.task[order].astype(np.int16)), reached

    def _shrink(self, phases: np.ndarray) -> _Found:
        """The smallest range found for fixed phases, in steps that halve."""
        width, order, step = 3 * self.period, None, self.period
        while step and self.budget > 0:
            tried, _ = self._attempt(phases, width - step)
            if tried is None:
                step //= 2
            else:
                width, order = _range(tried, self.counts), tried
        return _Found(width, phases, order)

    def _climb(self, found: _Found) -> _Found:
        """Moves the phases of two tasks at a time; keeps what fits a smaller range, or fails no earlier than before."""
        width, phases, order = found
        furthest = failures = 0
        while failures < PATIENCE and self.budget > 0:
            moved = self._move(phases)
            tried, reached = self._attempt(moved, width - 1)
            if tried is not None:
                width, phases, order = _range(tried, self.counts), moved, tried
                furthest = failures = 0
                continue
            failures += 1
            if reached >= furthest:
                furthest, phases = reached, moved
        return _Found(width, phases, order)

    def _move(self, phases: np.ndarray) -> np.ndarray:
        phases = phases.copy()
        one, other = self.random.getrandbits(16) % self.n, self.random.getrandbits(16) % self.n
        if self.random.getrandbits(2) == 0:
            phases[[one, other]] = phases[[other, one]]
        else:
            shift = (self.random.getrandbits(16) - ONE // 2) >> (1 + self.random.getrandbits(2))
            phases[one] = min(max(int(phases[one]) + shift, 0), ONE)
            phases[other] = min(max(int(phases[other]) - shift, 0), ONE)
        return phases


def _range(order: np.ndarray, counts: np.ndarray) -> int:
    low, high = extremes(order, counts)
    return int((high - low).max())


def _least_range(counts: np.ndarray) -> int:
    """No period does better: a draw moves the rarest task's discrepancy by 1 - w."""
    return int(counts.sum() - counts.min())


def _best_start(order: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The period from where its worst prefix is least; windows do not notice."""
    period = len(order)
    low, high = extremes(order, counts)
    worst = np.zeros(period, np.int64)
    for task, count in enumerate(counts.tolist()):
        here = np.cumsum(order == task) * period - count * np.arange(1, period + 1)
        np.maximum(worst, np.maximum(here - low[task], high[task] - here), out=worst)
    return np.roll(order, -1 - int(worst.argmin()))
