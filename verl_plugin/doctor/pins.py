"""Installed versions against the pins of `pyproject.toml`, read from sv6d's own installed metadata."""

from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

from packaging.requirements import Requirement


class Pin(NamedTuple):
    """A requirement of sv6d and what is installed of it (None: nothing)."""

    name: str
    wanted: str
    installed: str | None
    extra: str
    satisfied: bool


def pins(extras: tuple[str, ...]) -> list[Pin]:
    """The pins of these extras of sv6d (`cpu`, `gpu`, `verl`, `demo`, ...), nested extras followed, in the order of
    pyproject.toml; the core's own requirements come first, under the extra `core`."""
    requirements = [Requirement(text) for text in requires("sv6d") or []]
    found, waiting, seen = {}, ["core", *extras], set()
    while waiting:
        extra = waiting.pop(0)
        if extra in seen:
            continue
        seen.add(extra)
        for requirement in requirements:
            if not _belongs(requirement, extra):
                continue
            if requirement.name == "sv6d":
                waiting = [*sorted(requirement.extras), *waiting]
            else:
                found.setdefault(requirement.name, _pin(requirement, extra))
    return list(found.values())


def _belongs(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    if extra == "core":
        return marker is None or marker.evaluate({"extra": ""})
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _pin(requirement: Requirement, extra: str) -> Pin:
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return Pin(requirement.name, str(requirement.specifier) or "any", None, extra, satisfied=False)
    # "2.13.0+cpu" satisfies "==2.13.0"; so does a development version of the pinned one
    satisfied = requirement.specifier.contains(installed, prereleases=True)
    return Pin(requirement.name, str(requirement.specifier) or "any", installed, extra, satisfied)
