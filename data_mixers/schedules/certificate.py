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
    """Least and greatest discrepancy of each task over all prefixes of `order`, int64 (n,) each, in units of 1/period.

    A discrepancy is least just before a draw of the task, or at the end, and greatest just after one, or at the start.

    Args:
        order: task indices (draws,): one period, or any sequence that is measured against the weights.
        counts: draws of each task in one period (> 0).
    """
    period, drawn = int(counts.sum()), np.bincount(order, minlength=len(counts))
    places = np.argsort(order, kind="stable")
    firsts, count = np.cumsum(drawn) - drawn, np.repeat(counts, drawn)
    before = (np.arange(len(order)) - np.repeat(firsts, drawn)) * period - places * count
    least = np.minimum(0, drawn * period - counts * len(order))
    greatest = np.zeros(len(counts), np.int64)
    some = drawn > 0
    least[some] = np.minimum(least[some], np.minimum.reduceat(before, firsts[some]))
    greatest[some] = np.maximum(0, np.maximum.reduceat(before + period - count, firsts[some]))
    return least, greatest


def worst_discrepancy(order: np.ndarray, counts: np.ndarray) -> int:
    """Worst |D(t)| of any task and prefix, in units of 1/period."""
    low, high = extremes(order, counts)
    return int(max(-low.min(), high.max()))


def sequence_errors(order: np.ndarray, counts: np.ndarray) -> tuple[Fraction, Fraction]:
    """Worst error of any prefix and of any window inside the sequence, in draws.

    Of one period it is the worst error of any window of its repetition too.
    """
    low, high = extremes(order, counts)
    period = int(counts.sum())
    return Fraction(int(max(-low.min(), high.max())), period), Fraction(int((high - low).max()), period)


def length_error(order: np.ndarray, counts: np.ndarray, length: int) -> Fraction:
    """Worst error of any window of `length` draws inside the sequence; 0 where there is none.

    A window holds most of a task when it starts with one, and least when it starts just after one.
    """
    if length > len(order):
        return Fraction(0)
    period, last = int(counts.sum()), len(order) - length
    held = [np.bincount(order[start : start + length], minlength=len(counts)) for start in (0, last)]
    worst = max(int(np.abs(count * period - counts * length).max()) for count in held)
    places = np.argsort(order, kind="stable")
    tasks = order[places]
    codes = tasks.astype(np.int64) * (len(order) + 1) + places
    for after in (0, 1):
        inside = np.flatnonzero(places + after <= last)
        if len(inside):
            held = np.searchsorted(codes, codes[inside] + after + length) - inside - after
            worst = max(worst, int(np.abs(held * period - counts[tasks[inside]] * length).max()))
    return Fraction(worst, period)


def certify(
    tasks: tuple[str, ...], order: np.ndarray, counts: np.ndarray, rounding_error: Fraction, digest: str, step: int
) -> Certificate:
    prefix_error, window_error = sequence_errors(order, counts)
    return Certificate(
        prefix_error=prefix_error,
        bound=bound(len(tasks)),
        window_error=window_error,
        step=step,
        step_error=_any_start(order, counts, step),
        counts=dict(zip(tasks, counts.tolist(), strict=True)),
        period=len(order),
        rounding_error=rounding_error,
        digest=digest,
    )


def _any_start(order: np.ndarray, counts: np.ndarray, length: int) -> Fraction:
    """Worst error of windows of `length` draws of the repeated period: whole periods in them are exact."""
    rest = length % len(order)
    return length_error(np.concatenate([order, order[:rest]]), counts, rest) if rest else Fraction(0)
