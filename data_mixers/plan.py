"""Weights that change along a run: steps, linear ramps, a task that leaves, a change that nobody planned.

What a task is entitled to is the integral of its share over the draws so far. Tijdeman's theorem holds for weights that
vary in time, so a planned change keeps the bound of every prefix (section 5.2.4); an unplanned one carries the debt.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .schedule import Draw


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


class Plan:
    """A sequence of tasks under weights that change, with the random access of a `Schedule`.

    `Plan(weights)` is the sequence of `Schedule(weights)`. Plans are immutable: `change` and `leave` give a new one, which
    agrees with this one before the position of the change.

    Args:
        segments: the planned segments, in the order of their starts, or the weights alone if they never change.
        mode: as of `Schedule`; what follows a change is built for the prefix bound in either mode.
        max_period: as of `Schedule`, for every segment.

    Attributes:
        tasks: names of all tasks that ever have a weight, in the order in which they are first named.
    """

    def __init__(
        self, segments: Mapping[str, int | float] | Iterable[Segment], mode: str = "prefix", max_period: int = 100_000
    ):
        raise NotImplementedError

    def take(self, start: int, stop: int) -> np.ndarray:
        """Task indices at positions start..stop-1, int16 (stop - start,)."""

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Task indices at any positions (int64, >= 0), int16 of the same shape."""

    def draw(self, position: int) -> Draw:
        """The task at a position and how often it came before: O(log segments)."""

    def drawn(self, position: int) -> np.ndarray:
        """Draws of each task at the positions before this one, int64 (n,)."""

    def position_of(self, task: str, number: int) -> int | None:
        """The position of a task's draw `number` (0 is its first); None if that never comes."""

    def change(self, position: int, weights: Mapping[str, int | float], ramp: int = 0) -> "Plan":
        """A change that was not planned: other weights from `position` on; debts are carried over and repaid."""

    def leave(self, position: int, task: str) -> "Plan":
        """The task has weight 0 from `position` on (its rows are used up); the others keep their weights' ratios."""

    @property
    def identity(self) -> dict[str, Any]:
        """Tasks and sequence hashed, and every segment packed: plain JSON under 700 bytes, `restore` rebuilds from it."""

    @classmethod
    def restore(cls, tasks: Iterable[str], identity: Mapping[str, Any]) -> "Plan":
        """The plan of an `identity`, unplanned changes included, given its tasks in their order."""
