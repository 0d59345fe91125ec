"""Chain of thought: 0.3 Format + 0.7 Judge (Table 4).

Format is 1 for exactly one non-empty think, then one non-empty answer, and only white space outside, else 0.  The judge
sees the final answer alone, never the thinking.  `read` and `combine` stand on either side of it, so that a judge may be
called (`reward`) or awaited (`async_scorer.py`).
"""

import re
from collections.abc import Mapping
from math import isfinite, isnan, nan
from typing import NamedTuple

from ..schema import Taxonomy
from ..schema.answer import TAGS, answer_text
from ..schema.ground_truth import read_true_answer
from .config import RewardConfig
from .judging.endpoint import EndpointJudge
from .judging.health import JudgeStopped
from .judging.rules import Judge, rule_judge
from .judging.verdicts import Verdict
from .sv6d import blend, unit

_FORM = re.compile(r"\s*<think>(.*)</think>\s*<answer>(.*)</answer>\s*", re.DOTALL)


class Parts(NamedTuple):
    """What a response and its ground truth come down to."""

    answer: str
    """The final answer; empty where there is none, which no judge is asked about."""
    truth: str
    format: float


def reward(
    response: str, ground_truth: str, taxonomy: Taxonomy, config: RewardConfig, judge: Judge = rule_judge
) -> dict[str, float]:
    """The components of one response; `score` is the reward.

    A judge that raises or gives no number is not the answer's fault: the rule judge decides (an `EndpointJudge` has a
    fallback of its own), and `failed` is 1.

    Raises:
        JudgeStopped: an `EndpointJudge` failed too often.
    """
    parts = read(response, ground_truth)
    return combine(parts, _judged(judge, parts) if parts.answer else Verdict(0.0), config)


def read(response: str, ground_truth: str) -> Parts:
    """The parts of a response. Raises GroundTruthError as `read_true_answer` does."""
    truth = read_true_answer(ground_truth)
    return Parts((answer_text(response) or "").strip(), truth, float(well_formed(response)))


def combine(parts: Parts, verdict: Verdict, config: RewardConfig) -> dict[str, float]:
    """The components. Without a verdict (NaN), `score` is 0 and `judge` NaN: `is_masked` then holds."""
    if isnan(verdict.value):
        return {"score": 0.0, "format": parts.format, "judge": nan, "failed": 1.0}
    weights = config.chain_of_thought
    value = blend(((weights.format, parts.format), (weights.judge, verdict.value)))
    return {"score": value, "format": parts.format, "judge": verdict.value, "failed": float(verdict.failed)}


def is_masked(components: Mapping[str, float]) -> bool:
    """Whether these are components of a response that was read but not judged, so that it shall not count (fallback
    `mask`)."""
    return components["failed"] == 1.0 and isnan(components["judge"]) and not isnan(components["format"])


def well_formed(response: str) -> bool:
    """Whether the response is one think and one answer, both non-empty, with only white space outside them."""
    if any(response.count(tag) != 1 for tag in TAGS):
        return False
    form = _FORM.fullmatch(response)
    return bool(form) and bool(form[1].strip()) and bool(form[2].strip())


def _judged(judge: Judge, parts: Parts) -> Verdict:
    try:
        if isinstance(judge, EndpointJudge):
            return judge.verdict(parts.answer, parts.truth)
        value = float(judge(parts.answer, parts.truth))
    except JudgeStopped:
        raise
    except Exception:
        return Verdict(rule_judge(parts.answer, parts.truth), failed=True)
    return Verdict(unit(value)) if isfinite(value) else Verdict(rule_judge(parts.answer, parts.truth), failed=True)
