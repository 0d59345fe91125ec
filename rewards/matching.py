"""One response's segments against the truth: the cost of eq. 6, its best pairing (eq. 7), and the losses of 8 and 9."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter, le, lt
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np

from ..schema import Taxonomy
from ..schema.answer import json_source, read_json
from ..schema.form import Row, Said, form_reader
from ..schema.ground_truth import read_true_segments
from .config import RewardConfig
from .labels import LabelTable, States
from .segments import Times, iou_matrix, match
from .sv6d import align_loss, cost_matrix, matched_loss, struct_loss

MAX_SEGMENTS = 256
"""Answers that list more segments than this, and more than four times the truth, are not matched: their IoU and Label
are 0. It bounds the work; the exact values would be at most a quarter there."""

MAX_EXCESS = 32768
"""An answer's JSON must end within four times the length of the truth and this many characters."""

MAX_LONG_EXCESS = 262144
"""It must also end within twice the length of the truth and this many characters, which is less for very long truths."""

REMEMBERED_TRUTHS = 1024
"""Ground truths that stay ready, about 0.1 MB each: the prompts of two steps of Table 3 and more, however interleaved."""

_EVEN: Mapping[str, float] = MappingProxyType({})


class Truth(NamedTuple):
    """A ground truth made ready for its many rollouts."""

    times: Times
    labels: LabelTable | None
    """None where the family asks for no labels."""
    count: int
    max_length: int
    """How long an answer's JSON may be, in characters."""
    form: Callable[[str], list[Row] | None]
    """The quick reader of answers that keep to the asked form, see `form_reader`."""
    taxonomy: Taxonomy


class Answer(NamedTuple):
    """What a response states, as far as the truth asks for it."""

    count: int
    """How many segments it lists, usable or not (N_pred)."""
    stated: bool
    """Whether it holds a list of segments at all, be it an empty one."""
    starts: Sequence[float]
    """Of the segments with usable times, in order."""
    ends: Sequence[float]
    said: Sequence[Sequence[Said]]
    """For each sub-dimension that the truth annotates: what each of those segments says there."""
    states: States
    """The same as states of the label table."""
    r_prof: float
    r_comp: float
    r_form: float


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
    return _read_truth(ground_truth, taxonomy, labelled, tuple(sorted(weights.items())) if weights else ())


@lru_cache(maxsize=REMEMBERED_TRUTHS)
def _read_truth(ground_truth: str, taxonomy: Taxonomy, labelled: bool, weights: tuple[tuple[str, float], ...]) -> Truth:
    segments = read_true_segments(ground_truth, taxonomy, labelled)
    table = LabelTable(segments, taxonomy, dict(weights)) if labelled else None
    form = form_reader(table.pairs, table.common_dimensions) if table else form_reader(None)
    max_length = min(4 * len(ground_truth) + MAX_EXCESS, 2 * len(ground_truth) + MAX_LONG_EXCESS)
    return Truth(Times.of(segments), table, len(segments), max_length, form, taxonomy)


def read_answer(response: str, truth: Truth) -> Answer:
    """What a response states, and the three terms of eq. 10, each in [0, 1]; all 1 where nothing could be read.

    R_prof: share of predicted tags that equal no canonical tag of any dimension. R_comp: share of the item's
    dimensions without a tag. R_form: violated checks / 4. Where no labels are asked, the first two are 0.
    """
    table = truth.labels
    source = json_source(response, truth.max_length)
    rows = None if source is None else truth.form(source)
    if not rows:
        return _read_leniently(source, truth)
    starts, ends, *said = zip(*rows, strict=True)
    if not _increasing(starts):
        starts, ends, *said = zip(*in_order(rows), strict=True)
    if starts[0] < 0.0 or not all(map(le, starts, ends)):
        return _read_leniently(source, truth)
    if table is None:
        return Answer(len(rows), True, starts, ends, said, _NO_STATES, 0.0, 0.0, 0.0)
    states = table.states(said)
    r_prof = r_comp = 0.0
    if not states.plain:  # else every tag is there and known
        tags = ((dimension, column) for (dimension, _), column in zip(table.pairs, said, strict=True))
        r_prof, r_comp = regularizers(tags, table.dimensions, truth.taxonomy)
    return Answer(len(rows), True, starts, ends, said, states, r_prof, r_comp, 0.0)


def _read_leniently(source: str | None, truth: Truth) -> Answer:
    """The same for JSON that departs from the asked form."""
    table = truth.labels
    answer = read_json(source, table.common_dimensions if table else None)
    segments = in_order(answer.segments)
    said, states, r_prof, r_comp = [], _NO_STATES, 0.0, 0.0
    if answer.faults.syntax:
        r_prof = r_comp = 1.0
    elif table is not None:
        said = table.columns(segments)
        states = table.states(said)
        tags = ((dimension, subs.values()) for labels in answer.labels for dimension, subs in labels.items())
        r_prof, r_comp = regularizers(tags, table.dimensions, truth.taxonomy)
    starts, ends = [s.start for s in segments], [s.end for s in segments]
    return Answer(answer.count, answer.stated, starts, ends, said, states, r_prof, r_comp, answer.faults.share)


def regularizers(
    said: Iterable[tuple[str, Iterable[str | Iterable[str]]]], dimensions: Sequence[str], taxonomy: Taxonomy
) -> tuple[float, float]:
    """R_prof and R_comp of eq. 10, each in [0, 1].

    R_prof: share of predicted tags that equal no canonical tag of any dimension. R_comp: share of the item's
    `dimensions` without a tag.

    Args:
        said: dimensions, each with a tag, several or nothing for each of its sub-dimensions.
    """
    tags: list[str] = []
    named = set()
    for dimension, entries in said:
        before = len(tags)
        for entry in entries:
            if entry.__class__ is str:
                tags.append(entry)
            elif entry:
                tags.extend(entry)
        if len(tags) > before:
            named.add(dimension)
    wrong = 0 if taxonomy.tags.issuperset(tags) else sum(not taxonomy.is_canonical(tag) for tag in tags)
    missing = sum(dimension not in named for dimension in dimensions)
    return wrong / len(tags) if tags else 0.0, missing / len(dimensions) if dimensions else 0.0


def match_answer(answer: Answer, truth: Truth, alpha: float, overlap_gate: bool = False) -> Matched:
    """Pair the answer's usable segments with the true ones at least cost and sum what the pairs earn."""
    found = pair_up(answer, truth, alpha, overlap_gate)
    if found is None:
        return Matched(0.0, 0.0)
    iou, distance, pairs = found
    return Matched(_total(iou, pairs), 0.0 if distance is None else len(pairs[0]) - _total(distance, pairs))


def pair_up(
    answer: Answer, truth: Truth, alpha: float, overlap_gate: bool = False
) -> tuple[np.ndarray, np.ndarray | None, tuple[np.ndarray, np.ndarray]] | None:
    """IoU and label distance (None: there are none) of each usable with each true segment, and the pairs as rows and
    columns; None where nothing is matched.
    """
    if not answer.starts or not truth.count or answer.count > most_segments(truth):
        return None
    iou = iou_matrix(Times.between(answer.starts, answer.ends), truth.times)
    if truth.labels is None or not truth.labels.pairs:
        return iou, None, match(1.0 - iou)
    distance = truth.labels.distances(answer.states, answer.said)
    if overlap_gate:
        distance[iou <= 0.0] = 1.0
    return iou, distance, match(cost_matrix(iou, distance, alpha))


def most_segments(truth: Truth) -> int:
    """How many segments an answer may list and still be matched."""
    return max(MAX_SEGMENTS, 4 * truth.count)


def content_losses(matched: Matched, answer: Answer, truth: Truth, config: RewardConfig) -> tuple[float, float]:
    """L_align and L_struct in the config's mode. An answer that states no list of segments earns nothing."""
    n_pred, n_true = answer.count, truth.count
    if not answer.stated:
        return 1.0, 1.0
    if config.mode == "table4":
        return matched_loss(matched.iou, n_pred, n_true), matched_loss(matched.similarity, n_pred, n_true)
    return align_loss(matched.iou, n_pred, n_true, config.beta), struct_loss(matched.similarity, n_pred, n_true)


Timed = TypeVar("Timed", bound=tuple)


def in_order(segments: Sequence[Timed]) -> Sequence[Timed]:
    """Segments (tuples that begin with start and end) by time, then by labels, so that no tie depends on the order in
    which they were written.
    """
    segments = sorted(segments, key=_times)
    if any(a[0] == b[0] and a[1] == b[1] for a, b in pairwise(segments)):
        segments.sort(key=lambda s: (s[0], s[1], repr(s)))
    return segments


def _increasing(starts: Sequence[float]) -> bool:
    """Whether each start lies after the one before, as in most answers: then they are in order."""
    return all(map(lt, starts, starts[1:]))


def _total(values: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> float:
    return float(np.add.reduce(values[pairs]))


_times = itemgetter(0, 1)
_NO_STATES = States(np.empty((0, 0), dtype=np.intp), True)
