"""Two runs against each other: paired by prompt where both were asked it, bootstrap intervals by task, a verdict in a line.

The reward of a run is that of its last steps, each task weighing the same. Prompts are the units of the bootstrap: the G
rollouts of a prompt are alike, and prompts that both runs were asked differ by policy alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from .numbers import task_order
from .runs import ENDS, Run, dynamics, heldout_scores
from .spread import SAME

DRAWS = 4000  # bootstrap samples
FEWEST = 3  # prompts of a task below which nothing is said of it
PAIRED = 0.5  # tasks of which this share of the prompts is in both runs are compared prompt by prompt


class Interval(NamedTuple):
    """A difference, B - A, and its bootstrap interval."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["better", "worse", "even"]:
        return "better" if self.low > 0 else "worse" if self.high < 0 else "even"


class TaskComparison(NamedTuple):
    task: str
    a: float
    b: float
    """Mean rewards in the compared steps, over the prompts that are compared."""
    difference: Interval
    prompts: int
    """Prompts compared: pairs where `paired`, else those of the run that has fewer."""
    paired: bool


class Comparison(NamedTuple):
    """B against A; every difference is B - A."""

    a: str
    b: str
    steps: tuple[tuple[int, int], tuple[int, int]]
    """First and last compared step of A and of B."""
    confidence: float
    overall: Interval
    """Mean over tasks, each weighing the same."""
    tasks: tuple[TaskComparison, ...]
    beside: dict[str, tuple[float, float]]
    """Means of A and of B in as many last steps: entropy, length, seconds a step; and the held-out reward of the last
    validation. NaN: not measured."""
    left_out: tuple[str, ...]
    """Sentences on what could not be compared, or not alike."""

    @property
    def verdict(self) -> str:
        """The line to quote."""
        mean, low, high = self.overall
        better, worse = (sum(t.difference.verdict == word for t in self.tasks) for word in ("better", "worse"))
        how = {True: "paired by prompt", False: "not paired"}
        paired = {t.paired for t in self.tasks}
        pairing = (
            how[paired.pop()] if len(paired) == 1 else f"{sum(t.paired for t in self.tasks)} tasks paired by prompt"
        )
        size = f"{mean:+.3f} ({100 * self.confidence:g}% interval {low:+.3f} to {high:+.3f}"
        counts = f"over {len(self.tasks)} task{'s' * (len(self.tasks) != 1)} and {sum(t.prompts for t in self.tasks)} prompts, {pairing})"
        tasks = f"better in {better}, worse in {worse}"
        opening = {"better": f"{self.b} earns more than {self.a}", "worse": f"{self.b} earns less than {self.a}"}
        said = opening.get(self.overall.verdict, f"{self.b} and {self.a} cannot be told apart")
        return f"{said}: {size}, {counts}; {tasks}."


class ComparisonError(ValueError):
    """Two runs that have nothing in common; the message says what each has."""


def compare(a: Run, b: Run, steps: int = ENDS, confidence: float = 0.95, seed: int = 0) -> Comparison:
    """Compare the last `steps` steps of two runs, task by task.

    A task is paired where at least half of its prompts (of the run that has fewer) were asked of both in those steps; then only
    these are compared. The intervals of single tasks are widened for their number (Bonferroni), so that the chance that any
    of them misses is at most 1 - `confidence`; that of the whole is not.

    Raises:
        ComparisonError: a run without recorded rollouts or scores, or no task in both.
        ValueError: `steps` below 1, `confidence` not between 0 and 1.
    """
    if steps < 1 or not 0 < confidence < 1:
        raise ValueError(f"steps={steps} must be at least 1 and confidence={confidence} between 0 and 1")
    ends = [_last(run, steps) for run in (a, b)]
    shared = task_order(set(ends[0]["task"].unique()) & set(ends[1]["task"].unique()))
    left_out = [
        f"{task} is in {run.name} alone"
        for run, rows in zip((a, b), ends, strict=True)
        for task in task_order(set(rows["task"].unique()) - set(shared))
    ]
    spans = tuple((int(rows["step"].min()), int(rows["step"].max())) for rows in ends)
    if spans[0][1] != spans[1][1]:
        left_out.append(
            f"A ends at step {spans[0][1]}, B at step {spans[1][1]}: what differs may be how long they trained"
        )
    same_rows = _same_rows(*ends)
    if not same_rows:
        left_out.append("prompts of the same name have other true segments in the other run, so none are paired")
    rng = np.random.default_rng(seed)
    level = 1 - (1 - confidence) / max(len(shared), 1)
    tasks, samples = [], []
    for task in shared:
        x, y, paired = _prompts(*(rows[rows["task"] == task] for rows in ends), same_rows)
        fewer = min(len(x), len(y))
        if fewer < FEWEST:
            left_out.append(f"{task} has fewer than {FEWEST} prompts to compare ({fewer})")
            continue
        sample = _difference(rng, x, y, paired)
        found = _interval(sample, level)
        tasks.append(TaskComparison(task, float(x.mean()), float(y.mean()), found, fewer, paired))
        samples.append(sample)
    if not tasks:
        raise ComparisonError(
            f"{a.name} and {b.name} have no task that can be compared. " + " ".join(f"{s}." for s in left_out)
        )
    overall = _interval(_sum(samples, [1.0 / len(samples)] * len(samples)), confidence)
    return Comparison(a.name, b.name, spans, confidence, overall, tuple(tasks), _beside(a, b, steps), tuple(left_out))


def _last(run: Run, steps: int) -> pd.DataFrame:
    if run.rollouts.empty:
        raise ComparisonError(f"{run.name} has no recorded rollouts to compare. " + " ".join(run.missing))
    scored = run.rollouts[run.rollouts["score"].notna()]
    if scored.empty:
        raise ComparisonError(
            f"{run.name}: none of its {len(run.rollouts):,} recorded rollouts has a score to compare."
        )
    last = np.unique(scored["step"])[-steps:]
    return scored[scored["step"].isin(last)]


def _prompts(a: pd.DataFrame, b: pd.DataFrame, same_rows: bool) -> tuple[np.ndarray, np.ndarray, bool]:
    """Mean score a prompt of both runs; row by row the same prompt where they are paired."""
    x, y = _by_prompt(a, "A")["score"], _by_prompt(b, "B")["score"]
    both = x.index.intersection(y.index)
    if same_rows and len(both) >= max(PAIRED * min(len(x), len(y)), FEWEST):
        return x[both].to_numpy(), y[both].to_numpy(), True
    return x.to_numpy(), y.to_numpy(), False


def _by_prompt(rows: pd.DataFrame, run: str) -> pd.DataFrame:
    """A prompt that was asked twice counts once; rows without a prompt's name count by group, and never pair: these bear
    the name of their `run`."""
    named = rows["prompt"].fillna("").astype(str)
    alone = f"{run}'s group " + rows["step"].astype(str) + " " + rows["group"].astype(str)
    return rows.groupby(named.where(named != "", alone))[["score", "n_true"]].mean()


def _same_rows(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether a prompt's name means the same row in both runs: where data were made anew, the numbers of true segments differ."""
    x, y = _by_prompt(a, "A")["n_true"].dropna(), _by_prompt(b, "B")["n_true"].dropna()
    both = x.index.intersection(y.index)
    return bool((x[both] == y[both]).all())


class _Sample(NamedTuple):
    """The bootstrap distribution of a mean, or of a weighted sum of independent ones."""

    mean: float
    deviations: np.ndarray
    """From the mean, a value a draw."""
    variance: float
    """The squared standard error."""
    doubt: float
    """How unsure the variance itself is: variance^2 / degrees of freedom, which adds up (Welch and Satterthwaite)."""


def _difference(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, paired: bool) -> _Sample:
    """Of the means of y and x: of their differences where they are `paired`."""
    spread = np.ptp(y - x) if paired else max(np.ptp(x), np.ptp(y))
    if spread < SAME:
        return _agreed(rng, float(y.mean() - x.mean()), min(len(x), len(y)))
    return _bootstrap(rng, y - x) if paired else _sum([_bootstrap(rng, y), _bootstrap(rng, x)], [1.0, -1.0])


def _agreed(rng: np.random.Generator, difference: float, n: int) -> _Sample:
    """Of n prompts that all differ by the same, as they may where rewards are 0 or 1. They have no spread to draw from, yet a
    share of the others may differ as much the other way: one of s is missed by n prompts with chance (1 - s)^n.

    So the interval holds 0 until 2 * 0.5^n is below 1 - confidence, as in a sign test: for 95 %, until there are six.
    """
    chance = (rng.permutation(DRAWS) + 0.5) / DRAWS
    return _Sample(difference, -2.0 * difference * (1.0 - chance ** (1.0 / n)), 0.0, 0.0)


def _bootstrap(rng: np.random.Generator, values: np.ndarray) -> _Sample:
    """Draws of n out of n vary too little by sqrt((n - 1) / n), which is put right: it is a fifth for three prompts."""
    n, mean = len(values), float(values.mean())
    drawn = values[rng.integers(n, size=(DRAWS, n))].mean(axis=1)
    variance = float(values.var(ddof=1)) / n
    return _Sample(mean, (drawn - mean) * math.sqrt(n / (n - 1)), variance, variance**2 / (n - 1))


def _sum(samples: Sequence[_Sample], weights: Sequence[float]) -> _Sample:
    def weighed(name: str, power: int):
        return sum(weight**power * getattr(sample, name) for weight, sample in zip(weights, samples, strict=True))

    return _Sample(weighed("mean", 1), weighed("deviations", 1), weighed("variance", 2), weighed("doubt", 4))


def _interval(sample: _Sample, confidence: float) -> Interval:
    """Percentiles, widened as Student's t is wider than the normal: a few prompts that happen to agree are no proof."""
    tail = (1 - confidence) / 2
    freedom = sample.variance**2 / sample.doubt if sample.doubt > 0 else math.inf
    low, high = np.quantile(sample.deviations, [tail, 1 - tail]) * (stats.t.isf(tail, freedom) / stats.norm.isf(tail))
    return Interval(sample.mean, float(sample.mean + min(low, 0.0)), float(sample.mean + max(high, 0.0)))


def _beside(a: Run, b: Run, steps: int) -> dict[str, tuple[float, float]]:
    return {name: (x, y) for (name, x), y in zip(_means(a, steps).items(), _means(b, steps).values(), strict=True)}


def _means(run: Run, steps: int) -> dict[str, float]:
    curves, heldout = dynamics(run), heldout_scores(run)
    metrics = run.metrics.reindex(columns=["timing_s/step"])
    return {
        "entropy": float(curves["entropy"].dropna().tail(steps).mean()),
        "length": float(curves["length"].dropna().tail(steps).mean()),
        "heldout": float(heldout.iloc[-1].mean()) if len(heldout) else float("nan"),
        "seconds": float(metrics["timing_s/step"].dropna().tail(steps).mean()),
    }
