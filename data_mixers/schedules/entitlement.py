"""What each task is entitled to after so many draws: the integral of its share, over weights that are steady or move.

All in exact fractions at the ends of a stretch and in integers inside it. `passages` turns entitlements around: after how
many draws a task is first entitled to its k-th.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

import numpy as np

NEVER = 2**40
"""A passage that does not come, and the farthest that is told apart from one."""


class Stretch(NamedTuple):
    """Draws start..stop-1 (stop None: for ever) in which shares move in a straight line from `first` to `last`.

    first, last: draws of each task in a period (0: none); the same tuple twice where the shares are steady.
    """

    start: int
    stop: int | None
    first: tuple[int, ...]
    last: tuple[int, ...]

    @property
    def steady(self) -> bool:
        return self.first == self.last


class Entitlement:
    """Entitlements of n tasks along stretches that follow each other from draw 0 on.

    Args:
        debts: what each task is entitled to at the start; they sum to 0.
        stretches: the last one is steady and has no end.
    """

    def __init__(self, debts: Sequence[Fraction], stretches: Sequence[Stretch]):
        self.stretches = tuple(stretches)
        self.levels = [list(debts)]
        for stretch in self.stretches[:-1]:
            length = stretch.stop - stretch.start
            grown = [_growth(stretch, task, length) for task in range(len(debts))]
            self.levels.append([level + more for level, more in zip(self.levels[-1], grown, strict=True)])

    def after(self, draws: int) -> list[Fraction]:
        """What each task is entitled to after `draws` draws."""
        index = self._index(draws)
        stretch, levels = self.stretches[index], self.levels[index]
        return [level + _growth(stretch, task, draws - stretch.start) for task, level in enumerate(levels)]

    def shares(self, draws: int) -> list[Fraction]:
        """The shares that hold from draw number `draws` on."""
        stretch = self.stretches[self._index(draws)]
        first, last = _shares(stretch.first), _shares(stretch.last)
        if stretch.steady:
            return first
        way = Fraction(draws - stretch.start, stretch.stop - stretch.start)
        return [a + (b - a) * way for a, b in zip(first, last, strict=True)]

    def _index(self, draws: int) -> int:
        return max(i for i, stretch in enumerate(self.stretches) if stretch.start <= draws)

    def passages(self, task: int, first: int, stop: int, shift: Fraction, beyond: bool, since: int) -> np.ndarray:
        """For k = first..stop-1, the draws (less `since`) after which the task is first entitled to k + shift.

        Args:
            beyond: to more than k + shift, rather than to at least that.

        Returns:
            int64 (stop - first,); NEVER for a passage that does not come, or not before NEVER.
        """
        found = [np.zeros(0, np.int64)]
        k = first
        for stretch, level, ending in zip(self.stretches, self.levels, [*self.levels[1:], None], strict=True):
            if ending is not None:
                most = ending[task] - shift
                end = min(ceil(most) if beyond else floor(most) + 1, stop)
            else:
                end = stop if stretch.first[task] else k
            if k < end:
                found.append(_inside(stretch, task, np.arange(k, end), shift - level[task], beyond, since))
                k = end
        return np.concatenate([*found, np.full(stop - k, NEVER)])

    def discrepancies(self, task: int, drawn: np.ndarray, since: int) -> tuple[Fraction, Fraction]:
        """Least and greatest `drawn[s]` less the entitlement after since + s draws, s = 0, 1, ... in one stretch."""
        index = self._index(since)
        stretch, level = self.stretches[index], self.levels[index][task]
        amounts, unit = _amounts(stretch, task, since - stretch.start, len(drawn))
        errors = _wide(drawn, unit) * unit - amounts
        return Fraction(int(errors.min()), unit) - level, Fraction(int(errors.max()), unit) - level


def _shares(counts: tuple[int, ...]) -> list[Fraction]:
    period = sum(counts)
    return [Fraction(count, period) for count in counts]


def _growth(stretch: Stretch, task: int, draws: int) -> Fraction:
    first = Fraction(stretch.first[task], sum(stretch.first))
    if stretch.steady:
        return first * draws
    last = Fraction(stretch.last[task], sum(stretch.last))
    return first * draws + (last - first) * Fraction(draws**2, 2 * (stretch.stop - stretch.start))


def _inside(stretch: Stretch, task: int, k: np.ndarray, offset: Fraction, beyond: bool, since: int) -> np.ndarray:
    """Passages that come inside the stretch: of what it adds, through k + offset."""
    if stretch.steady:
        count, period, parts = stretch.first[task], sum(stretch.first), offset.denominator
        wanted = _wide(k, 2 * parts * period) * (parts * period) + offset.numerator * period
        draws = wanted // (count * parts) + 1 if beyond else -(-wanted // (count * parts))
    else:
        amounts, unit = _amounts(stretch, task, 0, stretch.stop - stretch.start + 1)
        exact = [(number + offset) * unit for number in k.tolist()]
        if beyond:
            draws = np.searchsorted(amounts, [floor(level) for level in exact], side="right")
        else:
            draws = np.searchsorted(amounts, [ceil(level) for level in exact], side="left")
    draws = np.maximum(draws, 0) + (stretch.start - since)
    return np.minimum(draws, NEVER).astype(np.int64)


def _amounts(stretch: Stretch, task: int, since: int, length: int) -> tuple[np.ndarray, int]:
    """What the stretch adds after since, since + 1, ... draws of it, as integers (length,) in units of 1/unit."""
    first, last = sum(stretch.first), sum(stretch.last)
    a, b = stretch.first[task], stretch.last[task]
    draws = np.arange(since, since + length)
    if stretch.steady:
        return _wide(draws, first) * a, first
    ramp = stretch.stop - stretch.start
    draws = _wide(draws, 2 * first * last * ramp)
    return (2 * a * last * ramp) * draws + (b * first - a * last) * draws**2, 2 * first * last * ramp


def _wide(numbers: np.ndarray, factor: int) -> np.ndarray:
    """The numbers, as Python's integers where 64 bits would not hold their products with `factor`."""
    most = int(np.abs(numbers).max()) + 2
    return numbers if most * factor < 2**62 else numbers.astype(object)
