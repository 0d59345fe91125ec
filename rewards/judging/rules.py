"""The rule judge: does an answer say the same as the true one?  Same text, same number, same choice letter, or the same
mathematics (`maths.py`).

It needs no server and sees the final answer alone.  A model behind an endpoint (`endpoint.py`) can take its place,
and so can any function of (answer, truth) -> value in [0, 1]: `score(..., judge=...)`.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from ...schema.answer import says_something
from ...schema.marks import compose
from . import maths

Judge = Callable[[str, str], float]
"""(answer, truth) -> value in [0, 1]."""

MAX_LENGTH = 512
"""An answer longer than this and than twice the truth says more than its answer and is wrong."""


def rule_judge(answer: str, truth: str) -> float:
    """1 when the answer says the same as the truth, else 0.

    A blank or punctuation-only answer is 0. With a single letter as the truth, `B`, `(B)`, `B.`, `B) a red car` and
    `B、红车` all choose B. Numbers are compared by value: `1,200`, `1200.0` and `1200` agree, so do `3/4` and `0.75`, `50%` and
    `50 %`. Where `math-verify` is installed, so do `\\frac{1}{2}` and `0.5`, `x^2+2x+1` and `(x+1)^2`.
    """
    decided = quick_verdict(answer, truth)
    return float(maths.same(answer, truth)) if decided is None else decided


async def rule_judge_async(answer: str, truth: str) -> float:
    """`rule_judge`, without blocking the event loop where mathematics takes long."""
    decided = quick_verdict(answer, truth)
    return float(await maths.same_async(answer, truth)) if decided is None else decided


def quick_verdict(answer: str, truth: str) -> float | None:
    """What text, number and choice decide, in bounded time; None where two mathematical expressions are left to compare."""
    if len(answer) > max(MAX_LENGTH, 2 * len(truth)):
        return 0.0
    said, meant = _normalize(answer), _normalize(truth)
    if not says_something(said):
        return 0.0
    if said == meant:
        return 1.0
    if len(meant) == 1 and meant.isalpha():
        choice = _CHOICE.match(said)
        return float(bool(choice) and choice[1] == meant)
    true_number, said_number = _number(meant), _number(said)
    if true_number is not None and said_number is not None:
        return float(true_number == said_number)
    return None if maths.comparable(answer, truth) else 0.0


def _normalize(text: str) -> str:
    """Compatibility form, lower case, single spaces, no punctuation around (but the brackets of an interval or tuple)."""
    text = " ".join(compose(text, "NFKC").lower().split())
    text = _BOXED.sub(r"\1", text).strip(_OUTER)
    return text if _is_interval(text) else text.strip(_OUTER + _BRACKETS)


def _is_interval(text: str) -> bool:
    """Whether brackets stand around texts with commas between them, the first with a digit in it."""
    first, comma, _ = text[1:-1].partition(",")
    return bool(comma) and text[0] in "([{" and text[-1] in ")]}" and any(map(str.isdecimal, first))


def _number(text: str) -> tuple[Fraction, bool] | None:
    """The value of a number and whether it is a percentage; None for anything else."""
    found = _NUMBER.fullmatch(text)
    if not found:
        return None
    value = Fraction(found[1].replace(",", ""))
    if found[2]:
        if not int(found[2]):
            return None
        value /= int(found[2])
    return value, bool(found[3])


_OUTER = ".,;:!?\"'`*$ 。、“”‘’"  # what NFKC leaves of other punctuation
_BRACKETS = "()[]{}<>「」『』《》【】"
_CHOICE = re.compile(r"([a-z])[)\].:、。】]")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_NUMBER = re.compile(r"([+-]?(?:\d{1,3}(?:,\d{3})+|\d{1,50})(?:\.\d{1,50})?)(?:/(\d{1,50}))?\s?(%)?", re.ASCII)
