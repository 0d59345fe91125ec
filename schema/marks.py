"""Combining marks: dropping them, and composing text (NFC) in linear time whatever the text is."""

import re
import unicodedata
from functools import cache

MAX_RUN = 30
"""Unicode's own bound for text that can be normalised as a stream (UAX #15, "stream-safe"): at most 30 marks in a row.
Putting longer runs in order takes quadratic time."""


def drop_marks(text: str) -> str:
    """`text` without its combining marks."""
    return text if text.isascii() else _patterns()[0].sub("", text)


def compose(text: str) -> str:
    """`text` in NFC; as it stands when it holds more than `MAX_RUN` combining marks in a row, which no writing has."""
    if text.isascii() or _patterns()[1].search(text):
        return text
    return unicodedata.normalize("NFC", text)


@cache
def _patterns() -> tuple[re.Pattern, re.Pattern]:
    """One or more combining marks; more than `MAX_RUN` characters that are marks or decompose into marks."""
    marks = [i for i in range(0x300, 0x20000) if unicodedata.combining(chr(i))]
    hidden = [i for i in range(0xF00, 0x1000) if unicodedata.combining(unicodedata.normalize("NFD", chr(i))[0])]
    return re.compile(f"[{_ranges(marks)}]+"), re.compile(f"[{_ranges(sorted({*marks, *hidden}))}]{{{MAX_RUN + 1}}}")


def _ranges(points: list[int]) -> str:
    """The inside of a character class for sorted code points."""
    ranges: list[list[int]] = []
    for point in points:
        if ranges and ranges[-1][1] == point - 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return "".join(f"{chr(a)}-{chr(b)}" for a, b in ranges)
