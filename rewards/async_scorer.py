"""Scoring that is awaited, as a trainer's event loop needs it: judges are asked concurrently, whatever is not bounded
runs where it can be ended, and all else is scored on the spot."""

from collections.abc import Mapping
from functools import partial
from math import nan
from time import perf_counter
from typing import Any

from . import chain_of_thought, limits
from .config import RewardConfigError, settings_dict
from .families import find_family
from .judging.config import JudgeConfig
from .judging.endpoint import EndpointJudge
from .judging.health import JudgeStopped
from .judging.rules import rule_judge_async
from .judging.verdicts import Verdict
from .score import Score, complete, score
from .scorer import TIME_LIMIT, Scorer


class AsyncScorer:
    """Settings that are read once, and `await scorer.score(task, response, ground_truth)`.

    Args:
        settings: the fields of `RewardConfig`; `taxonomy`, a path or the name that a package gives one; `judge`, the fields
            of `JudgeConfig`; `time_limit`, seconds for a score of another package's family.
        served_at: `host:port` of the reward model that verl's trainer serves, or None.
        served_model: that model's name.
        outlive_judge: whether the fallback goes on where the judge failed too often, instead of JudgeStopped. Someone has
            to look at `judge.health` then.

    Raises:
        RewardConfigError, TaxonomyError, PluginError: a wrong setting, before anything is scored.
    """

    def __init__(
        self,
        settings: Mapping[str, Any] | None = None,
        *,
        served_at: str | None = None,
        served_model: str | None = None,
        outlive_judge: bool = False,
    ):
        settings = settings_dict(settings)
        judge = settings.pop("judge", None)
        self.time_limit = _read_time_limit(settings.pop("time_limit", TIME_LIMIT))
        self._scorer = Scorer(settings, beside=("judge", "time_limit"))
        self.config = self._scorer.config
        self._elsewhere = partial(score, taxonomy=self._scorer.taxonomy.path, config=self.config)
        self.judge: EndpointJudge | None = None
        """None: the rule judge."""
        if judge is not None or served_at is not None:
            self.judge = EndpointJudge(JudgeConfig.read(judge).served(served_at, served_model))
        self._outlive_judge = outlive_judge

    async def score(self, task: str, response: str, ground_truth: str) -> Score:
        """The score of one response. Raises as `sv6d.rewards.score` does, and:

        Raises:
            TimeLimitError: a score of another package's family took longer than `time_limit`; it was ended.
            JudgeStopped: the judge failed too often.
        """
        return (await self.timed(task, response, ground_truth))[0]

    async def timed(self, task: str, response: str, ground_truth: str) -> tuple[Score, float]:
        """`score`, and the seconds that the judge took of it, waiting for its turn included; NaN where none was asked."""
        family = find_family(task)
        if family.reward is chain_of_thought.reward:
            parts, start = chain_of_thought.read(response, ground_truth), perf_counter()
            verdict = await self._verdict(parts)
            seconds = perf_counter() - start if parts.answer else nan
            return complete(chain_of_thought.combine(parts, verdict, self.config)), seconds
        if family.bounded:
            return self._scorer.score(task, response, ground_truth), nan
        return await limits.run_async(self._elsewhere, task, response, ground_truth, seconds=self.time_limit), nan

    async def _verdict(self, parts: chain_of_thought.Parts) -> Verdict:
        if not parts.answer:
            return Verdict(0.0)
        if self.judge is None:
            return Verdict(await rule_judge_async(parts.answer, parts.truth))
        try:
            return await self.judge.verdict_async(parts.answer, parts.truth)
        except JudgeStopped:
            if not self._outlive_judge:
                raise
            return await self.judge.fallback(parts.answer, parts.truth)


def _read_time_limit(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise RewardConfigError(f"reward config: time_limit = {value!r} is wrong; write a number of seconds above 0")
    return float(value)
