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

    For each annotated sub-dimension there is one row a tag, and one for "no known tag": the share of that
    sub-dimension times the tag's distance from every true segment.  The distances of a predicted segment are the sum of
    one row a sub-dimension.
    """

    def __init__(self, segments: Sequence[TrueSegment], taxonomy: Taxonomy, weights: Mapping[str, float]):
        pairs = sorted({pair for segment in segments for pair in segment.labels})
        self.dimensions = tuple(dict.fromkeys(dimension for dimension, _ in pairs))
        """The dimensions that the ground truth annotates anywhere."""
        self.common_dimensions = tuple(
            d for d in self.dimensions if all(any(k == d for k, _ in segment.labels) for segment in segments)
        )
        """Those that every true segment annotates: the keys that each segment of an answer must hold."""
        columns = []
        rows = [np.zeros((1, len(segments)))]  # row 0: a sub-dimension that is added afterwards
        for pair, shares in zip(pairs, _shares(segments, pairs, weights), strict=True):
            columns.append(_Column(taxonomy, pair, segments, shares, first_row=sum(map(len, rows))))
            rows.append(np.array([columns[-1].distances((tag,)) for tag in range(-1, len(columns[-1].sub.labels))]))
        self._columns = columns
        self._rows = np.concatenate(rows)

    def distances(self, predicted: Sequence[Segment]) -> np.ndarray:
        """Delta_label of eq. 6 in [0, 1]: (len(predicted), N_true)."""
        rows, several = [], []
        for segment in predicted:
            labels = segment.labels or _NOTHING
            for column in self._columns:
                tags = labels.get(column.dimension, _NOTHING).get(column.name)
                if tags.__class__ is str:
                    row = column.rows.get(tags)
                    rows.append(column.row(tags) if row is None else row)
                    continue
                ids = column.distinct(tags or ())
                if len(ids) > 1:
                    several.append((len(rows) // len(self._columns), column.distances(ids)))
                    rows.append(0)
                else:
                    rows.append(column.first_row + 1 + ids[0] if ids else column.first_row)
        index = np.array(rows, dtype=np.intp).reshape(len(predicted), len(self._columns))
        distances = self._rows[index].sum(axis=1)
        for i, added in several:
            distances[i] += added
        return np.clip(distances, 0.0, 1.0, out=distances)


class _Column:
    """One annotated sub-dimension of a ground truth."""

    def __init__(self, taxonomy: Taxonomy, pair: tuple[str, str], segments, shares: np.ndarray, first_row: int):
        self.dimension, self.name = pair
        self.sub = taxonomy.sub_dimension(*pair)
        self.first_row = first_row
        """The row of "no known tag"; the tags follow in order of id."""
        self.rows = {tag: first_row + 1 + id for tag, id in self.sub.ids.items()}
        self._taxonomy = taxonomy
        self._shares = shares
        sets = [tuple(sorted(self.sub.labels.index(tag) for tag in s.labels.get(pair, ()))) for s in segments]
        self._sets = list(dict.fromkeys(sets))
        self._set_of = [self._sets.index(tags) for tags in sets]

    def row(self, tag: str) -> int:
        """The row of a tag that is not written canonically."""
        return self.first_row + 1 + self._taxonomy.tag_id(self.sub, tag)

    def distinct(self, tags: Sequence[str]) -> tuple[int, ...]:
        """Tag ids without repeats; different tags out of vocabulary stand as -1, -2, ..."""
        known, unknown = set(), set()
        for tag in dict.fromkeys(tags):
            found = self._taxonomy.tag_id(self.sub, tag)
            if found >= 0:
                known.add(found)
            else:
                unknown.add(tag)
        return (*range(-len(unknown), 0), *sorted(known))

    def distances(self, ids: tuple[int, ...]) -> np.ndarray:
        """Share times distance of some tags from every true segment: (N_true,)."""
        apart = np.array([set_distance(self.sub, ids, tags) for tags in self._sets])
        return apart[self._set_of] * self._shares


def set_distance(sub: SubDimension, predicted: tuple[int, ...], true: tuple[int, ...]) -> float:
    """Distance in [0, 1] of two sets of tag ids (negative: out of vocabulary).

    0 when nothing is true (the sub-dimension is not annotated there), 1 when nothing is predicted.
    """
    if not true:
        return 0.0
    known = tuple(tag for tag in predicted if tag >= 0)
    larger = max(len(predicted), len(true))
    paired = min(len(known), len(true))
    return (_pairing_cost(sub, known, true) + (larger - paired)) / larger


@lru_cache(maxsize=65536)
def _pairing_cost(sub: SubDimension, predicted: tuple[int, ...], true: tuple[int, ...]) -> float:
    if not predicted:
        return 0.0
    cost = sub.distances[np.ix_(predicted, true)]
    return float(cost[linear_sum_assignment(cost)].sum())


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
