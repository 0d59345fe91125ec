"""Other data sets' names for labels, as canonical tags: `mappings.yaml`, one entry a name; null is a name without a faithful tag."""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from ...schema import TASKS, Taxonomy
from .found import Unusable

Sub = tuple[str, str]
"""(dimension, sub-dimension)."""


@cache
def mappings() -> dict[str, Any]:
    return yaml.safe_load((files(__package__) / "mappings.yaml").read_text(encoding="utf-8"))


def canonical(dataset: str, column: str, names: Iterable[str]) -> dict[Sub, list[str]]:
    """The canonical tags of outside names, by sub-dimension; names mapped to null are dropped.

    Raises:
        Unusable: a data set's column that is not mapped, or a name that its column does not list.
    """
    columns = mappings()[dataset]
    if column not in columns:
        raise Unusable(f"{dataset} has no column {column!r} in mappings.yaml; there are {', '.join(columns)}")
    known = {_plain(str(name)): tag for name, tag in columns[column]["map"].items()}
    targets = [columns[column]["target"]] if "target" in columns[column] else columns[column]["targets"]
    found: dict[Sub, list[str]] = {}
    for name in names:
        if _plain(name) not in known:
            raise Unusable(
                f"{dataset}, {column}: {name!r} is not in mappings.yaml; add the canonical tag, or null to drop it"
            )
        if (tag := known[_plain(name)]) is not None:
            found.setdefault(_home(tag, tuple(targets)), []).append(tag)
    return found


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("-", " ").replace("_", " ").split())


@cache
def _home(tag: str, targets: tuple[str, ...]) -> Sub:
    """The target sub-dimension that has the tag."""
    taxonomy = Taxonomy.load()
    for target in targets:
        dimension, sub = target.split(".")
        if taxonomy.has(dimension, sub, tag):
            return dimension, sub
    raise ValueError(f"mappings.yaml: {tag!r} is no tag of {' or '.join(targets)}")


def task_of(sub: Sub) -> str:
    """The task type that asks for a sub-dimension first."""
    return next(id for id, task in TASKS.items() if sub in task.labels)


def by_task(tags: dict[Sub, list[str]]) -> dict[str, dict[str, dict[str, str | list[str]]]]:
    """task -> the labels of an answer to it.

    Raises:
        Unusable: two tags where a sub-dimension takes one.
    """
    taxonomy, found = Taxonomy.load(), {}
    for (dimension, sub), names in tags.items():
        names = list(dict.fromkeys(names))
        many = taxonomy.sub_dimension(dimension, sub).cardinality == "many"
        if len(names) > 1 and not many:
            raise Unusable(f"{dimension}.{sub} takes one tag, and {names} are given")
        labels = found.setdefault(task_of((dimension, sub)), {})
        labels.setdefault(dimension, {})[sub] = names if many else names[0]
    return found
