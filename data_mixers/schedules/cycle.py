"""A sequence of tasks that repeats for ever, with random access: one period is stored, every position is looked up in it."""

import hashlib
from functools import cached_property
from typing import NamedTuple

import numpy as np


class Draw(NamedTuple):
    """What a position holds: the task (index in the order of the weights) and how often that task came before."""

    task: int
    number: int


class Cycle:
    """One period of task indices, repeated.

    Args:
        order: int16 (period,), task indices in 0..n-1.
        n: number of tasks; one that is not in `order` is never drawn.

    Attributes:
        counts: int64 (n,), draws of each task in one period.
        period: length after which the sequence repeats.
    """

    def __init__(self, order: np.ndarray, n: int):
        self.order = order
        self.order.flags.writeable = False
        self.period = len(order)
        self.counts = np.bincount(order, minlength=n)
        self._ends = np.cumsum(self.counts)
        self._places = np.argsort(order, kind="stable")
        self._number = np.empty(self.period, np.int64)
        self._number[self._places] = np.arange(self.period) - np.repeat(self._ends - self.counts, self.counts)

    def take(self, start: int, stop: int) -> np.ndarray:
        """Task indices at positions start..stop-1, int16 (stop - start,)."""
        if not 0 <= start <= stop:
            raise ValueError(f"take({start}, {stop}): positions need 0 <= start <= stop")
        first = start % self.period
        if first + stop - start <= self.period:
            return self.order[first : first + stop - start]
        return np.resize(np.roll(self.order, -first), stop - start)

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Task indices at any positions (integers, >= 0), int16 of the same shape."""
        positions = np.asarray(positions)
        check_positions(positions)
        return self.order[positions % self.period]

    def draw(self, position: int) -> Draw:
        """The task at a position (>= 0) and the number of earlier draws of that task; O(1), without history."""
        if position < 0:
            raise ValueError(f"draw({position}): a position is at least 0")
        periods, place = divmod(position, self.period)
        task = int(self.order[place])
        return Draw(task, periods * int(self.counts[task]) + int(self._number[place]))

    def drawn(self, position: int) -> np.ndarray:
        """Draws of each task at the positions before this one, int64 (n,)."""
        periods, place = divmod(position, self.period)
        return periods * self.counts + np.bincount(self.order[:place], minlength=len(self.counts))

    def place_of(self, task: int, number: int) -> int | None:
        """The position of a task's draw `number` (0 is its first); None if the task is never drawn."""
        if number < 0:
            raise ValueError(f"draw number {number}: a task's draws are counted from 0")
        count = int(self.counts[task])
        if count == 0:
            return None
        periods, rest = divmod(number, count)
        return periods * self.period + int(self._places[int(self._ends[task]) - count + rest])

    @cached_property
    def digest(self) -> str:
        """Hash of one period: equal digests are equal sequences, on any machine."""
        return hashlib.blake2b(self.order.astype("<i2").tobytes(), digest_size=16).hexdigest()


def check_positions(positions: np.ndarray) -> None:
    if not np.issubdtype(positions.dtype, np.integer):
        raise TypeError(f"positions are integers, these are {positions.dtype}")
    if positions.size and positions.min() < 0:
        raise ValueError(f"a position is at least 0; {positions.min()} is not")
