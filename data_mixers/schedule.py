"""Which task comes at which position: an interleaving whose every prefix is as close to the weights as can be.

Section 5.2.4 of the report asks that the task ratio of any contiguous window match the target distribution. Tijdeman's
chairman assignment (Discrete Mathematics 32, 1980) keeps `|count_i(t) - w_i t| <= 1 - 1/(2n-2)` for every task i and
prefix t, so any window is within twice that.
"""

import heapq
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np


class WeightError(ValueError):
    """Weights that no schedule can follow; the message names the task, its value and the mend."""


class Draw(NamedTuple):
    """What a position holds: the task (index in the order of the weights) and how often that task came before."""

    task: int
    number: int


class Schedule:
    """A periodic sequence of tasks with random access, exact in integers.

    Args:
        weights: positive weight by task, of any scale. A float is the decimal that it prints as: 0.1 is one tenth.
        max_period: longest period to build. Weights that need a longer one are rounded to `max_period`-ths of the
            total, and `rounding_error` says by how much the worst share moved.

    Attributes:
        tasks: the task names, in the order of the weights.
        counts: int64 (n,), draws of each task in one period; their sum is `period` and their greatest common divisor 1.
        period: length after which the sequence repeats, at which every count is exact.
        rounding_error: largest |realised share - requested share|; 0.0 when the weights are met exactly.

    Raises:
        WeightError: a weight is not a finite positive number, or too small for one draw in `max_period`.
    """

    def __init__(
        self,
        weights: Mapping[str, int | float],
        mode: Literal["prefix", "window"] = "prefix",
        max_period: int = 100_000,
    ):
        if not weights:
            raise WeightError("no task has a weight: give at least one, as {'ocr_regular': 1}")
        requested = [_exact(task, weight) for task, weight in weights.items()]
        self.tasks = tuple(weights)
        counts = _integer_counts(self.tasks, requested, max_period)
        self.period = sum(counts)
        self.counts = np.array(counts, np.int64)
        total = sum(requested)
        errors = (abs(Fraction(c, self.period) - w / total) for c, w in zip(counts, requested, strict=True))
        self.rounding_error = float(max(errors))
        self._order = _assign_chairmen(counts)
        self._number = _occurrence(self._order, len(counts))

    @property
    def bound(self) -> Fraction:
        """Tijdeman's bound on the error of any prefix, in draws: 1 - 1/(2n-2); 0 for a single task."""
        n = len(self.tasks)
        return Fraction(2 * n - 3, 2 * n - 2) if n > 1 else Fraction(0)

    @property
    def prefix_error(self) -> Fraction:
        """Worst |count_i(t) - w_i t| over all tasks and prefixes, in draws, measured over one period (exact)."""
        t = np.arange(1, self.period + 1)
        errors = (np.cumsum(self._order == i) * self.period - t * count for i, count in enumerate(self.counts))
        return Fraction(max(int(np.abs(error).max()) for error in errors), self.period)

    def take(self, start: int, stop: int) -> np.ndarray:
        """Task indices at positions start..stop-1, int16 (stop - start,)."""
        if not 0 <= start <= stop:
            raise ValueError(f"take({start}, {stop}): positions need 0 <= start <= stop")
        return self._order[np.arange(start, stop) % self.period]

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Task indices at any positions (int64, >= 0), int16 of the same shape."""
        return self._order[positions % self.period]

    def drawn(self, position: int) -> np.ndarray:
        """Draws of each task at the positions before this one, int64 (n,)."""
        periods, place = divmod(position, self.period)
        return periods * self.counts + np.bincount(self._order[:place], minlength=len(self.tasks))

    def position_of(self, task: str, number: int) -> int:
        """The position of a task's draw `number` (0 is its first)."""
        index = self.tasks.index(task)
        periods, rest = divmod(number, int(self.counts[index]))
        return periods * self.period + int(np.flatnonzero(self._order == index)[rest])

    def draw(self, position: int) -> Draw:
        """The task at a position (>= 0) and the number of earlier draws of that task; O(1), without history."""
        if position < 0:
            raise ValueError(f"draw({position}): a position is at least 0")
        periods, place = divmod(position, self.period)
        task = int(self._order[place])
        return Draw(task, periods * int(self.counts[task]) + int(self._number[place]))


def _exact(task: str, weight: int | float) -> Fraction:
    try:
        value = Fraction(str(weight))
    except ValueError:
        value = Fraction(0)
    if isinstance(weight, bool) or value <= 0:
        raise WeightError(
            f"weight of {task!r} is {weight!r}; a weight is a finite number above 0 (leave the task out to drop it)"
        )
    return value


def _integer_counts(tasks: tuple[str, ...], weights: list[Fraction], max_period: int) -> list[int]:
    """Draws a period: the weights' exact ratio where its period fits, else the nearest one of `max_period` draws."""
    scale = math.lcm(*(w.denominator for w in weights))
    counts = [int(w * scale) for w in weights]
    if sum(counts) // math.gcd(*counts) > max_period:
        counts = _largest_remainder(weights, max_period)
    for task, weight, count in zip(tasks, weights, counts, strict=True):
        if count == 0:
            raise WeightError(
                f"weight of {task!r} is {float(weight / sum(weights)):.3g} of the total, less than one draw in "
                f"{max_period:,}; raise it, leave the task out, or give a larger max_period"
            )
    divisor = math.gcd(*counts)
    counts = [count // divisor for count in counts]
    if 2 * len(counts) * sum(counts) ** 2 >= 2**63:
        raise WeightError(
            f"a period of {sum(counts):,} draws of {len(counts)} tasks overflows 64 bits; lower max_period"
        )
    return counts


def _largest_remainder(weights: list[Fraction], total: int) -> list[int]:
    shares = [w * total / sum(weights) for w in weights]
    counts = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - shares[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _assign_chairmen(counts: list[int]) -> np.ndarray:
    """One period of task indices, by earliest deadline first.

    With d = 1 - 1/(2n-2), W the period and w_i = counts[i] / W, the bound says when draw k = 0, 1, ... of task i may
    come: not before the first t with w_i t - k >= 1 - d, and at the latest at the first t with w_i t - k > d.
    Tijdeman's theorem is that these unit jobs always fit; earliest deadline first then finds a fit.
    """
    n, period = len(counts), sum(counts)
    if n == 1:
        return np.zeros(1, np.int16)
    parts = 2 * n - 2
    tasks = np.repeat(np.arange(n), counts)
    k = np.concatenate([np.arange(count) for count in counts])
    weight = parts * np.array(counts, np.int64)[tasks]
    release = -(-period * (parts * k + 1) // weight)
    deadline = period * (parts * k + parts - 1) // weight + 1
    jobs = np.lexsort((tasks, deadline, release))
    waiting: list[tuple[int, int]] = []
    order = np.empty(period, np.int16)
    queue = iter(zip(release[jobs].tolist(), deadline[jobs].tolist(), tasks[jobs].tolist(), strict=True))
    upcoming = next(queue, None)
    for t in range(1, period + 1):
        while upcoming is not None and upcoming[0] <= t:
            heapq.heappush(waiting, upcoming[1:])
            upcoming = next(queue, None)
        order[t - 1] = heapq.heappop(waiting)[1]
    return order


def _occurrence(order: np.ndarray, n: int) -> np.ndarray:
    """For each place of a period, how often its task came earlier in the period."""
    number = np.empty(len(order), np.int64)
    for task in range(n):
        places = np.flatnonzero(order == task)
        number[places] = np.arange(len(places))
    return number
