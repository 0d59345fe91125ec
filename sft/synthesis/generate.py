"""The questions of one document: kinds interleaved by the mixture's own schedule, targets and words drawn by a seed.

A question depends on its document, its place among the documents and the seed, and on nothing else: not on the number of
processes, nor on what was made before.
"""

from collections.abc import Mapping
from random import Random
from typing import NamedTuple

import numpy as np

from ...data_mixers import Schedule
from ...schema import Taxonomy
from ...schema.document import Document
from .parsed import Parsed
from .questions import KINDS, QA
from .templates import Templates
from .vocabulary import Vocabulary

WEIGHTS: Mapping[str, float] = {
    "attribute.single": 4,
    "attribute.dimension": 2,
    "attribute.snapshot": 1,
    "retrieval.locate": 3,
    "retrieval.role": 1,
    "retrieval.moment": 2,
    "retrieval.sequence": 2,
    "abduction.change": 2,
    "abduction.intent": 2,
    "correction.report": 2,
    "choice.single": 4,
}
"""Shares of the kinds: the four families about alike, a fifth of the pairs as multiple choice."""


class Plan(NamedTuple):
    """How many questions of which kinds a document is asked."""

    per_document: int = 40
    seed: int = 0
    weights: tuple[tuple[str, float], ...] = tuple(WEIGHTS.items())


class Generator:
    """Makes questions; what does not change from document to document is made once.

    Raises:
        ValueError: weights of unknown kinds, or no questions at all.
    """

    def __init__(self, plan: Plan, taxonomy: Taxonomy, templates: Templates):
        weights = dict(plan.weights)
        if unknown := weights.keys() - KINDS.keys():
            raise ValueError(f"{min(unknown)!r} is no kind of question; there are {', '.join(KINDS)}")
        if plan.per_document < 1:
            raise ValueError(f"per_document={plan.per_document}: ask each document one question at least")
        self.plan, self.templates = plan, templates
        self.vocabulary = Vocabulary.of(taxonomy)
        self.schedule = Schedule({kind: weight for kind, weight in weights.items() if weight})

    def questions(self, document: Document, number: int) -> list[QA]:
        """The questions of a sound document, at most `per_document`: fewer where it has no more to ask about.

        Args:
            number: the document's place among all documents, from 0.
        """
        parsed = Parsed(document, self.vocabulary)
        rng = Random(f"{self.plan.seed}/{number}/{document.video}")
        left = {kind: [*KINDS[kind].targets(parsed)] for kind in self.schedule.tasks}
        first = number * self.plan.per_document
        made: list[QA] = []
        for index in self.schedule.at(np.arange(first, first + self.plan.per_document)).tolist():
            kind = self.schedule.tasks[index]
            if not left[kind]:  # this document has no more of it: the kind with most left to ask stands in
                kind = max(left, key=lambda other: len(left[other]))
            targets = left[kind]
            if not targets:
                break
            place = int(rng.random() * len(targets))
            targets[place], targets[-1] = targets[-1], targets[place]
            made.append(KINDS[kind].make(parsed, targets.pop(), rng, self.templates))
        return made
