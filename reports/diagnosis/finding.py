"""What a rule says of a run, and the rule itself: a function over the evidence with its thresholds beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from .evidence import Evidence

Level = Literal["alarm", "warning", "unjudged"]
LEVELS: tuple[Level, ...] = ("alarm", "warning", "unjudged")


class Finding(NamedTuple):
    """One thing that a rule saw, or (`unjudged`) why it could see nothing in this run."""

    rule: str
    level: Level
    """`alarm`: the run wants to be stopped and looked at. `warning`: something to know. `unjudged`: the rule lacked data."""
    task: str | None
    """None: the whole run."""
    steps: tuple[int, int] | None
    """First and last training step of the evidence."""
    title: str
    evidence: str
    advice: str


class Unjudged(Exception):
    """Raised by a rule that lacks what it judges by; the message says what."""


Find = Callable[..., Iterator[Finding]]


class Rule(NamedTuple):
    name: str
    about: str
    """What the rule looks for, in a sentence."""
    thresholds: dict[str, float]
    find: Find
    """`find(evidence, **thresholds)` yields findings. Raises Unjudged."""

    def judge(self, seen: Evidence, **thresholds: float) -> list[Finding]:
        """The rule's findings; where it lacks data, one that says so."""
        try:
            return list(self.find(seen, **{**self.thresholds, **thresholds}))
        except Unjudged as lacking:
            return [Finding(self.name, "unjudged", None, None, self.about, str(lacking), "")]


def rule(about: str, **thresholds: float) -> Callable[[Find], Rule]:
    """Makes a rule of a generator function; its name is the function's."""
    return lambda find: Rule(find.__name__, about, thresholds, find)
