"""The distance of two sets of tags of one sub-dimension (section 2.4.2), and where an answer's tags stand in a table of them.

A missing or out-of-vocabulary tag is at distance 1.  Where several tags apply, they are paired one to one as cheaply as
possible, unpaired tags cost 1, and the sum is divided by the size of the larger set.
"""

from collections.abc import Sequence
from functools import cache, cached_property, lru_cache
from itertools import permutations
from math import perm
from typing import NamedTuple

import numpy as np
from msgspec import UNSET
from scipy.optimize import linear_sum_assignment

from ..schema import Taxonomy
from ..schema.form import Said
from ..schema.taxonomy import SubDimension

LARGE = 0
"""The state of a set that has no row: three and more tags, two of which some are unknown, two where one is asked."""

NONE_KNOWN = 1
"""The state of what holds no tag of the sub-dimension."""

KNOWN = 2
"""The least state of what names a known tag, or a known pair."""

MAX_PAIRED = 64
"""Pairs have rows where a sub-dimension takes several of at most this many tags."""

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
        # (predicted sets, larger, smaller, places)
        cost = cost.transpose((0, 1, 3, 2) if larger > size else (0, 3, 1, 2))
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
