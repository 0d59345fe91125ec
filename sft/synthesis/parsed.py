"""A document made ready for questions: canonical tags by shot, and the stretches over which a tag or a role holds."""

from functools import cached_property
from itertools import groupby
from typing import NamedTuple

from ...schema.document import Document
from .vocabulary import Sub, Vocabulary

INTENT = ("narrative", "dissemination")
"""Dimensions whose tags say why: what abduction asks for. The others are what is seen."""


class Stretch(NamedTuple):
    """A stretch of the timeline, in seconds, rounded to hundredths."""

    start: float
    end: float


class Parsed:
    """What questions are asked about: the shots of one sound document.

    Attributes:
        shots: their stretches, in order.
        tags: for each shot, sub-dimension -> canonical tags (never empty).
    """

    def __init__(self, document: Document, vocabulary: Vocabulary):
        self.document, self.words = document, vocabulary
        self.shots = [Stretch(round(shot.start, 2), round(shot.end, 2)) for shot in document.shots]
        self.tags: list[dict[Sub, tuple[str, ...]]] = [
            {
                (dimension, sub): tuple(vocabulary.canonical(dimension, sub, tag) for tag in shot.tags(dimension, sub))
                for dimension, subs in shot.labels.items()
                for sub in subs
                if shot.tags(dimension, sub)
            }
            for shot in document.shots
        ]

    @cached_property
    def subs(self) -> list[Sub]:
        """The sub-dimensions that any shot is labelled with, in the taxonomy's order."""
        used = {sub for tags in self.tags for sub in tags}
        return [sub for sub in self.words.subs if sub in used]

    @cached_property
    def roles(self) -> list[tuple[str, Stretch]]:
        """The skeleton segments that have a role (Definition 2)."""
        return [
            (segment.role, Stretch(round(segment.start, 2), round(segment.end, 2)))
            for segment in self.document.skeleton
            if segment.role is not None
        ]

    def where(self, sub: Sub, tag: str) -> list[Stretch]:
        """Every maximal stretch of shots that carry a tag."""
        return [
            Stretch(shots[0].start, shots[-1].end)
            for holds, run in groupby(
                zip(self.tags, self.shots, strict=True), key=lambda pair: tag in pair[0].get(sub, ())
            )
            if holds and (shots := [shot for _, shot in run])
        ]

    def parts(self, sub: Sub) -> list[tuple[Stretch, tuple[str, ...]]] | None:
        """The video split wherever the tags of a sub-dimension change; None where a shot has none."""
        if not all(sub in tags for tags in self.tags):
            return None
        runs = groupby(zip(self.tags, self.shots, strict=True), key=lambda pair: frozenset(pair[0][sub]))
        found = [[*run] for _, run in runs]
        return [(Stretch(run[0][1].start, run[-1][1].end), run[0][0][sub]) for run in found]

    def labels(self, shot: int, subs: list[Sub]) -> dict[str, dict[str, str | list[str]]]:
        """A shot's labels of these sub-dimensions, as answers hold them."""
        return self.words.labels({sub: self.tags[shot][sub] for sub in subs if sub in self.tags[shot]})

    @cached_property
    def seen(self) -> list[list[Sub]]:
        """The sub-dimensions of each shot's labels that say what is seen, not what it is for (`INTENT`)."""
        shown = [sub for sub in self.subs if sub[0] not in INTENT]
        return [[sub for sub in shown if sub in tags] for tags in self.tags]

    @cached_property
    def intents(self) -> list[tuple[int, Sub]]:
        """(shot, sub-dimension) with one tag that says why, where two labels at least say what is seen."""
        why = [sub for sub in self.subs if sub[0] in INTENT]
        return [
            (i, sub)
            for i, tags in enumerate(self.tags)
            for sub in why
            if len(tags.get(sub, ())) == 1 and len(self.seen[i]) > 1
        ]

    @cached_property
    def confusable(self) -> list[tuple[int, Sub]]:
        """Labels that could be mistaken for a neighbour: (shot, sub-dimension) with one tag that has others near it."""
        near = self.words.near
        return [
            (i, sub)
            for i, tags in enumerate(self.tags)
            for sub in self.subs
            if len(tags.get(sub, ())) == 1 and near(*sub, tags[sub][0])
        ]
