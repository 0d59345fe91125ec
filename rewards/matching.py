"""One response's segments against the truth: the cost of eq. 6, its best pairing (eq. 7), and the losses of 8 and 9."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from operator import attrgetter
from types import MappingProxyType
from typing import NamedTuple

from ..schema import Taxonomy
from ..schema.answer import SegmentAnswer, Span
from ..schema.ground_truth import read_true_segments
from .config import RewardConfig
from .labels import LabelTable
from .segments import Times, iou_matrix, match
from .sv6d import align_loss, cost_matrix, matched_loss, struct_loss

MAX_SEGMENTS = 256
"""Answers that list more segments than this, and more than four times the truth, are not matched: their IoU and Label
are 0. It bounds the work; the exact values would be at most a quarter there."""

MAX_EXCESS = 32768
"""An answer's JSON must end within four times the length of the truth and this many characters."""


_EVEN: Mapping[str, float] = MappingProxyType({})


class Truth(NamedTuple):
    """A ground truth made ready for its many rollouts."""

    times: Times
    labels: LabelTable | None
    """None where the family asks for no labels."""
    count: int
    max_length: int
    """How long an answer's JSON may be, in characters."""


class Matched(NamedTuple):
    """What the matched pairs earn, summed; a segment without usable times pairs with nothing."""

    iou: float
    """Sum of IoU over the pairs."""
    similarity: float
    """Sum of 1 - Delta_label over the pairs."""


def read_truth(ground_truth: str, taxonomy: Taxonomy, labelled: bool, weights: Mapping[str, float] = _EVEN) -> Truth:
    """A ground truth with its label distances; each text is read once. `weights`: w_k by dimension.

    Raises:
        GroundTruthError: names the field, the value and the mend.
    """
    return _read_truth(ground_truth, taxonomy, labelled, tuple(sorted(weights.items())))


@lru_cache(maxsize=512)
def _read_truth(ground_truth: str, taxonomy: Taxonomy, labelled: bool, weights: tuple[tuple[str, float], ...]) -> Truth:
    segments = read_true_segments(ground_truth, taxonomy, labelled)
    table = LabelTable(segments, taxonomy, dict(weights)) if labelled else None
    return Truth(Times.of(segments), table, len(segments), 4 * len(ground_truth) + MAX_EXCESS)


def match_answer(answer: SegmentAnswer, truth: Truth, alpha: float, overlap_gate: bool = False) -> Matched:
    """Pair the answer's usable segments with the true ones at least cost and sum what the pairs earn."""
    if not answer.segments or not truth.count or answer.count > max(MAX_SEGMENTS, 4 * truth.count):
        return Matched(0.0, 0.0)
    segments = _in_order(answer.segments)
    iou = iou_matrix(Times.of(segments), truth.times)
    if truth.labels is None:
        return Matched(float(iou[match(1.0 - iou)].sum()), 0.0)
    distance = truth.labels.distances(segments)
    if overlap_gate:
        distance[iou <= 0.0] = 1.0
    pairs = match(cost_matrix(iou, distance, alpha))
    return Matched(float(iou[pairs].sum()), float((1.0 - distance[pairs]).sum()))


def content_losses(matched: Matched, answer: SegmentAnswer, truth: Truth, config: RewardConfig) -> tuple[float, float]:
    """L_align and L_struct in the config's mode. An answer that states no list of segments earns nothing."""
    n_pred, n_true = answer.count, truth.count
    if not answer.stated:
        return 1.0, 1.0
    if config.mode == "table4":
        return matched_loss(matched.iou, n_pred, n_true), matched_loss(matched.similarity, n_pred, n_true)
    return align_loss(matched.iou, n_pred, n_true, config.beta), struct_loss(matched.similarity, n_pred, n_true)


def _in_order(segments: Sequence[Span]) -> Sequence[Span]:
    """The segments by time, then by labels, so that no tie depends on the order in which they were written."""
    segments = sorted(segments, key=_times)
    if any(a.start == b.start and a.end == b.end for a, b in pairwise(segments)):
        segments.sort(key=lambda s: (s.start, s.end, repr(s)))
    return segments


_times = attrgetter("start", "end")
