"""One period of draws from windows: Tijdeman's chairman assignment (Discrete Mathematics 32, 1980) in integers.

Draw k = 0, 1, ... of task i keeps the task's discrepancy `D_i(t) = count_i(t) - w_i t` within [low_i, high_i] exactly when it
comes inside a window of positions. With low = -bound and high = bound, Tijdeman's theorem is that the draws always fit.
Discrepancies are integers here, in units of 1/period: `count_i(t) * period - counts[i] * t`.
"""

from heapq import heappop, heappush, heappushpop
from typing import NamedTuple

import numpy as np

from .certificate import worst_discrepancy
from .weights import bound


class Jobs(NamedTuple):
    """Draws to be placed, each int64 (jobs,): its task and the first and last position (from 1) that it may take."""

    task: np.ndarray
    release: np.ndarray
    deadline: np.ndarray

    def pick(self, order: np.ndarray) -> "Jobs":
        return Jobs(*(column[order] for column in self))


EXACT_PERIOD = 1_000
"""Up to this period the smallest worst error of any prefix is found; longer ones keep the bound."""
NEAR = 128
"""Draws to either side that a misfit may move in an attempt that may fail."""


def assign(counts: np.ndarray) -> np.ndarray:
    """One period in which every prefix keeps the bound: task indices, int16 (sum of counts,).

    Up to `EXACT_PERIOD` draws no other order has a smaller worst error of a prefix. Longer periods of ten tasks or more are
    tried once with an error of 1 - 2/n, which nearly all weights allow.
    """
    n, period = len(counts), int(counts.sum())
    if n == 1:
        return np.zeros(1, np.int16)
    order = None
    if period > EXACT_PERIOD and n >= 10:
        order = place_by_middles(_within(counts, (n - 2) * period // n), NEAR)
    if order is None:
        order = place_by_middles(_within(counts, bound(n) * period // 1), period)
    return _tightest(counts, order) if period <= EXACT_PERIOD else order


def _within(counts: np.ndarray, reach: int) -> Jobs:
    most = np.full(len(counts), reach)
    return period_jobs(counts, -most, most)


def _tightest(counts: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Bisects the worst error of a prefix: earliest deadline first fits wherever there is a fit."""
    worst = worst_discrepancy(order, counts)
    impossible = (int(counts.sum() - counts.min()) - 1) // 2  # a draw moves the rarest task's discrepancy by 1 - w
    while worst - impossible > 1:
        reach = (worst + impossible) // 2
        jobs = _within(counts, reach)
        placed, _ = earliest_deadline_first(jobs)
        if placed is None:
            impossible = reach
        else:
            order = jobs.task[placed].astype(np.int16)
            worst = worst_discrepancy(order, counts)
    return order


def period_jobs(counts: np.ndarray, low: np.ndarray, high: np.ndarray) -> Jobs:
    """The draws of one period that starts at discrepancy 0, with windows that keep them within [low, high], int64 (n,)."""
    period = int(counts.sum())
    task = np.repeat(np.arange(len(counts)), counts)
    count = counts[task]
    k = np.arange(period) - np.repeat(np.cumsum(counts) - counts, counts)
    done = k * period
    release = (done + (period - 1 - high + counts)[task]) // count
    deadline = (done - low[task]) // count + 1
    return Jobs(task, release, np.minimum(deadline, period))


def place_by_middles(jobs: Jobs, widest: int) -> np.ndarray | None:
    """The tasks of the jobs, int16 (jobs,), in the order of their windows' middles, with the misfits mended.

    That order nearly fits and is found by one sort, at a quarter of the time of `earliest_deadline_first`. A misfit changes
    places with a job that fits where it stands; where none does, the stretch around it is placed by earliest deadline.

    Args:
        widest: jobs to either side of a misfit that may be placed anew; if that does not help, the answer is None.
    """
    size = len(jobs.task)
    keys = (jobs.release + jobs.deadline) * size + np.arange(size)
    keys.sort()
    jobs = jobs.pick(keys % size)
    place = np.arange(1, size + 1)
    misfits = np.flatnonzero((place < jobs.release) | (place > jobs.deadline))
    if not len(misfits):
        return jobs.task.astype(np.int16)
    columns = Jobs(*(column.tolist() for column in jobs))
    for misfit in misfits.tolist():
        # an earlier exchange may have mended it
        fits = columns.release[misfit] <= misfit + 1 <= columns.deadline[misfit]
        if not (fits or _exchange(columns, misfit) or _rearrange(columns, misfit, widest)):
            return None
    return np.array(columns.task, np.int16)


def _exchange(columns: Jobs, here: int) -> bool:
    _, release, deadline = columns
    first, last = release[here] - 1, deadline[here] - 1
    places = range(first, last + 1) if here < first else range(last, first - 1, -1)
    there = next((p for p in places if release[p] - 1 <= here < deadline[p]), None)
    if there is None:
        return False
    for column in columns:
        column[here], column[there] = column[there], column[here]
    return True


def _rearrange(columns: Jobs, here: int, widest: int) -> bool:
    """Places the jobs around `here` anew, in a stretch that doubles until they fit or it is wider than `widest`."""
    size, reach = len(columns.task), 32
    while True:
        start, stop = max(here - reach, 0), min(here + reach, size)
        task, release, deadline = (np.array(column[start:stop]) for column in columns)
        order, _ = earliest_deadline_first(Jobs(task, release - start, deadline - start))
        if order is not None:
            for column in columns:
                column[start:stop] = [column[start + job] for job in order.tolist()]
            return True
        if reach >= widest:
            return False
        reach *= 2


def earliest_deadline_first(jobs: Jobs, places: int | None = None, late: bool = False) -> tuple[np.ndarray | None, int]:
    """At every position from 1 on the released job with the earliest deadline, of equals the first.

    Finds a fit wherever there is one: (indices of the jobs in their order, their number), or (None, where it failed).

    Args:
        places: positions to fill; None fills one with every job.
        late: place a job after its deadline rather than fail.
    """
    size = len(jobs.task)
    by_release = np.argsort(jobs.release, kind="stable")
    codes = (jobs.deadline[by_release] * size + by_release).tolist()
    places = size if places is None else places
    released = np.searchsorted(jobs.release[by_release], np.arange(1, places + 1), side="right").tolist()
    waiting: list[int] = []
    order: list[int] = []
    seen = 0
    for position, ready in enumerate(released, start=1):
        while seen < ready - 1:
            heappush(waiting, codes[seen])
            seen += 1
        if seen < ready:
            code = heappushpop(waiting, codes[seen])
            seen += 1
        elif waiting:
            code = heappop(waiting)
        else:
            return None, position
        if code < position * size and not late:
            return None, position
        order.append(code)
    return np.array(order) % size, places
