"""The aggregate label distance of eq. 6 and 9: how far the tags of each predicted segment are from those of each true one.

d_k is the mean over the sub-dimensions that the true segment annotates; the dimensions' weights w_k are renormalised
over those that it has.  The distance of two sets of tags is that of `tag_sets.py`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain
from typing import NamedTuple

import numpy as np

from ..schema import Taxonomy
from ..schema.answer import Labels, Segment
from ..schema.form import Said
from ..schema.ground_truth import TrueSegment
from .tag_sets import KNOWN, LARGE, TrueSets, set_distances, tag_states, true_set

MAX_LARGE = 64
"""Where an answer holds more different sets of three and more tags of a sub-dimension than this, and than twice those
that are true, their distance is 1. It bounds the work."""


class States(NamedTuple):
    """What segments say in each annotated sub-dimension, as states of `TagStates`."""

    rows: np.ndarray
    """(pairs, N_pred); below 0 where it holds a tag that no dimension knows."""
    plain: bool
    """Whether everything that is said has a row, and nothing is missing."""


class LabelTable:
    """The label distances of one ground truth, ready to be looked up by what an answer says.

    For each annotated sub-dimension there is one row for each state of what is said there (no known tag, one tag, two
    tags): the share of that sub-dimension times the state's distance from every true segment.  The distances of a
    predicted segment are then the sum of one row a sub-dimension.
    """

    def __init__(self, segments: Sequence[TrueSegment], taxonomy: Taxonomy, weights: Mapping[str, float]):
        annotated = {frozenset(segment.labels) for segment in segments}
        self.pairs = tuple(sorted(frozenset().union(*annotated)))
        """The (dimension, sub-dimension) pairs that the ground truth annotates anywhere: the columns of an answer."""
        self.dimensions = tuple(dict.fromkeys(dimension for dimension, _ in self.pairs))
        """The dimensions that the ground truth annotates anywhere."""
        self.common_dimensions = tuple(d for d in self.dimensions if all(d in dict(keys) for keys in annotated))
        """Those that every true segment annotates: the keys that each segment of an answer must hold."""
        self._shares = _shares(segments, self.pairs, weights)
        self._states = [tag_states(taxonomy, pair) for pair in self.pairs]
        self._lookups = [states.__getitem__ for states in self._states]
        self._true: list[TrueSets] = []
        ends = np.cumsum([0, *(states.count for states in self._states)])
        self._rows = np.empty((ends[-1], len(segments)))
        self._first = ends[:-1, None]
        """Where the rows of each sub-dimension begin: (pairs, 1)."""
        for i, states in enumerate(self._states):
            read = [true_set(states.sub, segment.labels.get(states.pair, ())) for segment in segments]
            self._true.append(TrueSets([true.ids for true in read]))
            away = np.array([true.distances for true in read]).reshape(len(segments), states.count)
            np.multiply(away.T, self._shares[i], out=self._rows[ends[i] : ends[i + 1]])

    def columns(self, segments: Sequence[Segment]) -> list[list[Said]]:
        """What segments say in each of `pairs`."""
        return [[_said(segment.labels, *pair) for segment in segments] for pair in self.pairs]

    def states(self, columns: Sequence[Sequence[Said]]) -> States:
        """What columns say, looked up."""
        shape = len(columns), len(columns[0]) if columns else 0
        looked_up = chain.from_iterable(map(map, self._lookups, columns))
        rows = np.fromiter(looked_up, dtype=np.intp, count=shape[0] * shape[1]).reshape(shape)
        return States(rows, bool(rows.min(initial=KNOWN) >= KNOWN))

    def distances(self, states: States, columns: Sequence[Sequence[Said]]) -> np.ndarray:
        """Delta_label of eq. 6 in [0, 1]: (N_pred, N_true)."""
        rows = states.rows if states.plain else np.where(states.rows < 0, ~states.rows, states.rows)
        distances = np.add.reduce(self._rows.take(rows + self._first, axis=0), axis=0)
        if not states.plain:
            self._add_large(distances, rows, columns)
        return np.minimum(distances, 1.0, out=distances)

    def _add_large(self, distances: np.ndarray, states: np.ndarray, columns: Sequence[Sequence[Said]]) -> None:
        """Add the distances of sets that have no row."""
        for k in np.flatnonzero((states == LARGE).any(axis=1)):
            large = np.flatnonzero(states[k] == LARGE)
            places: dict[tuple[int, ...], list[int]] = {}
            for i in large:
                places.setdefault(self._states[k].ids(columns[k][i]), []).append(i)
            if len(places) > max(MAX_LARGE, 2 * self._true[k].different):
                distances[large] += self._shares[k]
                continue
            alike: dict[tuple[int, int], list[tuple[int, ...]]] = {}
            for ids in places:
                alike.setdefault((len(ids), sum(id >= 0 for id in ids)), []).append(ids)
            for sets in alike.values():
                away = self._shares[k] * set_distances(self._states[k].sub, sets, self._true[k])
                for ids, row in zip(sets, away, strict=True):
                    distances[places[ids]] += row


def _said(labels: Labels, dimension: str, sub: str) -> Said:
    said = labels.get(dimension, _NOTHING).get(sub, ())
    return said if said.__class__ is str else tuple(said)


def _shares(
    segments: Sequence[TrueSegment], pairs: Sequence[tuple[str, str]], weights: Mapping[str, float]
) -> np.ndarray:
    """(pairs, segments): the share of each sub-dimension in each true segment's distance; a column sums to 1 or 0."""

    @cache
    def column(annotated: frozenset[tuple[str, str]]) -> list[float]:
        subs = Counter(dimension for dimension, _ in annotated)
        total = sum(weights.get(d, 1.0) for d in subs)
        return [weights.get(p[0], 1.0) / total / subs[p[0]] if p in annotated else 0.0 for p in pairs]

    columns = [column(frozenset(segment.labels)) for segment in segments]
    return np.array(columns).reshape(len(segments), len(pairs)).T


_NOTHING: dict = {}
