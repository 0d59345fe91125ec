"""The outputs of Appendix B, parsed: an edit plan (B.1), a list of steps (B.2), a ranking of segments (B.3).

Readers never raise on a model's text: what can be read is in the value, and each violation is a `Problem` with its place and
mend. The report's own samples overlap where a strict reader would refuse them; overlaps are therefore warnings.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import msgspec

from .answer import json_text
from .clock import SPAN, Span, find_spans, read_time
from .document import Problem
from .taxonomy import Taxonomy

Value = TypeVar("Value")
STEP_KINDS = {"visible": "visibly demonstrated actions", "verbal": "verbally stated instructions"}
"""The two lists of B.2 by kind of step."""
RANK_FIELDS = ("Content Structure", "Visual Aesthetics", "Shot Scale", "Rationale")
OVERRUN = 0.5
"""Seconds by which a step may end after its video (B.2 rounds to half seconds)."""
TARGET_SLACK = 0.1
"""Share of the asked length by which an edit plan may miss it without a warning."""


class Reading(NamedTuple, Generic[Value]):
    """What was read, and everything that is wrong with it."""

    value: Value
    problems: tuple[Problem, ...]

    @property
    def sound(self) -> bool:
        """Without errors; warnings may remain."""
        return all(problem.level != "error" for problem in self.problems)


class EditPlan(NamedTuple):
    """B.1: what to keep of a video, what to cut, and why."""

    retained: tuple[Span, ...]
    discarded: tuple[Span, ...]
    rationale: str

    @property
    def retained_seconds(self) -> float:
        return sum(span.seconds for span in self.retained)


class Step(NamedTuple):
    """B.2: one executable step, seen or said."""

    kind: Literal["visible", "verbal"]
    start: float
    """Seconds."""
    end: float
    step: str
    details: str
    evidence: str
    depends_on: tuple[str, ...] = ()
    """Steps that must come first. B.2 is asked for them and shows no field: optional."""


class RankedSegment(NamedTuple):
    """B.3: a segment with its rank, title and the four fields of its analysis."""

    rank: int
    title: str
    span: Span
    fields: Mapping[str, str]


def read_edit_plan(text: str, duration: float | None = None, target: float | None = None) -> Reading[EditPlan]:
    """An edit plan from lines `Retained:`, `Discarded:` (spans) and the text after `Rationale:`.

    Args:
        duration: the video's length in seconds; spans must lie inside.
        target: the length that was asked for; a plan that misses it is warned of.
    """
    parts = dict.fromkeys(("retained", "discarded", "rationale"), "")
    found = re.split(r"(?im)^[\s*_#-]*(retained|discarded|rationale)[*_]*\s*:[*_]*", text)
    parts |= {name.lower(): body for name, body in zip(found[1::2], found[2::2], strict=True)}
    plan = EditPlan(
        tuple(find_spans(parts["retained"])), tuple(find_spans(parts["discarded"])), parts["rationale"].strip()
    )
    return Reading(plan, tuple(_plan_problems(plan, parts, duration, target)))


def _plan_problems(
    plan: EditPlan, parts: Mapping[str, str], duration: float | None, target: float | None
) -> Iterator[Problem]:
    for name, spans in (("retained", plan.retained), ("discarded", plan.discarded)):
        if name == "discarded" and _NOTHING.fullmatch(parts[name]):
            continue
        if not spans:
            yield Problem("error", name, "holds no span; write [MM:SS.s–MM:SS.s]")
        if rest := re.sub(r"[\[\](),;\s]|and", "", SPAN.sub("", parts[name])):
            yield Problem("warning", name, f"{rest[:40]!r} is no span and was left out")
        yield from _span_problems(spans, name, duration)
        yield from _overlaps(spans, spans, name)
    if not plan.rationale:
        yield Problem("error", "rationale", "is missing; a line `Rationale:` gives the reason")
    yield from _overlaps(plan.retained, plan.discarded, "retained", "discarded")
    if target and abs(plan.retained_seconds - target) > TARGET_SLACK * target:
        yield Problem(
            "warning",
            "retained",
            f"comes to {plan.retained_seconds:.1f} s, {target:g} s were asked; retain more or less",
        )


def read_steps(text: str, duration: float | None = None) -> Reading[tuple[Step, ...]]:
    """A step list from a JSON object with the two keys of `STEP_KINDS`, alone, fenced or after prose; steps keep their order.

    Args:
        duration: the video's length in seconds; steps end at most half a second later.
    """
    problems: list[Problem] = []
    try:
        told = msgspec.json.decode(json_text(text) or "")
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return Reading(
            (), (Problem("error", "answer", f"is no JSON object ({error}); give one, with nothing after it"),)
        )
    if not isinstance(told, dict):
        return Reading(
            (), (Problem("error", "answer", f"is a JSON {type(told).__name__}; give an object with two lists"),)
        )
    steps: list[Step] = []
    for kind, key in STEP_KINDS.items():
        if not isinstance(told.get(key), list):
            problems.append(Problem("error", key, "is missing or no list; give a list of steps, which may be empty"))
            continue
        for i, item in enumerate(told[key]):
            step, found = _read_step(kind, item, f"{key}[{i}]", duration)
            problems += found
            steps += [step] if step else []
    return Reading(tuple(steps), tuple(problems))


def _read_step(kind: str, item: Any, place: str, duration: float | None) -> tuple[Step | None, list[Problem]]:
    if not isinstance(item, dict):
        return None, [Problem("error", place, "is no object with step, time_range, details and evidence")]
    problems = [
        Problem("error", f"{place}.{name}", "is missing or no text")
        for name in ("step", "details", "evidence")
        if not isinstance(item.get(name), str)
    ]
    span = _read_range(item.get("time_range"), f"{place}.time_range", problems)
    if span is None:
        return None, problems
    problems += _span_problems([span], f"{place}.time_range", duration and duration + OVERRUN)
    texts = (item.get(name) if isinstance(item.get(name), str) else "" for name in ("step", "details", "evidence"))
    before = item.get("depends_on", [])
    if not (isinstance(before, list) and all(isinstance(name, str) for name in before)):
        problems.append(Problem("error", f"{place}.depends_on", "is no list of the steps that come first"))
        before = []
    return Step(kind, span.start, span.end, *texts, tuple(before)), problems


def _read_range(value: Any, place: str, problems: list[Problem]) -> Span | None:
    if not (isinstance(value, list) and len(value) == 2):
        problems.append(Problem("error", place, 'is no pair ["HH:MM:SS.s", "HH:MM:SS.s"]'))
        return None
    try:
        return Span(*map(read_time, value))
    except ValueError as error:
        problems.append(Problem("error", place, str(error)))
        return None


def read_ranking(text: str, duration: float | None = None) -> Reading[tuple[RankedSegment, ...]]:
    """A ranking from headings `N. Segment N: title (MM:SS–MM:SS)`, each with a bullet for each of `RANK_FIELDS`."""
    headings = list(_HEADING.finditer(text))
    problems = [] if headings else [Problem("error", "answer", "holds no heading `1. Segment 1: title (MM:SS–MM:SS)`")]
    segments = []
    for i, heading in enumerate(headings):
        place = f"segments[{i}]"
        (span,) = find_spans(heading["span"])
        body = text[heading.end() : headings[i + 1].start() if i + 1 < len(headings) else len(text)]
        found = re.split(rf"(?im)^[\s•*_-]*({'|'.join(RANK_FIELDS)})[*_]*\s*:[*_]*", body)
        names = {name.lower(): name for name in RANK_FIELDS}
        fields = {names[name.lower()]: said.strip() for name, said in zip(found[1::2], found[2::2], strict=True)}
        segments.append(RankedSegment(int(heading["rank"]), heading["title"].strip(), span, fields))
        if int(heading["rank"]) != i + 1:
            problems.append(Problem("error", f"{place}.rank", f"is {heading['rank']}; ranks run from 1 without a gap"))
        problems += [
            Problem("error", f"{place}.{name}", "is missing; give each segment the four fields")
            for name in RANK_FIELDS
            if not fields.get(name)
        ]
        problems += _span_problems([span], f"{place}.span", duration)
    problems += _overlaps(*2 * ([segment.span for segment in segments],), "segments")
    return Reading(tuple(segments), tuple(problems))


def find_tags(text: str, dimension: str, sub_dimension: str, taxonomy: Taxonomy | None = None) -> list[str]:
    """Canonical tags of a sub-dimension that a prose names, in its order, each once.

    Whole phrases, the longest first: `a medium close-up` names `medium close-up`, and neither `close-up` nor `medium shot`.
    """
    taxonomy = taxonomy or Taxonomy.load()
    spec = taxonomy.sub_dimension(dimension, sub_dimension)
    phrases = {phrase.lower(): tag for phrase, tag in {**spec.aliases, **{tag: tag for tag in spec.labels}}.items()}
    pattern = "|".join(re.escape(phrase) for phrase in sorted(phrases, key=len, reverse=True))
    return list(dict.fromkeys(phrases[m[0].lower()] for m in re.finditer(rf"(?i)(?<!\w)(?:{pattern})(?!\w)", text)))


def _span_problems(spans: Iterable[Span], place: str, duration: float | None) -> Iterator[Problem]:
    for span in spans:
        if span.start >= span.end:
            yield Problem("error", place, f"{span}: a start lies before its end")
        elif duration is not None and span.end > duration:
            yield Problem("error", place, f"{span} ends after the video ({duration:g} s)")


def _overlaps(spans: Iterable[Span], others: Iterable[Span], place: str, other: str = "") -> Iterator[Problem]:
    """Warnings for pairs that share time; within one list each pair once."""
    others = list(others)
    for i, a in enumerate(spans):
        for b in others if other else others[i + 1 :]:
            if (shared := min(a.end, b.end) - max(a.start, b.start)) > 1e-9:
                yield Problem("warning", place, f"{a} shares {shared:.1f} s with {other + ' ' if other else ''}{b}")


_NOTHING = re.compile(r"(?i)\W*(?:none|nothing|n/a|no (?:cuts?|spans?|segments?))?\W*")
"""What a plan says that cuts nothing."""
_HEADING = re.compile(
    rf"(?m)^[\s*_#]*(?P<rank>\d+)\.\s+[*_]*Segment\s+\d+[*_]*:\s*(?P<title>.*?)\s*\((?P<span>{SPAN.pattern})\)[*_]*\s*$"
)
