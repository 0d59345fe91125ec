"""The comparison of two mathematical texts itself: imported only in a process that can be ended, as sympy takes its time."""

import logging

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

_KINDS = [LatexExtractionConfig(), ExprExtractionConfig()]
for _name in ("math_verify.parser", "math_verify.grader"):
    # it warns that it was given no clock; its own needs a main thread
    logging.getLogger(_name).setLevel(logging.CRITICAL)


def verified(answer: str, truth: str) -> bool:
    """Whether the answer's expression equals the truth's."""
    read = [parse(f"${text}$", _KINDS, parsing_timeout=None) for text in (truth, answer)]
    return bool(verify(*read, timeout_seconds=None))


verified("\\frac{1}{2}", "x")  # the first comparison loads the grammar, which takes longer than all that follow
