"""What rules look at: a run's curves by step and task, and how much a curve changed against its own noise."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from ...rewards.config import RewardConfig
from ...rewards.rescoring.explain_segments import Segments, explain_segments
from ...schema import TASKS, Taxonomy
from ..numbers import numbers
from ..runs import ENDS, Run

SEGMENT_FAMILIES = ("temporal_grounding", "action_localization")
TEXTS_READ = 300  # texts of a task and third that are parsed: enough for shares, quick for runs that record every text
SIGMAS = 3.0  # a change counts where it is this many standard errors from nothing


class Change(NamedTuple):
    """Means over the first and the last window of a curve."""

    first: float
    last: float
    error: float
    """Standard error of `last - first`, from the spread of the steps within the two windows."""

    @property
    def gain(self) -> float:
        return self.last - self.first

    def rose(self, by: float) -> bool:
        """Rose by more than `by`, and by more than its noise."""
        return self.gain > max(by, SIGMAS * self.error)

    def fell(self, by: float) -> bool:
        return -self.gain > max(by, SIGMAS * self.error)


@dataclass(frozen=True)
class Evidence:
    """A run, and its numbers as the page shows them (`shown`, from `numbers(run)`)."""

    run: Run
    shown: dict[str, Any]

    @classmethod
    def of(cls, run: Run, shown: dict[str, Any] | None = None) -> Evidence:
        return cls(run, shown or numbers(run))

    @property
    def tasks(self) -> list[str]:
        return self.shown["tasks"]

    @property
    def steps(self) -> list[int]:
        return self.shown["steps"]

    @property
    def window(self) -> int:
        """Steps in the first and in the last window: a tenth of the run, at least five."""
        return max(ENDS, len(self.steps) // 10)

    @property
    def last_steps(self) -> tuple[int, int]:
        return self.steps[-self.window :][0], self.steps[-1]

    @property
    def _third(self) -> int:
        return max(len(self.steps) // 3, 1)

    @property
    def last_third(self) -> tuple[int, int]:
        """First and last step of those whose recorded texts are read as the run's last."""
        return self.steps[-self._third], self.steps[-1]

    @cached_property
    def last_rollouts(self) -> pd.DataFrame:
        """The rollouts of the last window."""
        rollouts = self.run.rollouts
        return rollouts if rollouts.empty else rollouts[rollouts["step"] >= self.last_steps[0]]

    @cached_property
    def texts(self) -> pd.DataFrame:
        """The recorded texts of the first and of the last third of the run, with their task. Those that were kept because they
        earned most or least are left out: they are not like the others."""
        steps = {*self.steps[: self._third], *self.steps[-self._third :]}
        tasks = self.run.rollouts.loc[self.run.rollouts["step"].isin(steps), ["step", "uid", "task"]]
        texts = self.run.texts(steps=steps).dropna(subset=["ground_truth"])
        texts = texts[texts["text_at_random"].ne(False)].merge(tasks, on=["step", "uid"])
        return texts.assign(part=np.where(texts["step"] <= self.steps[self._third - 1], "first", "last"))

    @cached_property
    def first_answers(self) -> dict[str, list[Segments]]:
        """task -> the recorded answers of the first third of the run; tasks whose answers are segments."""
        return self._answers("first")

    @cached_property
    def last_answers(self) -> dict[str, list[Segments]]:
        """The same of the last third."""
        return self._answers("last")

    def _answers(self, part: Literal["first", "last"]) -> dict[str, list[Segments]]:
        found: dict[str, list[Segments]] = defaultdict(list)
        if self.run.rollouts.empty:
            return {}
        taxonomy, config = Taxonomy.load(), RewardConfig()
        for task, rows in self.texts[self.texts["part"] == part].groupby("task", observed=True):
            if (known := TASKS.get(task)) is None or known.family not in SEGMENT_FAMILIES:
                continue
            labelled = known.family == "temporal_grounding"
            for row in rows.iloc[:: math.ceil(len(rows) / TEXTS_READ)].itertuples():
                with contextlib.suppress(ValueError):  # a truth of another taxonomy
                    found[task].append(explain_segments(row.response, row.ground_truth, taxonomy, config, labelled))
        return dict(found)

    def curve(self, measure: str, task: str | None = None) -> np.ndarray:
        """A value a step (NaN: not measured); over all tasks where none is named. Empty when it never was measured."""
        values = self.shown["by_task"].get(task, {}).get(measure) if task else self.shown["overall"].get(measure)
        return as_curve(values)

    def metric(self, key: str) -> np.ndarray:
        """A metric of verl's by step; empty when it never was logged."""
        metrics = self.run.metrics
        return metrics[key].dropna().to_numpy(float) if key in metrics else np.array([])

    def change(self, measure: str, task: str | None = None) -> Change | None:
        """None where the curve has fewer than two windows of values."""
        return change(self.curve(measure, task), self.window)

    def since(self, step: int, measure: str, task: str | None = None) -> Change | None:
        """The change to the last window from the one that ends with `step`, or from the first where that is before it."""
        curve = self.curve(measure, task)
        start = int(np.searchsorted(self.steps, step, side="right")) - self.window
        return change(curve[max(start, 0) :], self.window)


def as_curve(values: list[float | None] | None) -> np.ndarray:
    curve = np.array([math.nan if v is None else v for v in values or []], dtype=float)
    return curve if np.isfinite(curve).any() else np.array([])


def change(curve: np.ndarray, window: int) -> Change | None:
    """First against last `window` values, those that were not measured left out."""
    curve = curve[np.isfinite(curve)]
    if len(curve) < 2 * window:
        return None
    first, last = curve[:window], curve[-window:]
    error = math.sqrt((first.var(ddof=1) + last.var(ddof=1)) / window)
    return Change(float(first.mean()), float(last.mean()), error)
