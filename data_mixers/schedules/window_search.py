"""A period whose worst window, of any length, errs little: candidates, each evaluated exactly; the best one is kept.

What a window errs by is the range of a discrepancy, wherever that range lies. So each task gets a *phase*, the place of its
range around 0. Three rules make a period of phases:
    earliest deadline first: finds every range that its phases allow; the best in most long periods of few tasks.
    smooth weighted round robin, the phases its initial credits: the best in most periods of a thousand draws or less, and of
        many tasks; not tried beyond 46,000 draws.
    the quota method, the phases its offsets: often as good in periods of some ten draws, and costs next to nothing.
Phases are improved by small seeded moves; integers alone decide, so every machine finds the same period.
"""

from collections.abc import Iterator
from itertools import chain, islice
from random import Random
from typing import NamedTuple

import numpy as np

from .certificate import extremes
from .chairman import assign, earliest_deadline_first, period_jobs
from .greedy import ONE, quota, round_robins
from .peers import round_robin

BUDGET = 1_500_000
"""Draws placed in the search of one rule, in all trials together, and what a trial costs besides."""
STARTS = 6
"""Phases that are tried before the best of them are improved."""
PATIENCE = 400
"""Moves without success after which the next phases are improved."""
BROOD = 32
"""Round robins that are drawn at once."""
QUOTAS = 4
"""Offsets that the quota method is tried with; fewer beyond 23,000 draws, none beyond 90,000."""
GOLDEN = 40_503
"""ONE / 1.618: its multiples spread evenly, however many there are."""


def closest_windows(counts: np.ndarray) -> np.ndarray:
    """One period of task indices, int16 (sum of counts,): the best found for the worst error of any window.

    It starts where the prefixes err least.
    """
    if len(counts) == 1:
        return np.zeros(1, np.int16)
    best = min(assign(counts), round_robin(counts), key=lambda order: _range(order, counts))
    for rule in (_Search.by_deadlines, _Search.by_credits, _Search.by_quotas):
        if _range(best, counts) > _least_range(counts):
            found = rule(_Search(counts))
            best = found.order if found.range < _range(best, counts) else best
    return _best_start(best, counts)


class _Found(NamedTuple):
    range: int
    phases: np.ndarray
    order: np.ndarray | None


class _Search:
    """Phases with which one rule keeps the smallest range, in units of 1/period, within a budget.

    A phase is in ONE-ths of the range: 0 puts the range above discrepancy 0, ONE below it.
    """

    def __init__(self, counts: np.ndarray):
        self.counts, self.period, self.n = counts, int(counts.sum()), len(counts)
        self.random = Random(0)
        self.budget = BUDGET

    def by_deadlines(self) -> _Found:
        """Earliest deadline first: the best of several phases, of moves of them, and of ever new ones."""
        starts = self._starts()
        pool = sorted((self._shrink(next(starts)) for _ in range(STARTS)), key=lambda found: found.range)
        best = pool[0]
        for found in self._turns(pool, starts):
            if self.budget <= 0 or best.range <= _least_range(self.counts):
                return best
            best = min(best, self._climb(found), key=lambda found: found.range)

    def by_credits(self) -> _Found:
        """Smooth weighted round robin: the best of a brood of credits, then of moves of the best's, and so on."""
        best = self._unfound()
        brood = list(islice(self._starts(), min(BROOD, 1 + 2_048 // self.n)))
        cost = BROOD * (self.period + 600)
        while self.budget >= cost and best.range > _least_range(self.counts):
            self.budget -= cost
            orders = round_robins(self.counts, (np.array(brood) - ONE // 2) * self.period >> 16)
            best = self._best([*zip(brood, orders, strict=True)], best)
            brood = [self._move(self._move(best.phases)) for _ in brood]
        return best

    def by_quotas(self) -> _Found:
        """The quota method: the best of Jefferson's divisors, Webster's and spread offsets."""
        offsets = chain([np.full(self.n, ONE), np.full(self.n, ONE // 2)], self._starts())
        tried = islice(offsets, min(QUOTAS, self.budget // (16 * self.period)))
        return self._best([(phases, quota(self.counts, phases)) for phases in tried], self._unfound())

    def _unfound(self) -> _Found:
        return _Found(3 * self.period, np.full(self.n, ONE // 2), None)

    def _best(self, tried: list[tuple[np.ndarray, np.ndarray]], best: _Found) -> _Found:
        """The best of the periods tried, of those that have the exact counts, unless `best` is better."""
        exact = [pair for pair in tried if (np.bincount(pair[1], minlength=self.n) == self.counts).all()]
        found = [_Found(_range(order, self.counts), phases, order) for phases, order in exact]
        return min([*found, best], key=lambda found: found.range)

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
