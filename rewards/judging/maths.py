"""Whether two mathematical texts mean the same, by `math-verify` where it is installed (`pip install 'sv6d[maths]'`).

It parses LaTeX with sympy, which hostile input can keep busy for hours, so it runs where it can be ended; and it is
generous ("2=3" answers 3, "1 or 2" answers 2), so only texts that are one expression from end to end get there.
"""

import logging
import re
from functools import cache
from importlib.util import find_spec

from .. import limits

SECONDS = 2.0
"""What a comparison may take. Beyond it, the texts count as different."""
MAX_LENGTH = 200
"""Characters of an expression; a longer text is none."""

_VERIFIED = f"{__package__}.math_worker:verified"
_NAME = re.compile(
    "sqrt|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|exp|pi|infty|inf|[dt]?frac|cdot|times|div|pm|"
    "left|right|leq?|geq?|neq|cup|cap|alpha|beta|gamma|delta|theta|lambda|mu|phi|omega|circ"
)
_WORD = re.compile(r"\\?[A-Za-z]+")
_ONE_EXPRESSION = re.compile(r"(?:[A-Za-z]\s*=)?[^=$&#~\"'?@`]+", re.DOTALL)
_TWO_NUMBERS = re.compile(r"\d\s+\d")  # math-verify adds them up
_WRAP = re.compile(r"\$+(.*?)\$+|\\\((.*)\\\)|\\\[(.*)\\\]|\\boxed\{(.*)\}", re.DOTALL)


def comparable(answer: str, truth: str) -> bool:
    """Whether both texts are one mathematical expression each, and `math-verify` is there to compare them."""
    return _is_expression(bare(truth)) and _is_expression(bare(answer)) and _installed()


def same(answer: str, truth: str) -> bool:
    """Whether two expressions are equal, as far as it shows within `SECONDS`."""
    try:
        return limits.run(_VERIFIED, bare(answer), bare(truth), seconds=SECONDS)
    except Exception as error:
        return _undecided(error)


async def same_async(answer: str, truth: str) -> bool:
    """`same`, without blocking the event loop."""
    try:
        return await limits.run_async(_VERIFIED, bare(answer), bare(truth), seconds=SECONDS)
    except Exception as error:
        return _undecided(error)


def bare(text: str) -> str:
    """The text without dollar signs, `\\boxed{}` and final point around it."""
    text = text.strip().rstrip(".")
    while found := _WRAP.fullmatch(text):
        text = next(group for group in found.groups() if group is not None).strip()
    return text


def _is_expression(text: str) -> bool:
    if not 0 < len(text) <= MAX_LENGTH or not _ONE_EXPRESSION.fullmatch(text) or _TWO_NUMBERS.search(text):
        return False
    words = [word.lstrip("\\") for word in _WORD.findall(text)]
    if any(len(word) > 1 and not _NAME.fullmatch(word) for word in words):
        return False
    return any(c.isdigit() for c in text) or any(map(_NAME.fullmatch, words))


def _undecided(error: Exception) -> bool:
    if not isinstance(error, limits.TimeLimitError):
        logging.getLogger(__name__).warning("math-verify: %s: %s; the texts count as different", type(error), error)
    return False


@cache
def _installed() -> bool:
    return find_spec("math_verify") is not None
