"""Two rules that choose each draw without looking ahead, from phases that can be searched: candidates of window mode."""

import numpy as np

from .chairman import earliest_deadline_first, period_jobs

ONE = 1 << 16
"""Phases are in ONE-ths."""


def round_robins(counts: np.ndarray, credits: np.ndarray) -> np.ndarray:
    """Smooth weighted round robin from initial credits: each task earns its weight, the richest is drawn and pays.

    Args:
        counts: draws of each task in one period, int64 (n,).
        credits: int64 (trials, n), in units of 1/period of a draw; all trials are drawn at once.

    Returns:
        Task indices, int16 (trials, period). A trial repeats after the period if it has the exact counts; not all do.
    """
    period, trials = int(counts.sum()), np.arange(len(credits))
    orders, credits = np.empty((period, len(trials)), np.int16), credits.copy()
    for drawn in orders:
        credits += counts
        drawn[:] = richest = credits.argmax(axis=1)
        credits[trials, richest] -= period
    return orders.T


def quota(counts: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """One period by the quota method (Balinski and Young 1975; Still 1979): task indices, int16 (sum of counts,).

    Of the tasks that may be drawn without exceeding their upper quota, count_i(t) <= ceil(w_i t), the one with the least
    (count_i + offset_i) / w_i, to a ONE-th of a position, of equals the first. So it is earliest deadline first: the quota
    releases a draw, the criterion is its deadline.

    Args:
        offsets: int64 (n,), in ONE-ths: ONE is Jefferson's divisors, which keep the lower quota too, ONE // 2 Webster's.
    """
    period = int(counts.sum())
    jobs = period_jobs(counts, np.zeros_like(counts), np.full_like(counts, period - 1))
    number = np.arange(period) - np.repeat(np.cumsum(counts) - counts, counts)
    criterion = (number * ONE + offsets[jobs.task]) * period // counts[jobs.task]
    order, _ = earliest_deadline_first(jobs._replace(deadline=criterion), late=True)
    return jobs.task[order].astype(np.int16)
