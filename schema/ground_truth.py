"""Reading and checking a ground truth as it stands in a row: segments for grounding and localization, else plain text.

A wrong ground truth would teach a wrong thing in silence, so everything here is strict and every error names the field,
the value and the mend.
"""

import math
import unicodedata
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from .answer import TAGS, says_something
from .tasks import FAMILIES, TASKS, find_task
from .taxonomy import Taxonomy, TaxonomyError

END_TOLERANCE = 0.1
"""Seconds by which a true segment may pass the end of its video (times are often rounded)."""


class GroundTruthError(ValueError):
    """A ground truth that cannot be scored against; the message names field, value and mend."""


class TrueSegment(NamedTuple):
    """A true time span in seconds and its canonical tags by (dimension, sub-dimension)."""

    start: float
    end: float
    labels: dict[tuple[str, str], tuple[str, ...]]


def family_of(task: str) -> str:
    """The reward family of a task id; a family's own name stands for itself. Raises TaskError with near names."""
    return task if task in FAMILIES else find_task(task).family


def validate_ground_truth(
    task_id: str, ground_truth: str, duration: float | None = None, taxonomy: Taxonomy | None = None
) -> None:
    """Check a row's ground truth: readable, canonical tags of the task's own sub-dimensions, sane times.

    Args:
        task_id: one of `TASKS`, or a family.
        ground_truth: the text as it stands in the row.
        duration: length of the video in seconds, where it is known.

    Raises:
        TaskError: an unknown task.
        GroundTruthError: names the field, the value and the mend.
    """
    family = family_of(task_id)
    if family == "ocr":
        read_true_text(ground_truth)
    elif family == "chain_of_thought":
        read_true_answer(ground_truth)
    else:
        labelled = family == "temporal_grounding"
        segments = read_true_segments(ground_truth, taxonomy or Taxonomy.load(), labelled=labelled)
        asked = TASKS[task_id].labels if task_id in TASKS else None
        for i, segment in enumerate(segments):
            if duration is not None and segment.end > duration + END_TOLERANCE:
                _fail(f"segments[{i}].end", segment.end, f"the video ends at {duration}; clamp it")
            for dimension, sub in segment.labels:
                if asked is not None and (dimension, sub) not in asked:
                    names = ", ".join(".".join(pair) for pair in asked)
                    _fail(f"segments[{i}].labels", f"{dimension}.{sub}", f"task {task_id} asks for {names}")


def read_true_segments(ground_truth: str, taxonomy: Taxonomy, labelled: bool) -> tuple[TrueSegment, ...]:
    """The segments of a ground truth: JSON text of a list, or of `{"segments": list}`.

    Args:
        labelled: whether the family asks for labels; without it they are left out.
    """
    _require_text(ground_truth)
    try:
        value = msgspec.json.decode(ground_truth)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise GroundTruthError(f"ground truth {ground_truth[:80]!r}: is not JSON: {error}") from error
    if isinstance(value, dict):
        if "segments" not in value:
            _fail("ground truth", sorted(value), 'write {"segments": [...]} or a list of segments')
        value = value["segments"]
    if not isinstance(value, list):
        _fail("segments", value, "write a list of segments")
    return tuple(_read_segment(item, taxonomy, labelled, f"segments[{i}]") for i, item in enumerate(value))


def read_true_text(ground_truth: str) -> str:
    """The true text of an OCR example, which may be empty.

    Raises:
        GroundTruthError: it holds a tag like `<answer>`, so that no response could say it.
    """
    _require_text(ground_truth)
    _require_no_tag(ground_truth)
    return ground_truth


def read_true_answer(ground_truth: str) -> str:
    """The true final answer of a reasoning example.

    Raises:
        GroundTruthError: it is nothing but spaces and punctuation, which no judge is asked about, or holds a tag like
            `<answer>`: no response could be right.
    """
    _require_text(ground_truth)
    _require_no_tag(ground_truth)
    if not says_something(unicodedata.normalize("NFKC", ground_truth)):
        _fail("ground truth", ground_truth, "a reasoning example needs its final answer, with a letter or a digit")
    return ground_truth.strip()


def _read_segment(item: Any, taxonomy: Taxonomy, labelled: bool, place: str) -> TrueSegment:
    if not isinstance(item, dict):
        _fail(place, item, "write an object with start and end")
    start, end = _read_time(item, "start", place), _read_time(item, "end", place)
    if start > end:
        _fail(place, [start, end], "the start lies after the end; swap them")
    labels = item.get("labels") if labelled else None
    return TrueSegment(start, end, {} if labels is None else _read_labels(labels, taxonomy, f"{place}.labels"))


def _read_time(item: dict[str, Any], key: str, place: str) -> float:
    value = item.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        _fail(f"{place}.{key}", value, "write a number of seconds")
    try:
        value = float(value)
    except OverflowError:
        value = math.inf
    if not 0.0 <= value < math.inf:
        _fail(f"{place}.{key}", value, "write a finite number of seconds, 0 or more")
    return value


def _read_labels(labels: Any, taxonomy: Taxonomy, place: str) -> dict[tuple[str, str], tuple[str, ...]]:
    if not isinstance(labels, dict):
        _fail(place, labels, "write {dimension: {sub-dimension: tag}}")
    read = {}
    for dimension, subs in labels.items():
        if not isinstance(subs, dict):
            _fail(f"{place}.{dimension}", subs, "write {sub-dimension: tag}")
        for sub, tags in subs.items():
            tags = [tags] if isinstance(tags, str) else tags
            if not isinstance(tags, list) or not set(map(type, tags)) <= {str}:
                _fail(f"{place}.{dimension}.{sub}", tags, "write a tag or a list of tags")
            try:
                known = _canonical(taxonomy, dimension, sub, tuple(tags))
            except TaxonomyError as error:
                raise GroundTruthError(f"{place}.{dimension}.{sub}: {error}") from error
            if len(known) > 1 and taxonomy.sub_dimension(dimension, sub).cardinality == "one":
                _fail(f"{place}.{dimension}.{sub}", known, "this sub-dimension takes one tag")
            if known:
                read[dimension, sub] = known
    return read


@lru_cache(maxsize=16384)
def _canonical(taxonomy: Taxonomy, dimension: str, sub: str, tags: tuple[str, ...]) -> tuple[str, ...]:
    """Different canonical tags, in order; the same few come again in every ground truth."""
    return tuple(dict.fromkeys(taxonomy.canonical(dimension, sub, tag) for tag in tags))


def _require_no_tag(text: str) -> None:
    if "<" in text:  # one character is found much faster than a word
        for tag in TAGS:
            if tag in text:
                _fail("ground truth", tag, "a response with that tag in its answer is cut there; leave the row out")


def _require_text(ground_truth: Any) -> None:
    if not isinstance(ground_truth, str):
        _fail("ground truth", ground_truth, "give the text as it stands in the row (JSON for segments)")


def _fail(place: str, value: Any, mend: str):
    raise GroundTruthError(f"{place}: {str(value)[:80]!r} is wrong; {mend}")
