"""The rule judge: does an answer say the same as the true one?  Same text, same number, or same choice letter.

It needs no server and sees the final answer alone.  Any function of (answer, truth) -> value in [0, 1] can take its
place in `score(..., judge=...)`.
"""

import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction

Judge = Callable[[str, str], float]
"""(answer, truth) -> value in [0, 1]."""

MAX_LENGTH = 512
"""An answer longer than this and than twice the truth says more than its answer and is wrong."""


def rule_judge(answer: str, truth: str) -> float:
    """1 when the answer says the same as the truth, else 0.

    A blank or punctuation-only answer is 0. With a single letter as the truth, `B`, `(B)`, `B.` and `B) a red car`
    all choose B. Numbers are compared by value: `1,200`, `1200.0` and `1200` agree, so do `3/4` and `0.75`, `50%` and
    `50 %`.
    """
    if len(answer) > max(MAX_LENGTH, 2 * len(truth)):
        return 0.0
    said, meant = _normalize(answer), _normalize(truth)
    if not any(c.isalnum() for c in said):
        return 0.0
    if said == meant:
        return 1.0
    if len(meant) == 1 and meant.isalpha():
        choice = _CHOICE.match(answer.strip())
        return float(bool(choice) and choice[1].lower() == meant)
    number = _number(meant)
    return float(number is not None and number == _number(said))


def _normalize(text: str) -> str:
    """Compatibility form, lower case, single spaces, no punctuation around."""
    text = " ".join(unicodedata.normalize("NFKC", text).lower().split())
    return _BOXED.sub(r"\1", text).strip(".,;:!?\"'`()[]{}<>*$ ")


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


_CHOICE = re.compile(r"[(\[]?([A-Za-z])(?:[)\].:]|$)")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_NUMBER = re.compile(r"([+-]?(?:\d{1,3}(?:,\d{3})+|\d{1,50})(?:\.\d{1,50})?)(?:/(\d{1,50}))?\s?(%)?", re.ASCII)
