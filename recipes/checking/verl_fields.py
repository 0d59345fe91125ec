"""Which keys verl's configuration classes have, read from its source without importing it (and torch with it)."""

import ast
from functools import cache
from typing import NamedTuple

from ..compose import verl_config_folder

FOLDERS = ("workers/config", "trainer/config", "utils/profiler")


class Fields(NamedTuple):
    """The annotated fields of a class, by name, with the annotation's text; and its bases by name."""

    own: dict[str, str]
    bases: tuple[str, ...]


@cache
def classes() -> dict[str, Fields]:
    """Every class in verl's configuration modules, by name."""
    found = {}
    package = verl_config_folder().parents[1]
    for path in (path for folder in FOLDERS for path in sorted((package / folder).glob("*.py"))):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = _fields(node)
    return found


def fields(target: str) -> dict[str, str]:
    """The fields of the class that `_target_` names, inherited ones included; empty for a class that is not verl's."""
    known = classes().get(target.rsplit(".", 1)[-1])
    if known is None:
        return {}
    inherited: dict[str, str] = {}
    for base in known.bases:
        inherited |= fields(base)
    return inherited | known.own


def is_open(annotation: str) -> bool:
    """Whether a field takes whatever keys it is given: a mapping, or anything."""
    return any(word in annotation for word in ("dict", "Dict", "Mapping", "Any"))


def _fields(node: ast.ClassDef) -> Fields:
    own = {
        item.target.id: ast.unparse(item.annotation)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }
    return Fields(own, tuple(base.id for base in node.bases if isinstance(base, ast.Name)))
