"""The aggregate label distance of eq. 6 and 9: how far the tags of each predicted segment are from those of each true one.

d_k is the mean over the sub-dimensions that the true segment annotates; the dimensions' weights w_k are renormalised
over those that it has.  A missing or out-of-vocabulary tag is at distance 1.  Where several tags apply, they are paired
one to one as cheaply as possible, unpaired tags cost 1, and the sum is divided by the size of the larger set.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..schema import Taxonomy
from ..schema.answer import Segment
from ..schema.ground_truth import TrueSegment
from ..schema.taxonomy import SubDimension


class LabelTable:
    """The label distances of one ground truth, ready to be looked up by predicted tag.

    For each annotated sub-dimension it holds one row a tag, plus one for "none of them": the weighted distances of that
    tag from every true segment.  A predicted segment's distances are then the sum of one row a sub-dimension.
    """

    def __init__(self, segments: Sequence[TrueSegment], taxonomy: Taxonomy, weights: Mapping[str, float]):
        self._taxonomy = taxonomy
        pairs = sorted({pair for segment in segments for pair in segment.labels})
        self._subs = [taxonomy.sub_dimension(*pair) for pair in pairs]
        self.dimensions = tuple(dict.fromkeys(dimension for dimension, _ in pairs))
        """The dimensions that the ground truth annotates anywhere."""
        self.common_dimensions = tuple(
            d for d in self.dimensions if all(any(k == d for k, _ in segment.labels) for segment in segments)
        )
        """Those that every true segment annotates: the keys that an answer's segments must hold."""
        self._true = [[_ids(sub, segment) for segment in segments] for sub in self._subs]
        shares = _shares(segments, pairs, weights)
        self._shares = shares
        blocks = [
            np.array([[set_distance(sub, (tag,), true) for true in column] for tag in range(-1, len(sub.labels))])
            for sub, column in zip(self._subs, self._true, strict=True)
        ]
        self._offsets = np.cumsum([1] + [len(block) for block in blocks])[:-1] if blocks else np.zeros(0, int)
        self._rows = np.concatenate([b * s for b, s in zip(blocks, shares, strict=True)]) if blocks else None
        self._count = len(segments)

    def distances(self, predicted: Sequence[Segment]) -> np.ndarray:
        """Delta_label of eq. 6 in [0, 1]: (len(predicted), N_true)."""
        if self._rows is None:
            return np.zeros((len(predicted), self._count))
        single, several = [], []
        for i, segment in enumerate(predicted):
            labels = segment.labels or _NOTHING
            for s, sub in enumerate(self._subs):
                tags = labels.get(sub.dimension, _NOTHING).get(sub.name)
                if tags is None:
                    single.append(-1)
                elif tags.__class__ is str:
                    single.append(self._taxonomy.tag_id(sub, tags))
                else:
                    ids = self._distinct(sub, tags)
                    single.append(ids[0] if len(ids) == 1 else -1)
                    if len(ids) > 1:
                        several.append((i, s, ids))
        rows = np.array(single, dtype=np.intp).reshape(len(predicted), len(self._subs)) + self._offsets
        distances = self._rows[rows].sum(axis=1)
        for i, s, ids in several:
            own = np.array([set_distance(self._subs[s], ids, true) for true in self._true[s]])
            distances[i] += own * self._shares[s] - self._rows[self._offsets[s] - 1]
        return np.clip(distances, 0.0, 1.0, out=distances)

    def _distinct(self, sub: SubDimension, tags: Sequence[str]) -> tuple[int, ...]:
        """Tag ids without repeats, in order of id; tags out of vocabulary stand as -1, -2, ..., equal ones once."""
        known, unknown = set(), set()
        for tag in dict.fromkeys(tags):
            found = self._taxonomy.tag_id(sub, tag)
            if found >= 0:
                known.add(found)
            else:
                unknown.add(tag)
        return (*(-1 - i for i in range(len(unknown))), *sorted(known))


def set_distance(sub: SubDimension, predicted: tuple[int, ...], true: tuple[int, ...]) -> float:
    """Distance in [0, 1] of two sets of tag ids (negative: out of vocabulary).

    0 when nothing is true (the sub-dimension is not annotated there), 1 when nothing is predicted.
    """
    if not true:
        return 0.0
    known = tuple(tag for tag in predicted if tag >= 0)
    larger = max(len(predicted), len(true))
    paired = min(len(known), len(true))
    return (_pairing_cost(sub, known, true) + larger - paired) / larger


@lru_cache(maxsize=65536)
def _pairing_cost(sub: SubDimension, predicted: tuple[int, ...], true: tuple[int, ...]) -> float:
    if not predicted:
        return 0.0
    cost = sub.distances[np.ix_(predicted, true)]
    return float(cost[linear_sum_assignment(cost)].sum())


def _ids(sub: SubDimension, segment: TrueSegment) -> tuple[int, ...]:
    tags = segment.labels.get((sub.dimension, sub.name), ())
    return tuple(sorted(sub.labels.index(tag) for tag in tags))


def _shares(
    segments: Sequence[TrueSegment], pairs: Sequence[tuple[str, str]], weights: Mapping[str, float]
) -> np.ndarray:
    """(pairs, segments): the share of each sub-dimension in each true segment's distance; a column sums to 1 or 0."""
    shares = np.zeros((len(pairs), len(segments)))
    for j, segment in enumerate(segments):
        dimensions = [dimension for dimension, _ in segment.labels]
        total = sum(weights.get(d, 1.0) for d in dict.fromkeys(dimensions))
        for i, pair in enumerate(pairs):
            if pair in segment.labels:
                shares[i, j] = weights.get(pair[0], 1.0) / total / dimensions.count(pair[0])
    return shares


_NOTHING: dict = {}
