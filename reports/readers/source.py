"""What a reader gives, whatever the format: metrics by step, rollouts, and sentences on what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

CATEGORIES = ("task", "dataset", "group")
Lines = Sequence[tuple[int, Mapping[str, float]]]
"""One process's metrics in the order of writing: (step, {key: value})."""


class Source(NamedTuple):
    """What one format gave of a run."""

    name: str
    """In words, for the reader of a report: "verl's file logger"."""
    metrics: pd.DataFrame | None = None
    """One row a step (the index), one column a key of verl's metrics."""
    rollouts: pd.DataFrame | None = None
    """One row a rollout; columns as in `recorder.schema()` without its texts."""
    damaged: tuple[str, ...] = ()
    """Sentences on files that could not be read and are left out: the run is not whole."""
    lacks: str = ""
    """A sentence on what these rollouts never have."""
    notes: tuple[str, ...] = ()
    """Sentences on what was mended, or left out without loss."""
    folder: Path | None = None
    """Where the recorder has its other files."""
    texts: Callable[[set[str] | None, set[int] | None], pd.DataFrame] | None = None
    """(uids, steps), None for all -> `step`, `uid`, `response`, `ground_truth`."""


class ReaderError(ValueError):
    """A format cannot be read at all: the message says what to install, or which of several runs to name."""


def join_attempts(attempts: Iterable[Lines]) -> pd.DataFrame | None:
    """The metrics of a run that was resumed: a later process's first step ends what an earlier one said after it.

    One that only validated an earlier checkpoint (`trainer.val_only`) adds its scores and ends nothing.
    """
    steps: dict[int, dict[str, float]] = {}
    for lines in attempts:
        if any(not key.startswith("val-") for _, data in lines for key in data):
            steps = {step: data for step, data in steps.items() if step <= lines[0][0]}
        for step, data in lines:
            steps.setdefault(step, {}).update(data)
    if not steps:
        return None
    return pd.DataFrame.from_dict(steps, orient="index").rename_axis("step").sort_index().copy()


def numbers_of(data: Mapping[str, Any]) -> dict[str, float]:
    """The entries that are numbers; null, which verl writes for NaN, is left out as not measured."""
    return {key: float(value) for key, value in data.items() if isinstance(value, int | float)}
