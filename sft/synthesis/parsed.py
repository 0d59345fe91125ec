"""A document made ready for questions: canonical tags by shot, and the stretches over which a tag or a role holds.

Everything that more than one question needs is made once a document; lists are shared and not to be changed.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from ...schema.clock import write_time
from ...schema.document import Document, shown_time
from .vocabulary import TRANSITION, Held, Sub, Vocabulary, nested

INTENT = ("narrative", "dissemination")
"""Dimensions whose tags say why: what abduction asks for. The others are what is seen."""


class Stretch(NamedTuple):
    """A stretch of the timeline, in seconds, rounded to tenths: as questions print times, so that an answer holds what was asked."""

    start: float
    end: float


class Parsed:
    """What questions are asked about: the shots of one sound document. A shot that is over within a tenth of a second is left out;
    its neighbours still meet.

    Attributes:
        shots: their stretches, in order.
        tags: for each shot, sub-dimension -> canonical tags (never empty), in the taxonomy's order.
        held: the same, as answers hold them.
    """

    def __init__(self, document: Document, vocabulary: Vocabulary):
        self.document, self.words = document, vocabulary
        stretches = [(Stretch(shown_time(shot.start), shown_time(shot.end)), shot) for shot in document.shots]
        shown = [(stretch, shot) for stretch, shot in stretches if stretch.start < stretch.end]
        self.shots = [stretch for stretch, _ in shown]
        labels = [self._labels(shot.labels) for _, shot in shown]
        self.tags = [{sub: tags for _, sub, tags, _ in told} for told in labels]
        self.held = [{sub: held for _, sub, _, held in told} for told in labels]
        self._roles = [shot.role for _, shot in shown]

    def _labels(self, labels: Mapping) -> list[tuple[int, Sub, tuple[str, ...], Held]]:
        canonical = self.words.canonical
        found = [
            canonical(dimension, name, told if told.__class__ is str else tuple(told))
            for dimension, subs in labels.items()
            for name, told in subs.items()
            if told
        ]
        return sorted(found, key=itemgetter(0))

    @cached_property
    def columns(self) -> dict[Sub, list[tuple[int, tuple[str, ...]]]]:
        """Sub-dimension -> (shot, tags) of the shots that are labelled with it, in the taxonomy's order."""
        found: dict[Sub, list[tuple[int, tuple[str, ...]]]] = {}
        for i, tags in enumerate(self.tags):
            for sub, told in tags.items():
                if sub in found:
                    found[sub].append((i, told))
                else:
                    found[sub] = [(i, told)]
        return {sub: found[sub] for sub in sorted(found, key=self.words.rank.__getitem__)}

    @cached_property
    def whole(self) -> dict[Sub, list[tuple[int, tuple[str, ...]]]]:
        """The columns that say something of every shot, so that what they do not name is not there. A transition is no property of
        a stretch, but what leads into it."""
        return {
            sub: column
            for sub, column in self.columns.items()
            if len(column) == len(self.shots) and sub[1] != TRANSITION
        }

    @cached_property
    def labelled(self) -> list[tuple[int, list[Sub]]]:
        """(shot, its sub-dimension), of every label."""
        return [(i, [sub]) for i, tags in enumerate(self.tags) for sub in tags]

    @cached_property
    def spoken(self) -> list[dict[str, str]]:
        """Each shot's stretch in words, within a sentence (`span`) and at its head (`span_first`)."""
        words = [f"etween {write_time(start)} and {write_time(end)}" for start, end in self.shots]
        return [{"span": f"b{said}", "span_first": f"B{said}"} for said in words]

    @cached_property
    def roles(self) -> list[tuple[str, Stretch]]:
        """The skeleton segments (Definition 2) of a document whose shots all have a role; else none, as what has no role may
        belong to any."""
        if None in self._roles:
            return []
        runs = [[i for i, _ in run] for _, run in groupby(enumerate(self._roles), key=lambda told: told[1])]
        return [(self._roles[run[0]], Stretch(self.shots[run[0]].start, self.shots[run[-1]].end)) for run in runs]

    def where(self, sub: Sub, tag: str) -> list[Stretch]:
        """Every maximal stretch of shots that carry a tag."""
        runs: list[list[int]] = []
        for i in (i for i, tags in self.columns.get(sub, ()) if tag in tags):
            if runs and runs[-1][1] == i - 1:
                runs[-1][1] = i
            else:
                runs.append([i, i])
        return [Stretch(self.shots[first].start, self.shots[last].end) for first, last in runs]

    def parts(self, sub: Sub) -> list[tuple[Stretch, int]]:
        """The video split wherever the tags of a sub-dimension change, which is one of the `whole`: (stretch, its first shot)."""
        runs = [[i for i, _ in run] for _, run in groupby(self.whole[sub], key=lambda told: frozenset(told[1]))]
        return [(Stretch(self.shots[run[0]].start, self.shots[run[-1]].end), run[0]) for run in runs]

    def labels(self, shot: int, subs: Iterable[Sub]) -> dict[str, dict[str, Held]]:
        """A shot's labels of these sub-dimensions, as answers hold them."""
        return nested(self.held[shot], subs)

    @cached_property
    def seen(self) -> list[list[Sub]]:
        """The sub-dimensions of each shot's labels that say what is seen, not what it is for (`INTENT`)."""
        return [[sub for sub in tags if sub[0] not in INTENT] for tags in self.tags]

    @cached_property
    def intents(self) -> list[tuple[int, Sub]]:
        """(shot, sub-dimension) with one tag that says why, where two labels at least say what is seen."""
        return [
            (i, sub)
            for i, (tags, seen) in enumerate(zip(self.tags, self.seen, strict=True))
            if len(seen) > 1
            for sub, told in tags.items()
            if sub[0] in INTENT and len(told) == 1
        ]

    @cached_property
    def confusable(self) -> list[tuple[int, Sub]]:
        """Labels that could be mistaken for a neighbour: (shot, sub-dimension) with one tag that has others near it."""
        near = self.words.near
        return [
            (i, sub)
            for i, tags in enumerate(self.tags)
            for sub, told in tags.items()
            if len(told) == 1 and near(*sub, told[0])
        ]

    @cached_property
    def mistakes(self) -> dict[Sub, list[tuple[int, Sub]]]:
        """The `confusable` labels by sub-dimension."""
        found: dict[Sub, list[tuple[int, Sub]]] = {}
        for place in self.confusable:
            found.setdefault(place[1], []).append(place)
        return found
