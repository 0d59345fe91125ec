"""A plan's segments as settings give them, and what of a plan lies ahead of a position."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from .schedules.plan import Plan, Segment
from .schedules.weights import WeightError

Weights = Mapping[str, int | float] | Iterable[Segment | Mapping[str, Any]]
"""Shares by task, or the segments of a plan (each a `Segment`, or a mapping with its fields)."""


def read_segments(sizes: Mapping[str, int], weights: Weights | None) -> list[Segment]:
    """The plan's segments, each with a weight for every task, in the order of the tasks."""
    if weights is None or isinstance(weights, Mapping):
        weights = dict.fromkeys(sizes, 1) if weights is None else weights
        _check_tasks(sizes, weights)
        return [Segment(0, {task: weights[task] for task in sizes})]
    segments = [_segment(part) for part in weights]
    _check_tasks(sizes, {task: 1 for part in segments for task in part.weights})
    return [weighing(sizes, part) for part in segments]


def _segment(part: Segment | Mapping[str, Any]) -> Segment:
    if isinstance(part, Segment):
        return part
    try:
        return Segment(**part)
    except TypeError:
        raise WeightError(
            f"{part!r} is no segment; write {{start: position, weights: {{task: number}}, ramp: draws}} (ramp may be left out)"
        ) from None


def weighing(tasks: Iterable[str], segment: Segment) -> Segment:
    """The segment with a weight for every task."""
    return segment._replace(weights={task: segment.weights.get(task, 0) for task in tasks})


def ahead(plan: Plan, position: int) -> list[Segment]:
    """What a plan follows from a position on: the segment in force, with what is left of its ramp, then the later ones; weights in
    lowest terms."""
    kept: list[Segment] = []
    for segment in plan.segments:  # a change drops what was planned after it
        kept = [*(other for other in kept if other.start < segment.start), segment]
    first = max(i for i, segment in enumerate(kept) if segment.start <= position)
    left = max(kept[first].start + kept[first].ramp - position, 0)
    kept[first] = kept[first]._replace(start=position, ramp=left)
    return [segment._replace(weights=_lowest(segment.weights)) for segment in kept[first:]]


def moved(saved: list[Segment], now: list[Segment]) -> str:
    """The first difference of two results of `ahead`, for a message."""
    for old, new in zip(saved, now, strict=False):
        if old.weights != new.weights:
            tasks = [task for task in {**old.weights, **new.weights} if old.weights.get(task) != new.weights.get(task)]
            return ", ".join(f"{task} {old.weights.get(task, 0)} -> {new.weights.get(task, 0)}" for task in tasks)
        if old != new:
            return f"a segment from {old.start:,} over {old.ramp:,} -> from {new.start:,} over {new.ramp:,}"
    return f"{len(saved)} segments from here -> {len(now)}"


def _lowest(weights: Mapping[str, int]) -> dict[str, int]:
    divisor = math.gcd(*weights.values())
    return {task: weight // divisor for task, weight in weights.items()}


def _check_tasks(sizes: Mapping[str, int], weights: Mapping[str, int | float]) -> None:
    if set(weights) != set(sizes):
        unknown, missing = sorted(set(weights) - set(sizes)), sorted(set(sizes) - set(weights))
        what = "; ".join(
            [f"weight for {task!r}, which has no rows" for task in unknown]
            + [f"no weight for {task!r}" for task in missing]
        )
        raise ValueError(f"weights and sources differ: {what}. Weigh exactly the tasks that have rows")
