"""The aggregate label distance of eq. 6 and 9: how far the tags of each predicted segment are from those of each true one.

d_k is the mean over the sub-dimensions that the true segment annotates; the dimensions' weights w_k are renormalised
over those that it has.  A missing or out-of-vocabulary tag is at distance 1.  Where several tags apply, they are paired
one to one as cheaply as possible, unpaired tags cost 1, and the sum is divided by the size of the larger set.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, cached_property, lru_cache
from itertools import permutations
from math import perm
from typing import NamedTuple

import numpy as np
from msgspec import UNSET
from scipy.optimize import linear_sum_assignment

from ..schema import Taxonomy
from ..schema.answer import Labels, Segment
from ..schema.form import Said
from ..schema.ground_truth import TrueSegment
from ..schema.taxonomy import SubDimension


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

    def states(self, columns: Sequence[Sequence[Said]]) -> np.ndarray:
        """The state of everything that is said: (pairs, N_pred). Below 0 where it holds a tag that no dimension knows."""
        looked_up = [list(map(s.__getitem__, column)) for s, column in zip(self._states, columns, strict=True)]
        return np.array(looked_up, dtype=np.intp)

    def distances(self, states: np.ndarray, columns: Sequence[Sequence[Said]]) -> np.ndarray:
        """Delta_label of eq. 6 in [0, 1]: (N_pred, N_true)."""
        plain = states.min() >= KNOWN
        if not plain:
            states = np.where(states < 0, ~states, states)
        distances = np.add.reduce(self._rows.take(states + self._first, axis=0), axis=0)
        if not plain:
            self._add_large(distances, states, columns)
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


LARGE = 0
"""The state of a set that has no row: three and more tags, two of which some are unknown, two where one is asked."""

NONE_KNOWN = 1
"""The state of what holds no tag of the sub-dimension."""

KNOWN = 2
"""The least state of what names a known tag, or a known pair."""

MAX_PAIRED = 64
"""Pairs have rows where a sub-dimension takes several of at most this many tags."""

MAX_LARGE = 64
"""Where an answer holds more different sets of three and more tags of a sub-dimension than this, and than twice those
that are true, their distance is 1. It bounds the work."""

MAX_PERMUTATIONS = 120
"""Sets that pair in more ways than this are paired by the assignment solver, one by one."""

MAX_REMEMBERED = 8192
"""How many texts a sub-dimension remembers the state of."""


class TagStates(dict[Said, int]):
    """What is said in one sub-dimension -> its state; one pass of C over a column of an answer.

    LARGE, NONE_KNOWN, then one for each tag, then one for each pair of tags where several are asked; `~state` where a tag
    is no canonical tag of any dimension (R_prof of eq. 10).
    """

    def __init__(self, taxonomy: Taxonomy, pair: tuple[str, str]):
        super().__init__({UNSET: NONE_KNOWN, (): NONE_KNOWN})
        self.pair = pair
        self.sub = taxonomy.sub_dimension(*pair)
        pairs = zip(*(ids.tolist() for ids in _pairs(self.sub)), strict=True)
        self._pairs = {pair: state for state, pair in enumerate(pairs, KNOWN + len(self.sub.labels))}
        self.count = KNOWN + len(self.sub.labels) + len(self._pairs)
        self._taxonomy = taxonomy

    def __missing__(self, said: str | tuple[str, ...]) -> int:
        tags = (said,) if said.__class__ is str else said
        if not all(map(self._taxonomy.is_canonical, tags)):
            return ~self._state(self.ids(said))
        state = self._state(self.ids(said))
        if len(tags) <= 2 and len(self) < MAX_REMEMBERED:
            self[said] = state
        return state

    def ids(self, said: str | tuple[str, ...]) -> tuple[int, ...]:
        """Tag ids without repeats, in order; different tags out of vocabulary stand as -1, -2, ..."""
        known, unknown = set(), set()
        for tag in (said,) if said.__class__ is str else said:
            found = self._taxonomy.tag_id(self.sub, tag)
            if found >= 0:
                known.add(found)
            else:
                unknown.add(tag)
        return (*range(-len(unknown), 0), *sorted(known))

    def _state(self, ids: tuple[int, ...]) -> int:
        if not ids or ids[-1] < 0:
            return NONE_KNOWN
        if len(ids) == 1:
            return KNOWN + ids[0]
        return self._pairs.get(ids, LARGE)


@lru_cache(maxsize=1024)
def tag_states(taxonomy: Taxonomy, pair: tuple[str, str]) -> TagStates:
    """The states of one sub-dimension, shared by all ground truths of a taxonomy."""
    return TagStates(taxonomy, pair)


def _said(labels: Labels, dimension: str, sub: str) -> Said:
    said = labels.get(dimension, _NOTHING).get(sub, ())
    return said if said.__class__ is str else tuple(said)


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


class TrueSets:
    """The true sets of tag ids of one sub-dimension, one for each segment."""

    def __init__(self, sets: Sequence[tuple[int, ...]]):
        self.sets = sets

    @cached_property
    def different(self) -> int:
        """How many different ones there are."""
        return len(set(self.sets))

    @cached_property
    def by_size(self) -> list[tuple[list[int], np.ndarray]]:
        """For each size but 0: the segments that have as many tags, and these: (segments, size)."""
        sizes = {len(tags) for tags in self.sets} - {0}
        places = [[j for j, tags in enumerate(self.sets) if len(tags) == size] for size in sorted(sizes)]
        return [(of_size, np.array([self.sets[j] for j in of_size])) for of_size in places]


def set_distances(sub: SubDimension, predicted: Sequence[tuple[int, ...]], true: TrueSets) -> np.ndarray:
    """`set_distance` of predicted sets from all true ones: (predicted sets, segments).

    Args:
        predicted: sets of ids, in order, of the same size and with the same number of unknown ones.
    """
    most, unknown = len(predicted[0]), sum(id < 0 for id in predicted[0])
    known = np.array(predicted)[:, unknown:]
    distances = np.zeros((len(predicted), len(true.sets)))
    for places, tags in true.by_size:
        size = tags.shape[1]
        smaller, larger = sorted((most - unknown, size))
        if perm(larger, smaller) > MAX_PERMUTATIONS:
            distances[:, places] = [[set_distance(sub, ids, true.sets[j]) for j in places] for ids in predicted]
            continue
        cost = sub.distances[known[:, :, None, None], tags]  # (predicted sets, known, places, size)
        cost = cost.transpose(
            (0, 1, 3, 2) if larger > size else (0, 3, 1, 2)
        )  # (predicted sets, larger, smaller, places)
        paired = cost[:, _permutations(larger, smaller), range(smaller)].sum(axis=2).min(axis=1)
        distances[:, places] = (paired + (max(most, size) - smaller)) / max(most, size)
    return distances


@cache
def _permutations(larger: int, smaller: int) -> np.ndarray:
    """Every way of giving each of the smaller set one of the larger: (ways, smaller); MAX_PERMUTATIONS at most."""
    ways = list(permutations(range(larger), smaller))
    return np.array(ways, dtype=np.intp).reshape(len(ways), smaller)


@lru_cache(maxsize=65536)
def _pairing_cost(sub: SubDimension, predicted: tuple[int, ...], true: tuple[int, ...]) -> float:
    if not predicted:
        return 0.0
    cost = sub.distances[np.ix_(predicted, true)]
    return float(cost[linear_sum_assignment(cost)].sum())


class TrueSet(NamedTuple):
    """The true tags of a sub-dimension in one segment."""

    ids: tuple[int, ...]
    distances: np.ndarray
    """From each state of `TagStates`."""


@lru_cache(maxsize=8192)
def true_set(sub: SubDimension, tags: tuple[str, ...]) -> TrueSet:
    """Canonical tags made ready; the same few come again in every ground truth."""
    ids = tuple(sorted(map(sub.labels.index, tags)))
    return TrueSet(ids, state_distances(sub, ids))


def state_distances(sub: SubDimension, true: tuple[int, ...]) -> np.ndarray:
    """`set_distance` from a true set for every state of `TagStates`; 0 for LARGE, whose distances are added later."""
    first, second = _pairs(sub)
    if not true:
        return np.zeros(KNOWN + len(sub.labels) + len(first))
    size = len(true)
    to_true = sub.distances[:, true]
    one = (to_true.min(axis=1) + (size - 1)) / size
    if size == 1:
        two = (np.minimum(to_true[first, 0], to_true[second, 0]) + 1.0) / 2.0
    else:
        both = to_true[first][:, :, None] + to_true[second][:, None, :]
        both[:, range(size), range(size)] = np.inf  # two tags never pair with the same one
        two = (both.min(axis=(1, 2)) + (size - 2)) / size
    return np.concatenate([[0.0, 1.0], one, two])


def _pairs(sub: SubDimension) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of tags that have a state, in order: first ids, second ids."""
    paired = sub.cardinality == "many" and len(sub.labels) <= MAX_PAIRED
    return np.triu_indices(len(sub.labels) if paired else 0, 1)


def _shares(
    segments: Sequence[TrueSegment], pairs: Sequence[tuple[str, str]], weights: Mapping[str, float]
) -> np.ndarray:
    """(pairs, segments): the share of each sub-dimension in each true segment's distance; a column sums to 1 or 0."""

    @cache
    def column(annotated: tuple[tuple[str, str], ...]) -> list[float]:
        subs = Counter(dimension for dimension, _ in annotated)
        total = sum(weights.get(d, 1.0) for d in subs)
        return [weights.get(p[0], 1.0) / total / subs[p[0]] if p in annotated else 0.0 for p in pairs]

    columns = [column(tuple(sorted(segment.labels))) for segment in segments]
    return np.array(columns).reshape(len(segments), len(pairs)).T


_NOTHING: dict = {}
