"""Clock times as Appendix B displays them: `HH:MM:SS.s` is written; `HH:MM:SS(.f)`, `MM:SS(.f)` and numbers are read."""

import math
import re
from typing import NamedTuple

_TIME = r"(?:\d+:[0-5]\d|\d+):[0-5]\d(?:\.\d+)?"
_CLOCK = re.compile(r"(?:(\d+):([0-5]\d)|(\d+)):([0-5]\d(?:\.\d+)?)", re.ASCII)
_DASH = r"\s*(?:[-‐‑‒–—~]|to)\s*"  # hyphens, the dashes of typography, a tilde, the word
SPAN = re.compile(rf"(?<![\d:.])({_TIME}){_DASH}({_TIME})(?![\d:])", re.ASCII)
"""Two clock times with a dash between them, anywhere in a text."""


class Span(NamedTuple):
    """A stretch of video, in seconds."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start

    def __str__(self) -> str:
        return f"{write_time(self.start)}–{write_time(self.end)}"


def write_time(seconds: float) -> str:
    """`HH:MM:SS.s`, tenths rounded half up and carried: 59.96 is `00:01:00.0`.

    Raises:
        ValueError: below 0 or not finite.
    """
    if not 0.0 <= seconds < math.inf:
        raise ValueError(f"{seconds} is no time in a video: seconds from 0 up are")
    tenths = math.floor(seconds * 10 + 0.5)
    minutes, tenths = divmod(tenths, 600)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{tenths // 10:02d}.{tenths % 10}"


def read_time(value: str | float) -> float:
    """Seconds of a clock time or a number. Seconds have two digits and are below 60, minutes too where hours are given.

    Raises:
        ValueError: anything else: negative, a bare number in a text (`"75"`: of what?), one-digit seconds.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if 0.0 <= value < math.inf:
            return float(value)
    elif isinstance(value, str) and (clock := _CLOCK.fullmatch(value.strip())):
        hours, minutes, plain_minutes, seconds = clock.groups()
        return int(hours or 0) * 3600 + int(minutes or plain_minutes) * 60 + float(seconds)
    raise ValueError(f"{value!r} is no time; write HH:MM:SS.s or MM:SS.s (or, in JSON, a number of seconds)")


def find_spans(text: str) -> list[Span]:
    """Every span in a text, in its order; whether a start lies before its end is for the caller to ask."""
    return [Span(read_time(start), read_time(end)) for start, end in SPAN.findall(text)]
