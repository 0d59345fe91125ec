"""The aggregate label distance of eq. 6 and 9: how far the tags of each predicted segment are from those of each true one.

d_k is the mean over the sub-dimensions that the true segment annotates; the dimensions' weights w_k are renormalised
over those that it has.  A missing or out-of-vocabulary tag is at distance 1.  Where several tags apply, they are paired
one to one as cheaply as possible, unpaired tags cost 1, and the sum is divided by the size of the larger set.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..schema import Taxonomy
from ..schema.answer import Segment
from ..schema.ground_truth import TrueSegment
from ..schema.taxonomy import SubDimension


class LabelTable:
    """The label distances of one ground truth, ready to be looked up by predicted tags.

    For each annotated sub-dimension there is one row for each `state` of a prediction (no known tag, one tag, two tags):
    the share of that sub-dimension times the state's distance from every true segment.  The distances of a predicted
    segment are then the sum of one row a sub-dimension.
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
        blocks = [np.zeros((1, len(segments)))]  # row 0: a sub-dimension whose distances are added afterwards
        for pair, shares in zip(pairs, _shares(segments, pairs, weights), strict=True):
            columns.append(_Column(taxonomy, pair, segments, shares, first_row=sum(map(len, blocks))))
            blocks.append(columns[-1].block)
        self._rows = np.concatenate(blocks)
        self._lookups = [(c.dimension, c.name, c.row_of, c) for c in columns]

    def distances(self, predicted: Sequence[Segment]) -> np.ndarray:
        """Delta_label of eq. 6 in [0, 1]: (len(predicted), N_true)."""
        rows, larger = [], []
        for i, segment in enumerate(predicted):
            labels = segment.labels or _NOTHING
            for dimension, name, row_of, column in self._lookups:
                tags = labels.get(dimension, _NOTHING).get(name, ())
                row = row_of.get(tags) if tags.__class__ is str else column.row(tags)
                if row is None:
                    ids = column.ids([tags] if tags.__class__ is str else tags)
                    row = column.row_of_ids(ids)
                    if row is None:
                        larger.append((i, column.distances(ids)))
                        row = 0
                rows.append(row)
        index = np.array(rows, dtype=np.intp).reshape(len(predicted), len(self._lookups))
        distances = self._rows[index].sum(axis=1)
        for i, added in larger:
            distances[i] += added
        return np.clip(distances, 0.0, 1.0, out=distances)


class _Column:
    """One annotated sub-dimension of a ground truth, and where its rows stand in the table."""

    def __init__(self, taxonomy: Taxonomy, pair: tuple[str, str], segments, shares: np.ndarray, first_row: int):
        self.dimension, self.name = pair
        self.sub = taxonomy.sub_dimension(*pair)
        self._true = [tuple(sorted(self.sub.labels.index(tag) for tag in s.labels.get(pair, ()))) for s in segments]
        self._sizes = np.array([len(tags) for tags in self._true])
        self.block = np.stack([state_distances(self.sub, tags) for tags in self._true], axis=1) * shares
        """Share times distance of each state from every true segment: (states, N_true)."""
        self.row_of = {tag: first_row + 1 + id for tag, id in self.sub.ids.items()}
        self._first_row = first_row
        self._pairs = _pair_states(len(self.sub.labels))
        self._taxonomy = taxonomy
        self._shares = shares

    def row(self, tags: Sequence[str]) -> int | None:
        """The row of one or two different tags that are written canonically; None for anything else."""
        if len(tags) == 1:
            return self.row_of.get(tags[0])
        if len(tags) != 2:
            return None
        first, second = self.sub.ids.get(tags[0]), self.sub.ids.get(tags[1])
        return None if first is None or second is None else self._row_of_pair(first, second)

    def ids(self, tags: Sequence[str]) -> tuple[int, ...]:
        """Tag ids without repeats, in order; different tags out of vocabulary stand as -1, -2, ..."""
        known, unknown = set(), set()
        for tag in dict.fromkeys(tags):
            found = self._taxonomy.tag_id(self.sub, tag)
            if found >= 0:
                known.add(found)
            else:
                unknown.add(tag)
        return (*range(-len(unknown), 0), *sorted(known))

    def row_of_ids(self, ids: tuple[int, ...]) -> int | None:
        """The row of a set of ids with at most two known tags and no others; None where there is none."""
        if not ids or ids[-1] < 0:
            return self._first_row
        if len(ids) == 1:
            return self._first_row + 1 + ids[0]
        return self._row_of_pair(*ids) if len(ids) == 2 and ids[0] >= 0 else None

    def distances(self, ids: tuple[int, ...]) -> np.ndarray:
        """Share times distance of a set of ids that has no row from every true segment: (N_true,).

        A tag's or pair's own distance tells what its pairing costs; each further tag of the larger set costs 1.
        """
        size, known = len(ids), [id for id in ids if id >= 0]
        if len(known) == 1:
            one = self.block[1 + known[0]]
            unpaired = size - self._sizes
            return np.where(unpaired <= 0, one, (self._sizes * one + unpaired * self._shares) / size)
        pairs = [self._pairs[a][b] for a, b in combinations(known, 2)]
        apart = (2 * self.block[pairs].min(axis=0) + (size - 2) * self._shares) / size
        for j in np.flatnonzero(self._sizes > 2):
            apart[j] = set_distance(self.sub, ids, self._true[j]) * self._shares[j]
        return apart

    def _row_of_pair(self, first: int, second: int) -> int | None:
        return None if first == second else self._first_row + self._pairs[first][second]


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


@lru_cache(maxsize=8192)
def state_distances(sub: SubDimension, true: tuple[int, ...]) -> np.ndarray:
    """`set_distance` from a true set for every state at once: no known tag, each tag, each pair of tags."""
    labels = len(sub.labels)
    if not true:
        return np.zeros(1 + labels + labels * (labels - 1) // 2)
    size = len(true)
    to_true = sub.distances[:, true]
    one = (to_true.min(axis=1) + (size - 1)) / size
    first, second = np.triu_indices(labels, 1)
    if size == 1:
        two = (np.minimum(to_true[first, 0], to_true[second, 0]) + 1.0) / 2.0
    else:
        both = to_true[first][:, :, None] + to_true[second][:, None, :]
        both[:, range(size), range(size)] = np.inf  # two tags never pair with the same one
        two = (both.min(axis=(1, 2)) + (size - 2)) / size
    return np.concatenate([[1.0], one, two])


@lru_cache(maxsize=256)
def _pair_states(labels: int) -> list[list[int]]:
    """The state of each unordered pair of tags: [first][second], after "no known tag" and the single tags."""
    states = np.zeros((labels, labels), dtype=int)
    states[np.triu_indices(labels, 1)] = range(1 + labels, 1 + labels + labels * (labels - 1) // 2)
    return (states + states.T).tolist()


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
