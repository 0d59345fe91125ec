"""Constrained answers: for each task, what a decoder must keep to so that the answer has the form that Format asks for.

Grounding and localization answer with JSON: a JSON schema whose tags are enums of the taxonomy.  Chain of thought answers
with `<think>...</think><answer>...</answer>`: a regular expression.  OCR is free text: there is nothing to constrain.
What is asked comes from the table that also words the prompts (`tasks.yaml`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from math import ceil, inf
from typing import Any

from .names import near_names
from .tasks import Task, TaskError, find_task
from .taxonomy import Taxonomy

MAX_TIME = 86400.0
"""Seconds; the largest time an answer may say where the video's duration is not given. It keeps 1e999 out."""

MAX_CELLS = 400
"""How many cells a duration is cut into at most, longer ones than asked where need be: a compiled grammar and its compile
time grow with them."""


class LimitError(ValueError):
    """A limit is unknown or out of range; the message names it, its value and the mend."""


@dataclass(frozen=True)
class Limits:
    """How much an answer may hold, so that a constrained decoder comes to an end; None: no limit."""

    duration: float | None = None
    """Seconds; no time lies beyond it."""
    step: float | None = None
    """Seconds: where the duration is known too, it is cut into cells of this length, and a segment that starts in one ends
    after it, so that none ends before it starts. A schema cannot compare two numbers; this spells the comparison out, at
    the price that a segment within one cell cannot be said. None: a segment may end before it starts."""
    max_segments: int | None = None
    max_tags: int | None = None
    """How many tags a sub-dimension that takes several may get; None: all that it has."""
    max_text: int | None = None
    """Characters of a thought, and of the answer that follows it."""

    def __post_init__(self):
        for name in ("duration", "step"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0.0 < value < inf):
                raise LimitError(f"{name} = {value!r} is wrong; give a number of seconds above 0")
        for name in ("max_segments", "max_tags", "max_text"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and not isinstance(value, bool) and value > 0):
                raise LimitError(f"{name} = {value!r} is wrong; give a whole number above 0")

    @staticmethod
    def read(values: Mapping[str, Any]) -> "Limits":
        """Limits from a mapping. Raises LimitError, for an unknown name with near ones."""
        known = [field.name for field in fields(Limits)]
        for name in values:
            if name not in known:
                raise LimitError(f"unknown limit {name!r}; {near_names(name, known)}")
        return Limits(**values)


def answer_schema(task: str | Task, taxonomy: Taxonomy | None = None, limits: Limits | None = None) -> dict[str, Any]:
    """The JSON schema of an answer to a grounding or localization task.

    What scoring's form check requires is required, and a tag for each asked dimension in each segment (but in the first
    one of the tasks that say so); an answer that keeps to it earns Format 1, unless a segment ends before it starts
    (`Limits.step`).

    Raises:
        TaskError: an unknown task, or one whose answers are no JSON.
        TaxonomyError: a task's label that the taxonomy lacks.
    """
    task, limits = require_json(task), limits or Limits()
    segments: dict[str, Any] = {"type": "array"}
    if limits.max_segments is not None:
        segments["maxItems"] = limits.max_segments
    if not task.labels:
        segments["items"] = _segment(limits)
        return _object({"segments": segments})
    segments["minItems"] = 1
    segments["items"] = _segment(limits, "labels")
    definitions = {"labels": _labels(task, taxonomy or Taxonomy.load(), limits.max_tags)}
    if task.first_unlabelled:
        segments["prefixItems"] = [_segment(limits, "first_labels")]
        definitions["first_labels"] = definitions["labels"] | {"required": []}
    return _object({"segments": segments}) | {"$defs": definitions}


def thought_pattern(limits: Limits | None = None) -> str:
    """The regular expression of `<think>...</think><answer>...</answer>`, both non-empty, in the dialect that Python and the
    grammar compilers share. It has no look-around, so in the text a `<` is followed by none of `/`, `a`, `t` and `|`; the
    last begins the text of special tokens, some of which would end the answer."""
    text = _text((limits or Limits()).max_text)
    return rf"<think>{text}</think>\n{{0,2}}<answer>{text}</answer>"


def constraint(task: str | Task, taxonomy: Taxonomy | None = None, limits: Limits | None = None) -> dict[str, Any]:
    """What vLLM's structured outputs take for a task: `{"json": schema}`, `{"regex": pattern}`, or `{}` for free text.

    Raises:
        TaskError, TaxonomyError: as `answer_schema`.
    """
    task = find_task(task) if isinstance(task, str) else task
    if task.family == "ocr":
        return {}
    if task.family == "chain_of_thought":
        return {"regex": thought_pattern(limits)}
    return {"json": answer_schema(task, taxonomy, limits)}


def require_json(task: str | Task) -> Task:
    """The task, if its answers are JSON. Raises TaskError."""
    task = find_task(task) if isinstance(task, str) else task
    if task.family not in ("temporal_grounding", "action_localization"):
        raise TaskError(f"task {task.id}: answers of {task.family} are no JSON; use `constraint`")
    return task


def last_time(limits: Limits) -> float:
    """Seconds: the latest time that an answer may say."""
    return MAX_TIME if limits.duration is None else float(limits.duration)


def time_cells(limits: Limits) -> list[tuple[float, float]]:
    """The cells of `Limits.step`, as bounds in seconds rounded to thousandths; none where starts and ends are free."""
    if limits.step is None or limits.duration is None:
        return []
    last = last_time(limits)
    step = max(limits.step, last / MAX_CELLS)
    bounds = [min(last, round(k * step, 3)) for k in range(ceil(last / step) + 1)]
    return [(a, b) for a, b in pairwise(bounds) if a < b]


def _segment(limits: Limits, labels: str | None = None) -> dict[str, Any]:
    """One segment; `labels` names the definition of its labels."""
    last = last_time(limits)
    rest = {"labels": {"$ref": f"#/$defs/{labels}"}} if labels else {}
    if cells := time_cells(limits):
        return {"anyOf": [_object({"start": _time(a, b), "end": _time(b, last), **rest}) for a, b in cells]}
    return _object({"start": _time(0.0, last), "end": _time(0.0, last), **rest})


def _labels(task: Task, taxonomy: Taxonomy, max_tags: int | None) -> dict[str, Any]:
    """`{dimension: {sub-dimension: tag or tags}}`: every asked dimension, and in each at least one sub-dimension."""
    dimensions: dict[str, dict[str, Any]] = {}
    for dimension, name in task.labels:
        sub = taxonomy.sub_dimension(dimension, name)
        tags: dict[str, Any] = {"type": "string", "enum": list(sub.labels)}
        if sub.cardinality == "many":
            most = len(sub.labels) if max_tags is None else min(max_tags, len(sub.labels))
            tags = {"type": "array", "items": tags, "minItems": 1, "maxItems": most}
        dimensions.setdefault(dimension, {})[name] = tags
    return _object({name: _object(subs, required=()) | {"minProperties": 1} for name, subs in dimensions.items()})


def _object(properties: Mapping[str, Any], required: Sequence[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }


def _time(low: float, high: float) -> dict[str, Any]:
    return {"type": "number", "minimum": low, "maximum": high}


def _text(longest: int | None) -> str:
    more = "*" if longest is None else f"{{0,{longest - 1}}}"
    return rf"\n?[^<{_SPACE}](?:[^<]|<[^<at/|]){more}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_SPACE = r" \t\n\v\f\r\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""All white space of Unicode: the text must not begin with it (the compilers' own `\\s` is narrower)."""
