"""The 13 task types in one table: family (Table 4), asked sub-dimensions, prompts.  The words stand in `tasks.yaml`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import yaml

from .names import near_names
from .taxonomy import Taxonomy, TaxonomyError

FAMILIES = ("temporal_grounding", "action_localization", "ocr", "chain_of_thought")
"""The four reward families, in the order of Table 4."""


class TaskError(ValueError):
    """An unknown task, a broken task table, or a prompt that lacks its query."""


@dataclass(frozen=True)
class Task:
    """One task type."""

    id: str
    bucket: str
    """Which of the nine buckets of section 5.2.4 the task belongs to."""
    family: str
    """One of `FAMILIES`: which row of Table 4 rewards it."""
    labels: tuple[tuple[str, str], ...]
    """The (dimension, sub-dimension) pairs that it asks for; empty outside temporal grounding."""
    media: str
    """`video` or `image`: what its examples hold unless they say otherwise."""
    system: str
    prompt: str
    """May hold `{query}`, which `messages` fills."""
    first_unlabelled: bool = False
    """Whether the first segment may lack labels, as where a shot is labelled with what leads into it."""

    def messages(self, query: str | None = None, media: str | Sequence[str] | None = None) -> list[dict[str, str]]:
        """System and user message, with one `<video>` or `<image>` placeholder for each medium.

        Args:
            query: the event (localization) or question (reasoning) of the example.
            media: `video`, `image`, or one such name for each medium of the example; default: the task's own.

        Raises:
            TaskError: the prompt asks for a query and none is given.
        """
        if "{query}" in self.prompt and not (query or "").strip():
            raise TaskError(
                f"task {self.id}: its prompt asks for a query and the example has none; give the example one"
            )
        media = [media or self.media] if media is None or isinstance(media, str) else list(media)
        for kind in media:
            if kind not in ("video", "image"):
                raise TaskError(f"task {self.id}: unknown medium {kind!r}; use 'video' or 'image'")
        content = "".join(f"<{kind}>" for kind in media) + self.prompt.replace("{query}", query or "")
        return [{"role": "system", "content": self.system}, {"role": "user", "content": content}]


class _TaskSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bucket: str
    family: str
    media: str
    prompt: str
    ask: str = ""
    system: str = ""
    labels: list[str] = []
    first_unlabelled: bool = False


def load_tasks(path: str | Path | None = None, taxonomy: Taxonomy | None = None) -> Mapping[str, Task]:
    """The task table at `path` (default: the packaged one), its prompts filled from `taxonomy`.

    Raises:
        TaskError: names the file, the task, the field, the value and the mend.
    """
    path = Path(str(files(__package__) / "tasks.yaml")) if path is None else Path(path)
    taxonomy = taxonomy or Taxonomy.load()
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TaskError(f"{path}: cannot be read: {error}") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("tasks"), dict):
        raise TaskError(f"{path}: has no `tasks:` mapping; see the packaged tasks.yaml")
    families = raw.get("families") or {}
    return MappingProxyType(
        {id: _task(id, entry, families, taxonomy, f"{path}: tasks.{id}") for id, entry in raw["tasks"].items()}
    )


def find_task(id: str, tasks: Mapping[str, Task] | None = None) -> Task:
    """The task of that id. Raises TaskError with near names."""
    tasks = TASKS if tasks is None else tasks
    if id not in tasks:
        raise TaskError(f"unknown task {id!r}; {near_names(id, tasks)}")
    return tasks[id]


def answer_form(task_labels: Sequence[tuple[str, str]], taxonomy: Taxonomy) -> str:
    """The JSON form of an answer: segments with times, and the asked sub-dimensions where there are some."""
    segment: dict[str, Any] = {"start": 0.0, "end": 1.5}
    for dimension, sub_dimension in task_labels:
        many = taxonomy.sub_dimension(dimension, sub_dimension).cardinality == "many"
        segment.setdefault("labels", {}).setdefault(dimension, {})[sub_dimension] = ["tag"] if many else "tag"
    return msgspec.json.encode({"segments": [segment]}).decode()


def _task(id: str, entry: Any, families: Mapping[str, Any], taxonomy: Taxonomy, place: str) -> Task:
    try:
        spec = msgspec.convert(entry, _TaskSpec)
    except msgspec.ValidationError as error:
        raise TaskError(f"{place}: {error}") from error
    if spec.family not in FAMILIES:
        raise TaskError(f"{place}.family: unknown family {spec.family!r}; {near_names(spec.family, FAMILIES)}")
    if spec.media not in ("video", "image"):
        raise TaskError(f"{place}.media: unknown medium {spec.media!r}; use video or image")
    if bool(spec.labels) != (spec.family == "temporal_grounding"):
        raise TaskError(f"{place}.labels: temporal grounding asks for labels, and no other family does")
    labels = tuple(_label(name, taxonomy, f"{place}.labels") for name in spec.labels)
    tags = "\n".join(f"{sub}: {', '.join(taxonomy.sub_dimension(dim, sub).labels)}" for dim, sub in labels)
    prompt = spec.prompt.replace("{ask}", spec.ask).replace("{tags}", tags)
    system = spec.system or (families.get(spec.family) or {}).get("system", "")
    return Task(
        id=id,
        bucket=spec.bucket,
        family=spec.family,
        labels=labels,
        media=spec.media,
        system=system,
        prompt=prompt.replace("{form}", answer_form(labels, taxonomy)),
        first_unlabelled=spec.first_unlabelled,
    )


def _label(name: str, taxonomy: Taxonomy, place: str) -> tuple[str, str]:
    dimension, _, sub_dimension = name.partition(".")
    try:
        taxonomy.sub_dimension(dimension, sub_dimension)
    except TaxonomyError as error:
        raise TaskError(f"{place}: {name!r}: {error}") from error
    return dimension, sub_dimension


TASKS: Mapping[str, Task] = load_tasks()
"""The packaged tasks by id, in the order of the report's buckets."""
