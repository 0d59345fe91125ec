"""What a list of segments lost, pair by pair (eq. 5-10): for temporal grounding and action localization.

The pairs and their values come from the arrays that the reward sums; the tests hold that the terms come to the same.
"""

from collections.abc import Mapping, Sequence
from math import fsum, isclose
from typing import NamedTuple

import numpy as np
from msgspec import UNSET

from ...schema import Taxonomy
from ...schema.answer import SegmentAnswer, read_segments
from ...schema.form import Said
from ...schema.ground_truth import TrueSegment, read_true_segments
from ..config import RewardConfig
from ..matching import Answer, Truth, most_segments, pair_up, read_answer, read_truth
from ..tag_sets import set_distance, tag_states


class Loss(NamedTuple):
    """Points that a response did not get; those of all losses sum to 1 - score."""

    part: str
    """The component that it belongs to."""
    points: float
    """Below 0 only where the reward is cut off at 0: what the losses took beyond the whole."""
    why: str


class TagPair(NamedTuple):
    """What two matched segments say of one sub-dimension."""

    name: str
    """`dimension.sub_dimension`."""
    predicted: tuple[str, ...]
    true: tuple[str, ...]
    distance: float
    """d in [0, 1] of the two sets of tags."""
    share: float
    """Of the pair's label distance; the shares of a pair sum to 1."""


class Pair(NamedTuple):
    """A predicted and a true segment that the matching put together (eq. 7)."""

    predicted: tuple[float, float]
    true: tuple[float, float]
    iou: float
    distance: float
    """Delta_label of eq. 6; 0 where no labels are asked."""
    tags: tuple[TagPair, ...]


class Lone(NamedTuple):
    """A segment without a counterpart."""

    times: tuple[float, float]
    tags: tuple[tuple[str, tuple[str, ...]], ...]
    """(`dimension.sub_dimension`, tags) of each sub-dimension that is asked and that it names."""


class Segments(NamedTuple):
    """A response's segments against the true ones."""

    pairs: tuple[Pair, ...]
    unmatched_predicted: tuple[Lone, ...]
    unmatched_true: tuple[Lone, ...]
    unusable: int
    """Predicted segments without usable times."""
    losses: tuple[Loss, ...]
    """Those of the same part and reason are one."""
    unread: str
    """Why no list of segments could be read; empty where one was."""


def explain_segments(
    response: str, ground_truth: str, taxonomy: Taxonomy, config: RewardConfig, labelled: bool
) -> Segments:
    """The pairs of one response and where its points went.

    Args:
        labelled: temporal grounding; otherwise action localization.
    """
    truth = read_truth(ground_truth, taxonomy, labelled, config.dimension_weights if labelled else {})
    answer = read_answer(response, truth)
    true = read_true_segments(ground_truth, taxonomy, labelled)
    pairs = _matched(answer, truth, config)
    used, hit = {i for i, *_ in pairs}, {j for _, j, *_ in pairs}
    spans = list(zip(answer.starts, answer.ends, strict=True))
    said = read_segments(response, truth.labels.common_dimensions if truth.labels else None, truth.max_length)
    view = Segments(
        tuple(_pair(answer, i, true[j], iou, distance, truth, config) for i, j, iou, distance in pairs),
        tuple(Lone(times, _said_tags(answer, i, truth)) for i, times in enumerate(spans) if i not in used),
        tuple(_missed(segment) for j, segment in enumerate(true) if j not in hit),
        answer.count - len(spans),
        losses=(),
        unread=_unread(said, answer),
    )
    losses = _grounding_losses if labelled else _localization_losses
    return view._replace(losses=_merged(losses(_Case(view, said, answer, truth, config))))


def _unread(said: SegmentAnswer, answer: Answer) -> str:
    return UNREADABLE if said.faults.syntax else "" if answer.stated else "the answer holds no list of segments"


def _merged(losses: Sequence[Loss]) -> tuple[Loss, ...]:
    points: dict[tuple[str, str], list[float]] = {}
    for loss in losses:
        points.setdefault((loss.part, loss.why), []).append(loss.points)
    return tuple(Loss(part, fsum(lost), why) for (part, why), lost in points.items())


def _missed(segment: TrueSegment) -> Lone:
    tags = tuple((".".join(pair), tags) for pair, tags in sorted(segment.labels.items()))
    return Lone((segment.start, segment.end), tags)


def _said_tags(answer: Answer, i: int, truth: Truth) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What predicted segment i says of the sub-dimensions that the truth annotates."""
    said = {} if truth.labels is None else dict(zip(truth.labels.pairs, answer.said, strict=True))
    found = ((".".join(pair), _as_tags(entries[i])) for pair, entries in sorted(said.items()))
    return tuple((name, tags) for name, tags in found if tags)


def _as_tags(said: Said) -> tuple[str, ...]:
    return (said,) if isinstance(said, str) else () if said is UNSET else tuple(dict.fromkeys(said))


def _matched(answer: Answer, truth: Truth, config: RewardConfig) -> list[tuple[int, int, float, float]]:
    """The pairs as predicted and true index, IoU and label distance."""
    found = pair_up(answer, truth, config.alpha, config.overlap_gate)
    if found is None:
        return []
    iou, distance, pairs = found
    distance = np.zeros_like(iou) if distance is None else distance
    return [(int(i), int(j), float(iou[i, j]), float(distance[i, j])) for i, j in zip(*pairs, strict=True)]


def _pair(
    answer: Answer, i: int, true: TrueSegment, iou: float, distance: float, truth: Truth, config: RewardConfig
) -> Pair:
    times = (answer.starts[i], answer.ends[i]), (true.start, true.end)
    dimensions = [dimension for dimension, _ in true.labels]
    weights = {d: config.dimension_weights.get(d, 1.0) for d in dimensions}
    said = {} if truth.labels is None else dict(zip(truth.labels.pairs, answer.said, strict=True))
    tags = tuple(
        _tag_pair(said[d, sub][i], (d, sub), tags, weights[d] / fsum(weights.values()) / dimensions.count(d), truth)
        for (d, sub), tags in sorted(true.labels.items())
    )
    return Pair(*times, iou, distance, tags)


def _tag_pair(said: Said, pair: tuple[str, str], true: tuple[str, ...], share: float, truth: Truth) -> TagPair:
    tags = _as_tags(said)
    states = tag_states(truth.taxonomy, pair)
    distance = set_distance(states.sub, states.ids(tags), states.ids(true))
    return TagPair(".".join(pair), tags, true, distance, share)


class _Case(NamedTuple):
    """What the losses are read from."""

    view: Segments
    said: SegmentAnswer
    """The answer with its labels and faults."""
    answer: Answer
    """The same as it is matched and scored."""
    truth: Truth
    config: RewardConfig


def _grounding_losses(case: _Case) -> list[Loss]:
    config, dimensions = case.config, case.truth.labels.dimensions
    w, labelled = config.grounding, bool(dimensions) or not case.truth.count
    if config.mode == "literal":
        shares = (1.0, 1.0, float(labelled))
    else:
        whole = w.format + w.iou + w.label
        shares = tuple(s / whole for s in (w.format, w.iou if labelled else w.iou + w.label, w.label * labelled))
    lambdas, unreadable = config.lambdas, case.said.faults.syntax
    scale = shares[0] / (lambdas.prof + lambdas.comp + lambdas.form)
    losses = [
        Loss("format", scale * lambdas.prof * case.answer.r_prof, UNREADABLE if unreadable else _unknown_tags(case)),
        Loss(
            "format", scale * lambdas.comp * case.answer.r_comp, UNREADABLE if unreadable else _missing_dimensions(case)
        ),
        *_form_losses(case, scale * lambdas.form),
        *_content_losses(case, "iou", shares[1]),
        *_content_losses(case, "label", shares[2]),
    ]
    return _cut_off(losses, case)


def _localization_losses(case: _Case) -> list[Loss]:
    w = case.config.localization
    literal = case.config.mode == "literal"
    format, iou = (1.0, 1.0) if literal else (w.format / (w.format + w.iou), w.iou / (w.format + w.iou))
    return _cut_off([*_form_losses(case, format), *_content_losses(case, "iou", iou)], case)


def _cut_off(losses: Sequence[Loss], case: _Case) -> list[Loss]:
    """The losses above 0; where eq. 5 as printed goes beyond 1, the reward stops at 0."""
    losses = [loss for loss in losses if loss.points]
    total = fsum(loss.points for loss in losses)
    if case.config.mode == "literal" and total > 1.0:
        losses.append(Loss("cut off", 1.0 - total, f"the three terms come to {total:.3f}; the reward stops at 0"))
    return losses


def _form_losses(case: _Case, weight: float) -> list[Loss]:
    """R_form: a quarter for each check that fails."""
    if case.said.faults.syntax:
        return [Loss("format", weight, UNREADABLE)]
    faults = case.said.faults._asdict()
    return [Loss("format", weight / len(faults), CHECKS[check]) for check, failed in faults.items() if failed]


def _content_losses(case: _Case, part: str, weight: float) -> list[Loss]:
    """L_align (part `iou`) or L_struct (part `label`), times `weight`."""
    view, answer = case.view, case.answer
    n_pred, n_true = answer.count, case.truth.count
    larger, smaller = max(n_pred, n_true), min(n_pred, n_true)
    if not answer.stated:
        return [Loss(part, weight, view.unread)]
    if not larger:
        return []
    most = most_segments(case.truth)
    why = f"{n_pred} segments are more than are matched ({most})"
    if case.config.mode == "table4":
        if n_pred > most:
            return [Loss(part, weight, why)]
        return [*_pair_losses(view, part, weight / larger), *_alone(view, part, weight / larger, n_pred >= n_true)]
    if n_pred > most or not smaller:
        losses = [Loss(part, weight, why if n_pred > most else "no segment has a counterpart")]
    else:
        losses = _pair_losses(view, part, weight / smaller)
        losses += [Loss(part, weight / smaller, "a pair is missing: no usable times")] * (smaller - len(view.pairs))
    if part == "iou":
        penalty = weight * case.config.beta * (larger - smaller) / larger
        losses.append(Loss(part, penalty, f"{n_pred} segments for {n_true}: the cardinality penalty of eq. 8"))
        total = fsum(loss.points for loss in losses)
        if case.config.mode == "table4_matched" and total > weight:
            losses.append(Loss(part, weight - total, "cut off: IoU stops at 0"))
    return losses


def _pair_losses(view: Segments, part: str, weight: float) -> list[Loss]:
    if part == "iou":
        return [
            Loss(part, weight * (1.0 - pair.iou), f"{span(pair.predicted)} for {span(pair.true)}: IoU {pair.iou:.3f}")
            for pair in view.pairs
        ]
    return [
        Loss(part, weight * pair.distance, f"{span(pair.predicted)} for {span(pair.true)}: {_wrong_tags(pair)}")
        for pair in view.pairs
    ]


def _alone(view: Segments, part: str, weight: float, predicted: bool) -> list[Loss]:
    """Segments without a counterpart, of the side that has more of them: the sums are divided by its number."""
    if not predicted:
        return [Loss(part, weight, f"true {span(lone.times)} is not answered") for lone in view.unmatched_true]
    losses = [Loss(part, weight, f"{span(lone.times)} has no true counterpart") for lone in view.unmatched_predicted]
    return losses + [Loss(part, weight, "a segment without usable times")] * view.unusable


def _wrong_tags(pair: Pair) -> str:
    wrong = [
        f"{t.name} {' + '.join(t.predicted) or 'missing'}, true {' + '.join(t.true)}, distance {t.distance:.3f}"
        for t in pair.tags
        if t.distance
    ]
    if isclose(pair.distance, fsum(t.share * t.distance for t in pair.tags), abs_tol=1e-9):
        return "; ".join(wrong)
    if pair.iou <= 0.0:
        return "labels do not count where the times do not overlap (overlap_gate)"
    return "more different sets of tags than are compared"


def _unknown_tags(case: _Case) -> str:
    tags = [tag for labels in case.said.labels for subs in labels.values() for tag in _tags(subs)]
    unknown = dict.fromkeys(tag for tag in tags if not case.truth.taxonomy.is_canonical(tag))
    return "tags that the taxonomy does not have: " + ", ".join(map(repr, unknown))


def _missing_dimensions(case: _Case) -> str:
    named = {dimension for labels in case.said.labels for dimension, subs in labels.items() if _tags(subs)}
    return "dimensions without a tag: " + ", ".join(d for d in case.truth.labels.dimensions if d not in named)


def _tags(subs: Mapping[str, str | list[str]]) -> list[str]:
    return [tag for entry in subs.values() for tag in ([entry] if isinstance(entry, str) else entry)]


def span(times: tuple[float, float]) -> str:
    """`0.0-4.5 s`."""
    return f"{times[0]:.1f}-{times[1]:.1f} s"


UNREADABLE = "nothing can be read as JSON after the thinking"
CHECKS = {
    "syntax": UNREADABLE,
    "fields": "check of fields: no `segments`, or a segment lacks start, end, labels or an asked dimension",
    "timestamps": "check of timestamps: a time is not finite or below 0, or a start lies after its end",
    "types": "check of types: a value is of another type than asked, e.g. a time written as text",
}
"""R_form of eq. 10, by field of `Faults`."""
