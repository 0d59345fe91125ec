"""Temporal IoU of two sets of segments, and their best one-to-one pairing (eq. 6, 7)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..schema.answer import Span


class Times(NamedTuple):
    """The times of some segments, in seconds, one array each."""

    starts: np.ndarray
    ends: np.ndarray
    lengths: np.ndarray
    instants: bool = True
    """Whether some segment may have no length."""

    @staticmethod
    def of(segments: Sequence[Span]) -> "Times":
        times = Times.between([s.start for s in segments], [s.end for s in segments])
        return times._replace(instants=not times.lengths.all())

    @staticmethod
    def between(starts: Sequence[float], ends: Sequence[float]) -> "Times":
        first, last = np.array((starts, ends), dtype=np.float64)
        return Times(first, last, last - first)


def iou_matrix(predicted: Times, true: Times) -> np.ndarray:
    """Intersection over union of every predicted with every true segment: (N_pred, N_true), each in [0, 1].

    Two segments of no length have IoU 1 when they are the same instant, else 0.
    """
    overlap = np.minimum(predicted.ends[:, None], true.ends)
    overlap -= np.maximum(predicted.starts[:, None], true.starts)
    np.maximum(overlap, 0.0, out=overlap)
    union = true.lengths - overlap
    union += predicted.lengths[:, None]  # this order: exact for equal segments, no overflow
    if predicted.instants and true.instants:  # else no union is empty
        both = union == 0.0
        overlap[both] = (predicted.starts[:, None] == true.starts)[both]
        union[both] = 1.0
    overlap /= union
    return overlap


def match(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The assignment of least total cost (eq. 7): rows and columns of min(N_pred, N_true) pairs."""
    if cost.shape == (1, 1):
        return _FIRST, _FIRST
    return linear_sum_assignment(cost)


_FIRST = np.zeros(1, dtype=np.intp)
