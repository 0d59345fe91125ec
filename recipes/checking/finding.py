"""What a check has to say: one sentence each, with the numbers, and with what to change where something is wrong."""

from typing import Literal, NamedTuple

Level = Literal["error", "warning", "note"]


class Finding(NamedTuple):
    """One sentence of one check.

    Attributes:
        level: "error": the run would fail, or be another than the recipe says. "warning": it would run, at a price or a risk
            that the text names. "note": a number worth knowing.
        check: the check's name in the table; empty until the table fills it in.
        text: what is wrong, with numbers, and what to change.
    """

    level: Level
    check: str
    text: str


class NotKnown(Exception):
    """What a check needs cannot be had (no model folder, no rows); another check says why it is missing."""


class Unreadable(NotKnown):
    """Row files that are there and cannot be read: the checks of the rows say so, others pass over it."""


def counted(number: int, noun: str) -> str:
    """ "1 rank", "1,000 ranks"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def error(text: str) -> Finding:
    return Finding("error", "", text)


def warning(text: str) -> Finding:
    return Finding("warning", "", text)


def note(text: str) -> Finding:
    return Finding("note", "", text)
