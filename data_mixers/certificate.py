"""What a schedule keeps, measured exactly: the worst error of any prefix, of any window and of windows of one length.

The discrepancy of a task, `D(t) = count(t) - w t`, returns to 0 after every period, so one period tells all. A prefix errs by
|D(t)|, the window (s, t] by D(t) - D(s): at worst over all windows by the range of D. Everything is in integers, in units of
1/period.
"""

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from .weights import bound


class Certificate(NamedTuple):
    """The guarantees of a schedule, in draws, exact.

    prefix_error: worst |count_i(t) - w_i t| over all tasks i and prefixes t.
    bound: Tijdeman's 1 - 1/(2n-2) for it.
    window_error: worst |count - w_i length| over all tasks and all windows, of any length, starting anywhere.
    step: a window length, such as the draws of a gradient step, and step_error: the worst error of such windows.
    counts: draws of each task in a period; every period has them exactly.
    rounding_error: largest |share in a period - share asked for|; 0 when the weights are met exactly.
    digest: hash of one period; equal digests are equal sequences.
    """

    prefix_error: Fraction
    bound: Fraction
    window_error: Fraction
    step: int
    step_error: Fraction
    counts: dict[str, int]
    period: int
    rounding_error: Fraction
    digest: str

    @property
    def holds(self) -> bool:
        """Whether every prefix keeps the bound."""
        return self.prefix_error <= self.bound


def extremes(order: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest discrepancy of each task over the period `order` with these counts (> 0), int64 (n,) each.

    The discrepancy is least just before a draw of the task and greatest just after one.
    """
    period = len(order)
    places = np.argsort(order, kind="stable")
    firsts = np.cumsum(counts) - counts
    k = np.arange(period) - np.repeat(firsts, counts)
    before = k * period - places * np.repeat(counts, counts)
    after = before + period - np.repeat(counts, counts)
    return np.minimum.reduceat(before, firsts), np.maximum.reduceat(after, firsts)


def prefix_error(order: np.ndarray, counts: np.ndarray) -> Fraction:
    low, high = extremes(order, counts)
    return Fraction(int(max(-low.min(), high.max())), len(order))


def window_error(order: np.ndarray, counts: np.ndarray) -> Fraction:
    low, high = extremes(order, counts)
    return Fraction(int((high - low).max()), len(order))


def length_error(order: np.ndarray, counts: np.ndarray, length: int) -> Fraction:
    """Worst error of windows of `length` draws, starting anywhere."""
    period = len(order)
    rest = length % period
    twice = np.concatenate([order, order[:rest]])
    worst = 0
    for task, count in enumerate(counts.tolist()):
        seen = np.concatenate([[0], np.cumsum(twice == task)])
        errors = (seen[rest:] - seen[: len(seen) - rest]) * period - count * rest
        worst = max(worst, int(np.abs(errors).max()))
    return Fraction(worst, period)


def certify(
    tasks: tuple[str, ...], order: np.ndarray, counts: np.ndarray, rounding_error: Fraction, digest: str, step: int
) -> Certificate:
    return Certificate(
        prefix_error=prefix_error(order, counts),
        bound=bound(len(tasks)),
        window_error=window_error(order, counts),
        step=step,
        step_error=length_error(order, counts, step),
        counts=dict(zip(tasks, counts.tolist(), strict=True)),
        period=len(order),
        rounding_error=rounding_error,
        digest=digest,
    )
