"""Chain of thought: 0.3 Format + 0.7 Judge (Table 4).

Format is 1 for exactly one non-empty think, then one non-empty answer, and only white space outside, else 0.  The judge
sees the final answer alone, never the thinking.
"""

import re
from math import isfinite

from ..schema import Taxonomy
from ..schema.answer import answer_text
from ..schema.ground_truth import read_true_answer
from .config import RewardConfig
from .judge import Judge, rule_judge
from .sv6d import blend, unit

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_FORM = re.compile(r"\s*<think>(.*)</think>\s*<answer>(.*)</answer>\s*", re.DOTALL)


def reward(
    response: str, ground_truth: str, taxonomy: Taxonomy, config: RewardConfig, judge: Judge = rule_judge
) -> dict[str, float]:
    """The components of one response; `score` is the reward.

    A judge that raises or gives no number is not the answer's fault: the rule judge decides, and `failed` is 1.
    """
    truth = read_true_answer(ground_truth)
    answer = (answer_text(response) or "").strip()
    format = float(well_formed(response))
    verdict, failed = _judged(judge, answer, truth) if answer else (0.0, False)
    weights = config.chain_of_thought
    value = blend(((weights.format, format), (weights.judge, verdict)))
    return {"score": value, "format": format, "judge": verdict, "failed": float(failed)}


def well_formed(response: str) -> bool:
    """Whether the response is one think and one answer, both non-empty, with only white space outside them."""
    if any(response.count(tag) != 1 for tag in _TAGS):
        return False
    form = _FORM.fullmatch(response)
    return bool(form) and bool(form[1].strip()) and bool(form[2].strip())


def _judged(judge: Judge, answer: str, truth: str) -> tuple[float, bool]:
    try:
        verdict = float(judge(answer, truth))
    except Exception:
        return rule_judge(answer, truth), True
    return (unit(verdict), False) if isfinite(verdict) else (rule_judge(answer, truth), True)
