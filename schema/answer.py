"""Reading a model's answer: the part after the thinking, and the segments in its JSON, with the faults that it holds.

An answer that keeps to the form is read more quickly by `form.py`.

Strict JSON, read leniently one level up: what can be used is used, and each fault fails one of the four checks of
R_form (section 2.4.3).  No text makes this raise, recurse deeply or take more than linear time.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

MAX_DEPTH = 500
"""JSON with more than this many `[` and `{` inside each other is unreadable."""

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
"""What tells an answer from its thinking; they are never part of one."""

Labels = dict[str, dict[str, str | list[str]]]
"""dimension -> sub-dimension -> tag, or tags where several apply."""


class Span(Protocol):
    """Anything with a start and an end in seconds."""

    @property
    def start(self) -> float: ...

    @property
    def end(self) -> float: ...


class Segment(NamedTuple):
    """A time span in seconds, with its labels; none where they are not asked, or the field is missing or no object."""

    start: float
    end: float
    labels: Labels


class Faults(NamedTuple):
    """The four checks of R_form: True where violated."""

    syntax: bool = False
    """Nothing could be read as JSON."""
    fields: bool = False
    """No `segments`, or a segment without `start`, `end` or the asked `labels` and dimension keys."""
    timestamps: bool = False
    """A time that is not finite, is negative, or a start after its end."""
    types: bool = False
    """A value of another type than the form has, e.g. a time written as text."""

    @property
    def share(self) -> float:
        """R_form in [0, 1]: violated checks / 4."""
        return sum(self) / 4


class SegmentAnswer(NamedTuple):
    """What a response says, and what is wrong with the way it says it."""

    segments: Sequence[Segment]
    """Those with usable times, 0 <= start <= end."""
    labels: Sequence[Labels]
    """The labels of all segments, also of those without usable times; empty where labels are not asked."""
    count: int
    """How many segments the answer lists, usable or not (N_pred)."""
    stated: bool
    """Whether the answer holds a list of segments at all, be it an empty one."""
    faults: Faults


UNREADABLE = SegmentAnswer([], [], 0, False, Faults(True, True, True, True))


def final_answer(text: str) -> str | None:
    """What follows the last `</think>`; None when a `<think>` is still open there."""
    if "<" not in text:  # one character is found much faster than a word
        return text
    rest = text.rpartition("</think>")[2]
    return None if "<think>" in rest else rest


def answer_text(text: str) -> str | None:
    """The final answer, without the `<answer>` tags when it has some (the last pair counts)."""
    rest = final_answer(text)
    if rest is None:
        return None
    _, opened, inner = rest.rpartition("<answer>")
    return inner.partition("</answer>")[0] if opened else rest


def says_something(text: str) -> bool:
    """Whether there is more than spaces and punctuation: a letter, a digit, or a symbol like `∞` outside ASCII."""
    return any(c.isalnum() or (c > "\x7f" and unicodedata.category(c)[0] == "S") for c in text)


def json_text(answer: str) -> str | None:
    """The answer from where its JSON begins: in the last fenced block that begins with `{` or `[`, else at the first
    of these characters.  An unterminated last block counts.  None where there is neither.
    """
    for block in reversed(_fenced(answer)):
        if ("{" in block or "[" in block) and (opening := _BLOCK_OPENING.match(block)):
            return block[opening.end() :]
    first = min((at for at in (answer.find("{"), answer.find("[")) if at >= 0), default=None)
    return None if first is None else answer[first:]


def json_source(text: str, max_length: int) -> str | None:
    """The JSON of a response and what trails it, at most `max_length` characters; None where there is none."""
    answer = final_answer(text)
    source = None if answer is None else json_text(answer)
    return None if source is None else source[:max_length]


def read_segments(text: str, dimensions: tuple[str, ...] | None, max_length: int) -> SegmentAnswer:
    """The segments that a response states.

    Args:
        text: the whole response.
        dimensions: the dimension keys that each segment must hold under `labels`; None where no labels are asked.
        max_length: JSON that has not ended after this many characters is unreadable.
    """
    return read_json(json_source(text, max_length), dimensions)


def read_json(source: str | None, dimensions: tuple[str, ...] | None) -> SegmentAnswer:
    """The same from the JSON of a response, see `json_source`; its types and what trails it may be anything."""
    if source is None or too_deep(source):
        return UNREADABLE
    try:
        value, _ = _JSON.raw_decode(source)
    except (ValueError, RecursionError):
        return UNREADABLE
    if isinstance(value, dict):
        if "segments" not in value:
            return SegmentAnswer([], [], 0, False, Faults(fields=True))
        value = value["segments"]
    if not isinstance(value, list):
        return SegmentAnswer([], [], 0, False, Faults(types=True))
    faults = _FaultList()
    segments, all_labels = [], []
    for item in value:
        if not isinstance(item, dict):
            faults.types = True
            continue
        labels = None if dimensions is None else _read_labels(item, dimensions, faults)
        if labels is not None:
            all_labels.append(labels)
        start, end = _read_time(item, "start", faults), _read_time(item, "end", faults)
        if start is None or end is None:
            continue
        if start <= end:
            segments.append(Segment(start, end, labels or {}))
        else:
            faults.timestamps = True
    return SegmentAnswer(segments, all_labels, len(value), True, faults.frozen())


def _fenced(answer: str) -> list[str]:
    """The texts between fences, in order; an unterminated last one counts."""
    first = answer.find("`")
    if first < 0:
        return []
    second = answer.find("`", first + 3)
    two = answer.startswith("```", first) and answer.startswith("```", second) and answer.find("`", second + 3) < 0
    return [answer[first + 3 : second]] if two else answer.split("```")[1::2]  # most answers have two fences or none


class _FaultList:
    """Faults while they are being collected."""

    fields = timestamps = types = False

    def frozen(self) -> Faults:
        return Faults(False, self.fields, self.timestamps, self.types)


def _read_time(item: dict[str, Any], key: str, faults: _FaultList) -> float | None:
    """A usable time, finite and >= 0, from a number or a text; None otherwise."""
    if key not in item:
        faults.fields = True
        return None
    value = item[key]
    if not isinstance(value, float):  # every JSON number was read as a float
        faults.types = True
        value = parse_time(value) if isinstance(value, str) else None
    if value is not None and not 0.0 <= value < float("inf"):
        faults.timestamps = True
        return None
    return value


def _read_labels(item: dict[str, Any], dimensions: tuple[str, ...], faults: _FaultList) -> Labels | None:
    """The well-typed part of a segment's labels."""
    if "labels" not in item:
        faults.fields = True
        return None
    if not isinstance(item["labels"], dict):
        faults.types = True
        return None
    if any(key not in item["labels"] for key in dimensions):
        faults.fields = True
    labels: Labels = {}
    for dimension, subs in item["labels"].items():
        if not isinstance(subs, dict):
            faults.types = True
            continue
        kept = labels[dimension] = {}
        for sub, tags in subs.items():
            if isinstance(tags, str):
                kept[sub] = tags
            elif isinstance(tags, list):
                kept[sub] = [tag for tag in tags if isinstance(tag, str)]
                faults.types |= len(kept[sub]) < len(tags)
            else:
                faults.types = True
    return labels


def parse_time(text: str) -> float | None:
    """Seconds from a number (`5`, `2.5`) or clock time (`MM:SS.f`, `HH:MM:SS.f`) in a text; None for anything else."""
    text = text.strip() if len(text) <= 64 else ""
    if _NUMBER.fullmatch(text):
        return float(text)
    clock = _CLOCK.fullmatch(text)
    if not clock:
        return None
    hours, minutes, plain_minutes, seconds = clock.groups()
    return int(hours or 0) * 3600 + int(minutes or plain_minutes) * 60 + float(seconds)


def too_deep(source: str) -> bool:
    """Whether brackets outside strings nest deeper than MAX_DEPTH; counting them all settles most answers."""
    if source.count("{") + source.count("[") <= MAX_DEPTH:
        return False
    text = source.encode("utf-8", "replace")
    outside = _STRING.sub(b"", text) if b"\\" in text else b"".join(text.split(b'"')[::2])
    steps = _BRACKETS[np.frombuffer(outside, np.uint8)]
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0)) > MAX_DEPTH


def _no_constant(name: str):
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_int=float, parse_constant=_no_constant)  # 1e999 and 400 digits become infinity
_BLOCK_OPENING = re.compile(r"[\w+-]*+\s*+(?=[{\[])")  # an info string such as `json`, then the JSON
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+):([0-5]?\d)|(\d+)):([0-5]\d(?:\.\d+)?)", re.ASCII)
_BRACKETS = np.zeros(256, np.int8)
_BRACKETS[[ord("{"), ord("[")]] = 1
_BRACKETS[[ord("}"), ord("]")]] = -1
