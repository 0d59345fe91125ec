"""Scoring the batches of a stream of rollouts, in this process or in several, in order; and what they come to by task."""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from math import isnan, nan, sqrt
from multiprocessing import get_context
from typing import Any, NamedTuple

from ..async_scorer import AsyncScorer
from ..chain_of_thought import is_masked
from ..families import COMPONENTS
from ..judging.health import JudgeStopped
from ..score import failed_score
from .rollouts import Batch, Rollout

MASKED = "the judge failed, and judge.fallback = 'mask' gives no score"

Components = tuple[dict[str, float], str | None]
"""Of a rollout, and why it could not be scored."""


class Scored(NamedTuple):
    """A rollout and what it earned; `problem` says why it could not be scored, and it is then flagged `failed`."""

    rollout: Rollout
    components: dict[str, float]
    problem: str | None


def score_batches(
    batches: Iterable[Batch], settings: Mapping[str, Any], processes: int = 1
) -> Iterator[tuple[list[Scored], int]]:
    """The scored rows of each batch and the bytes that they take, in the order of the batches.

    Only a few batches a process are held at a time, so a file of any size streams through.

    Args:
        settings: as `AsyncScorer` takes them.

    Raises:
        JudgeStopped: the judge failed too often.
    """
    if processes == 1:
        scorer = AsyncScorer(settings)
        for batch in batches:
            yield _scored(batch, _score_all(scorer, batch.rollouts))
        return
    context = get_context("spawn")  # a fork would inherit the threads of the progress bar half-way through what they do
    waiting: deque[tuple[Batch, Future]] = deque()
    with ProcessPoolExecutor(processes, context, initializer=_start, initargs=(dict(settings),)) as pool:
        for batch in batches:
            waiting.append((batch, pool.submit(_score_there, batch.rollouts)))
            if len(waiting) > 2 * processes:
                batch, scores = waiting.popleft()
                yield _scored(batch, scores.result())
        for batch, scores in waiting:
            yield _scored(batch, scores.result())


@dataclass
class Mean:
    """A running mean with its standard error; NaN is left out."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        if not isnan(value):
            self.count += 1
            self.total += value
            self.squares += value * value

    def merge(self, other: "Mean") -> None:
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else nan

    @property
    def error(self) -> float:
        """Standard error of the mean; NaN for fewer than two values."""
        if self.count < 2:
            return nan
        variance = max(0.0, self.squares - self.total * self.total / self.count) / (self.count - 1)
        return sqrt(variance / self.count)


@dataclass
class Summary:
    """What the rows of one task come to. A row that could not be scored counts as a failure and in no mean."""

    rows: int = 0
    failed: int = 0
    unscored: int = 0
    """Of the failed ones, those without a score."""
    recorded: Mean = field(default_factory=Mean)
    """The scores that stood in the files."""
    means: dict[str, Mean] = field(default_factory=lambda: {name: Mean() for name in COMPONENTS})

    def add(self, scored: Scored) -> None:
        self.rows += 1
        self.failed += scored.components["failed"] == 1.0
        self.unscored += scored.problem is not None
        if scored.problem is None:
            self.recorded.add(nan if scored.rollout.recorded is None else scored.rollout.recorded)
            for name, mean in self.means.items():
                mean.add(scored.components[name])

    @staticmethod
    def over(summaries: Iterable["Summary"]) -> "Summary":
        """All tasks together."""
        total = Summary()
        for one in summaries:
            total.rows += one.rows
            total.failed += one.failed
            total.unscored += one.unscored
            total.recorded.merge(one.recorded)
            for name, mean in one.means.items():
                total.means[name].merge(mean)
        return total


def _score_all(scorer: AsyncScorer, rollouts: list[Rollout]) -> list[Components]:
    async def score_all():
        return await asyncio.gather(*(_score(scorer, rollout) for rollout in rollouts))

    return asyncio.run(score_all())


async def _score(scorer: AsyncScorer, rollout: Rollout) -> Components:
    problem = rollout.problem
    if problem is None:
        try:
            components = (await scorer.score(rollout.task, rollout.response, rollout.ground_truth)).components
            return components, MASKED if is_masked(components) else None
        except JudgeStopped:
            raise
        except Exception as error:
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            problem = f"{kind}{error}"
    return failed_score().components, problem


def _scored(batch: Batch, scores: list[Components]) -> tuple[list[Scored], int]:
    return [Scored(rollout, *result) for rollout, result in zip(batch.rollouts, scores, strict=True)], batch.size


def _start(settings: Mapping[str, Any]) -> None:
    global _scorer
    _scorer = AsyncScorer(settings)


def _score_there(rollouts: list[Rollout]) -> list[Components]:
    return _score_all(_scorer, rollouts)


_scorer: AsyncScorer
"""Of a process of the pool."""
