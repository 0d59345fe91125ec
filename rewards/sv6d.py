"""The SV6D objective, eq. 5-10, one small function each; the reward of a rollout is r = 1 - L_SV6D.

A segment that could not be used counts in N_pred and pairs with value 0, so every sum over pairs below may hold fewer
terms than there are pairs.
"""

from collections.abc import Iterable

import numpy as np

from .config import Lambdas


def cost_matrix(iou: np.ndarray, label_distance: np.ndarray | None, alpha: float) -> np.ndarray:
    """Eq. 6: alpha (1 - IoU) + (1 - alpha) Delta_label; without labels 1 - IoU."""
    cost = 1.0 - iou
    if label_distance is not None:
        cost *= alpha
        cost += (1.0 - alpha) * label_distance
    return cost


def matched_loss(total: float, n_pred: int, n_true: int) -> float:
    """L_align or L_struct as Table 4 uses them: 1 - (sum over matched pairs) / max(N_pred, N_true), in [0, 1].

    Both sides empty: 0. One side empty: 1.
    """
    larger = max(n_pred, n_true)
    return 0.0 if larger == 0 else min(1.0, max(0.0, 1.0 - total / larger))


def align_loss(iou_sum: float, n_pred: int, n_true: int, beta: float) -> float:
    """L_align of eq. 8 as printed: mean of 1 - IoU over matched pairs + beta |N_pred - N_true| / max(N_pred, N_true).

    In [0, 1 + beta]. With no pair the mean is 1, unless both sides are empty: then the loss is 0.
    """
    larger, pairs = max(n_pred, n_true), min(n_pred, n_true)
    if larger == 0:
        return 0.0
    return (1.0 - iou_sum / pairs if pairs else 1.0) + beta * (larger - pairs) / larger


def struct_loss(similarity_sum: float, n_pred: int, n_true: int) -> float:
    """L_struct of eq. 9 as printed: mean over matched pairs of sum_k w_k d_k, in [0, 1].

    With no pair it is 1, unless both sides are empty: then it is 0.
    """
    pairs = min(n_pred, n_true)
    if pairs == 0:
        return float(max(n_pred, n_true) > 0)
    return 1.0 - similarity_sum / pairs


def reg_loss(r_prof: float, r_comp: float, r_form: float, lambdas: Lambdas) -> float:
    """L_reg of eq. 10, in [0, 1] as the lambdas sum to 1."""
    return blend(((lambdas.prof, r_prof), (lambdas.comp, r_comp), (lambdas.form, r_form)))


def sv6d_loss(align: float, struct: float, reg: float) -> float:
    """L_SV6D of eq. 5 as printed: the plain sum of the three terms, in [0, 3 + beta]."""
    return align + struct + reg


def blend(terms: Iterable[tuple[float, float]]) -> float:
    """Weighted mean of (weight, value) pairs; exactly 1 when every value is 1, whatever the weights round to."""
    total = weights = 0.0
    for weight, value in terms:  # both sums round alike, so full marks divide to 1 and nothing exceeds it
        total += weight * value
        weights += weight
    return total / weights


def unit(value: float) -> float:
    """`value` cut to [0, 1]."""
    return min(1.0, max(0.0, value))
