"""Which task comes at which position: an interleaving as close to the weights as can be, with a certificate of how close.

Section 5.2.4 of the report asks that the task ratio of any contiguous window match the target distribution.
"""

from collections.abc import Mapping
from typing import Literal, get_args

from .certificate import Certificate, certify
from .chairman import assign
from .cycle import Cycle
from .weights import MAX_PERIOD, integer_counts
from .window_search import closest_windows

Mode = Literal["prefix", "window"]
STEP = 390
"""Draws of one gradient step of Table 3: 13 task types x 30."""


class Schedule(Cycle):
    """A periodic sequence of tasks with random access, exact in integers.

    Args:
        weights: positive weight by task, of any scale. A float is the decimal that it prints as: 0.1 is one tenth.
        mode: *prefix* keeps Tijdeman's bound on the error of every prefix, 1 - 1/(2n-2), and so twice that on any window.
            *window* searches for the smallest worst error of any window, in half a second; its prefixes may err more.
        max_period: longest period to build. Weights that need a longer one are rounded to `max_period`-ths of the
            total, and `rounding_error` says by how much the worst share moved.

    Attributes:
        tasks: the task names, in the order of the weights; task indices refer to it.
        counts: int64 (n,), draws of each task in one period; their sum is `period` and their greatest common divisor 1.
        period: length after which the sequence repeats, at which every count is exact.
        rounding_error: largest |realised share - requested share|, exact; 0 when the weights are met.

    Raises:
        WeightError: a weight is not a finite positive number, or too small for one draw in `max_period`.
    """

    def __init__(self, weights: Mapping[str, int | float], mode: Mode = "prefix", max_period: int = MAX_PERIOD):
        if mode not in get_args(Mode):
            raise ValueError(f"mode {mode!r} is not known; it is 'prefix' or 'window'")
        counts, _, self.rounding_error = integer_counts(weights, max_period)
        self.tasks = tuple(weights)
        self.mode = mode
        super().__init__(assign(counts) if mode == "prefix" else closest_windows(counts), len(self.tasks))

    @property
    def certificate(self) -> Certificate:
        """What the schedule keeps, with windows of one gradient step of Table 3."""
        return self.certify(STEP)

    def certify(self, step: int) -> Certificate:
        """What the schedule keeps, exact, with the worst error of windows of `step` draws."""
        return certify(self.tasks, self.order, self.counts, self.rounding_error, self.digest, step)

    def position_of(self, task: str, number: int) -> int:
        """The position of a task's draw `number` (0 is its first)."""
        return self.place_of(self.tasks.index(task), number)
