"""From answers to a document that may be kept: confidence, consistency between fields, completeness, and the report as a whole.

Rules work on stored answers and ask no model, so a changed rule re-judges everything in seconds. Each says what it took away.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...schema import Taxonomy
from ...schema.clock import Span
from ...schema.document import Document, Shot, check_document
from .prefill import Answer
from .questions import ROLE, asked_subs

HARD_CUT = "hard cut"
SLOW = {"wipe", "iris", "clock wipe", "barn door wipe", "blinds wipe", "cross dissolve", "luma dissolve"}
SLOW |= {"fade to black", "fade from black", "fade to white", "page turn", "morph"}
"""Transitions that take more than a frame, whatever their speed."""


class Limits(NamedTuple):
    """What a document must hold to; all in [0, 1]."""

    confidence: float = 0.5
    """A label whose confidence is below is dropped."""
    complete_shot: float = 0.5
    """A shot that keeps fewer of the labels of a dimension that it was asked for loses that dimension."""
    complete: float = 0.6
    """A document that keeps fewer of all that it was asked for is rejected."""


class Removal(NamedTuple):
    """A label that a rule took away."""

    rule: str
    place: str
    """`shots[3].camera_language.shot_size`."""
    reason: str


@dataclass
class Draft:
    """A document while rules work on it."""

    video: str
    duration: float
    skeleton: str
    spans: list[Span]
    labels: list[dict[tuple[str, str], list[str]]]
    """For each shot (dimension, sub-dimension) -> tags."""
    confidence: list[dict[tuple[str, str], dict[str, float | None]]]
    """The same, each tag with its probability."""
    roles: list[str | None]
    sure: list[float | None]
    """Confidence of the roles."""
    removed: list[Removal] = field(default_factory=list)

    def drop(self, rule: str, shot: int, sub: tuple[str, str], reason: str) -> None:
        self.labels[shot].pop(sub)
        self.removed.append(Removal(rule, f"shots[{shot}].{'.'.join(sub)}", reason))

    def drop_tag(self, rule: str, shot: int, sub: tuple[str, str], tag: str, reason: str) -> None:
        """One tag of several; the label with the last of them."""
        left = [other for other in self.labels[shot][sub] if other != tag]
        self.drop(rule, shot, sub, f"{tag}: {reason}")
        if left:
            self.labels[shot][sub] = left

    def document(self, taxonomy: Taxonomy) -> Document:
        return Document(
            tuple(
                Shot(span.start, span.end, role, _nested(labels, taxonomy))
                for span, role, labels in zip(self.spans, self.roles, self.labels, strict=True)
            ),
            self.duration,
            self.video,
            self.skeleton,
        )


class Verdict(NamedTuple):
    """What became of a video's answers."""

    document: Document | None
    """None: rejected."""
    reasons: tuple[str, ...]
    """Why it was rejected."""
    removed: tuple[Removal, ...]


def judge(
    video: str,
    duration: float,
    spans: list[Span],
    sudden: Sequence[bool],
    answers: Mapping[tuple[int, str], Answer],
    dimensions: list[str],
    taxonomy: Taxonomy,
    skeleton: str,
    limits: Limits,
) -> Verdict:
    """
    Args:
        sudden: whether the picture changes from one frame to the next, for each shot but the first.
        answers: (shot, dimension or `role`) -> answer.
        dimensions: what was asked of each shot.
    """
    draft = _draft(video, duration, spans, answers, dimensions, skeleton)
    asked = [(i, (d, s)) for i in range(len(spans)) for d in dimensions for s in asked_subs(d, i, taxonomy)]
    _confident(draft, limits)
    _pairs_hold(draft, taxonomy)
    _boundaries_agree(draft, sudden)
    _dimensions_complete(draft, asked, dimensions, limits)
    document = draft.document(taxonomy)
    reasons = [str(problem) for problem in check_document(document, taxonomy) if problem.level == "error"]
    kept = sum(sub in draft.labels[i] for i, sub in asked)
    if asked and kept < limits.complete * len(asked):
        reasons.append(f"complete: {kept} of {len(asked)} labels are left, fewer than {limits.complete:.0%}")
    return Verdict(None if reasons else document, tuple(reasons), tuple(draft.removed))


def _draft(video, duration, spans, answers, dimensions, skeleton) -> Draft:
    labels: list[dict] = [{} for _ in spans]
    confidence: list[dict] = [{} for _ in spans]
    roles: list[str | None] = [None] * len(spans)
    sure: list[float | None] = [None] * len(spans)
    for (shot, about), answer in answers.items():
        if about == ROLE:
            roles[shot] = answer.labels[ROLE][0]
            sure[shot] = answer.confidence[ROLE][0]
        elif about in dimensions:
            for name, tags in answer.labels.items():
                labels[shot][about, name] = tags
                confidence[shot][about, name] = dict(zip(tags, answer.confidence[name], strict=True))
    return Draft(video, duration, skeleton, spans, labels, confidence, roles, sure)


def _confident(draft: Draft, limits: Limits) -> None:
    """Confidence-based filtering. A label without a confidence is one that nothing speaks for."""

    def doubt(value: float | None) -> str | None:
        if limits.confidence == 0 or (value is not None and value >= limits.confidence):
            return None
        said = "no confidence (the endpoint gives no logprobs)" if value is None else f"confidence {value:.2f}"
        return f"{said}, asked {limits.confidence:g}"

    for i, known in enumerate(draft.confidence):
        for sub, tags in known.items():
            for tag, value in tags.items():
                if why := doubt(value):
                    draft.drop_tag("confidence", i, sub, tag, why)
        if draft.roles[i] and (why := doubt(draft.sure[i])):
            draft.roles[i] = None
            draft.removed.append(Removal("confidence", f"shots[{i}].{ROLE}", why))


def _pairs_hold(draft: Draft, taxonomy: Taxonomy) -> None:
    """Invalid pairs of two sub-dimensions (an insert of a group): the less confident of the two goes."""
    for dimension in taxonomy.dimensions.values():
        if dimension.combinations is None:
            continue
        subs = [(dimension.name, axis) for axis in dimension.combinations.axes]
        for i, labels in enumerate(draft.labels):
            for entry in dimension.combinations.invalid:
                pair = [*zip(subs, entry.pair, strict=True)]
                if all(sub in labels and tag in labels[sub] for sub, tag in pair):
                    weaker, _ = min(pair, key=lambda told, i=i: draft.confidence[i][told[0]][told[1]] or 0.0)
                    draft.drop("pairs", i, weaker, f"{entry.pair[0]} with {entry.pair[1]}: {entry.why}")


def _boundaries_agree(draft: Draft, sudden: Sequence[bool]) -> None:
    """A transition is what leads into a shot: the first has none, one from a frame to the next is no slow one, and one over
    several frames is no hard cut."""
    for i, labels in enumerate(draft.labels):
        for sub in [sub for sub in labels if sub[1] == "transition_type"]:
            (tag, *_) = labels[sub]
            if i == 0:
                draft.drop("boundaries", i, sub, "nothing leads into the first shot")
            elif sudden[i - 1] and tag in SLOW:
                draft.drop("boundaries", i, sub, f"{tag}, and the picture changes from one frame to the next")
            elif not sudden[i - 1] and tag == HARD_CUT:
                draft.drop("boundaries", i, sub, f"{tag}, and the picture changes over several frames")


def _dimensions_complete(draft: Draft, asked: list, dimensions: list[str], limits: Limits) -> None:
    for i in range(len(draft.spans)):
        for dimension in dimensions:
            subs = [sub for shot, sub in asked if shot == i and sub[0] == dimension]
            left = [sub for sub in subs if sub in draft.labels[i]]
            if left and len(left) < limits.complete_shot * len(subs):
                for sub in left:
                    draft.drop(
                        "dimension", i, sub, f"{len(left)} of {len(subs)} labels of {dimension} are left in this shot"
                    )


def _nested(labels: Mapping[tuple[str, str], list[str]], taxonomy: Taxonomy) -> dict[str, dict[str, str | list[str]]]:
    found: dict[str, dict[str, str | list[str]]] = {}
    for (dimension, sub), tags in _in_order(labels, taxonomy):
        many = taxonomy.dimensions[dimension].sub_dimensions[sub].cardinality == "many"
        found.setdefault(dimension, {})[sub] = list(tags) if many else tags[0]
    return found


def _in_order(labels: Mapping, taxonomy: Taxonomy) -> Iterator:
    for dimension in taxonomy.dimensions.values():
        for sub in dimension.sub_dimensions:
            if (dimension.name, sub) in labels:
                yield (dimension.name, sub), labels[dimension.name, sub]
