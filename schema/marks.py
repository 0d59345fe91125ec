"""Combining marks: dropping them, and composing text (NFC, NFKC) in linear time whatever the text is."""

import re
import unicodedata
from functools import cache
from typing import Literal

MAX_RUN = 30
"""Unicode's own bound for text that can be normalised as a stream (UAX #15, "stream-safe"): at most 30 marks in a row.
Putting longer runs in order takes quadratic time."""


def drop_marks(text: str) -> str:
    """`text` without its combining marks."""
    if text.isascii():
        return text
    marks = _marks()
    return "".join([c for c in text if c not in marks])


SHORT = 4096
"""Up to this many characters even quadratic time is no time."""


def compose(text: str, form: Literal["NFC", "NFKC"] = "NFC") -> str:
    """`text` in that form; a long one stays as it is when it holds more than `MAX_RUN` marks in a row, which no writing has."""
    if len(text) > SHORT and not text.isascii() and _long_run().search(text):
        return text
    return unicodedata.normalize(form, text)


@cache
def _marks() -> frozenset[str]:
    return frozenset(c for c in map(chr, range(0x300, 0x20000)) if unicodedata.combining(c))


@cache
def _long_run() -> re.Pattern[str]:
    """More characters in a row than MAX_RUN that are marks, or that decompose into marks: Tibetan vowel signs (NFC), the
    halfwidth voicing marks of kana (NFKC)."""
    others = [*range(0xF00, 0x1000), 0xFF9E, 0xFF9F]
    marks = [c for c in map(chr, others) if unicodedata.combining(unicodedata.normalize("NFKD", c)[0])]
    return re.compile(f"[{''.join(sorted(_marks().union(marks)))}]{{{MAX_RUN + 1}}}")
