"""Weights as integers: how often each task is drawn in one period. Nothing is truncated: what is rounded is reported."""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

import numpy as np

MAX_PERIOD = 100_000
"""Longest period that is built unless a caller asks for another."""
MOST_TASKS = 2**15 - 1
"""Task indices are int16."""


class WeightError(ValueError):
    """Weights that no schedule can follow; the message names the task, its value and the mend."""


class Counts(NamedTuple):
    """Draws of each task a period (int64 (n,), greatest common divisor 1) and how far the rounding moved the worst share."""

    counts: np.ndarray
    period: int
    rounding_error: Fraction


def integer_counts(weights: Mapping[str, int | float], max_period: int = MAX_PERIOD) -> Counts:
    """The weights' exact ratio where its period is at most `max_period`, else the nearest one of `max_period` draws.

    Args:
        weights: a weight above 0 by task, of any scale. A float is the decimal that it prints as: 0.1 is one tenth.

    Raises:
        WeightError: a weight is not a finite positive number, or too small for one draw in `max_period`.
    """
    if not weights:
        raise WeightError("no task has a weight: give at least one, as {'ocr_regular': 1}")
    if len(weights) > MOST_TASKS:
        raise WeightError(f"{len(weights):,} tasks are more than the {MOST_TASKS:,} that 16 bits tell apart")
    ratio = _ratio(weights)
    total = sum(ratio)
    counts = ratio if total <= max_period else _largest_remainder(ratio, max_period)
    for task, amount, count in zip(weights, ratio, counts, strict=True):
        if count == 0:
            raise WeightError(
                f"weight of {task!r} is {amount / total:.3g} of the total, less than one draw in "
                f"{max_period:,}; raise it, leave the task out, or give a larger max_period"
            )
    divisor = math.gcd(*counts)
    counts = [count // divisor for count in counts]
    period = sum(counts)
    if 4 * len(counts) * period**2 >= 2**63:
        raise WeightError(f"a period of {period:,} draws of {len(counts)} tasks overflows 64 bits; lower max_period")
    moved = max(abs(count * total - amount * period) for count, amount in zip(counts, ratio, strict=True))
    return Counts(np.array(counts, np.int64), period, Fraction(moved, period * total))


def bound(n: int) -> Fraction:
    """Tijdeman's bound on the error of any prefix with n tasks, in draws: 1 - 1/(2n-2); 0 for a single task."""
    return Fraction(2 * n - 3, 2 * n - 2) if n > 1 else Fraction(0)


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


def _ratio(weights: Mapping[str, int | float]) -> list[int]:
    """The weights' exact ratio in smallest integers."""
    exact = [_exact(task, weight) for task, weight in weights.items()]
    scale = math.lcm(*(w.denominator for w in exact))
    amounts = [w.numerator * (scale // w.denominator) for w in exact]
    divisor = math.gcd(*amounts)
    return [amount // divisor for amount in amounts]


def _largest_remainder(ratio: list[int], period: int) -> list[int]:
    total = sum(ratio)
    counts, remainders = zip(*(divmod(amount * period, total) for amount in ratio), strict=True)
    first = set(sorted(range(len(ratio)), key=lambda i: -remainders[i])[: period - sum(counts)])
    return [count + (i in first) for i, count in enumerate(counts)]
