"""Temporal action localization: 0.2 Format + 0.8 IoU (Table 4); Format is 1 - R_form, as no labels are asked."""

from ..schema import Taxonomy
from .config import RewardConfig
from .matching import content_losses, match_answer, read_answer, read_truth
from .sv6d import blend, sv6d_loss, unit


def reward(response: str, ground_truth: str, taxonomy: Taxonomy, config: RewardConfig) -> dict[str, float]:
    """The components of one response; `score` is the reward."""
    truth = read_truth(ground_truth, taxonomy, False)
    answer = read_answer(response, truth)
    r_form = answer.r_form
    matched = match_answer(answer, truth, alpha=1.0)
    align, _ = content_losses(matched, answer, truth, config)
    format, iou = 1.0 - r_form, unit(1.0 - align)
    if config.mode == "literal":
        value = unit(1.0 - sv6d_loss(align, 0.0, r_form))
    else:
        value = blend(((config.localization.format, format), (config.localization.iou, iou)))
    return {
        "score": value,
        "format": format,
        "iou": iou,
        "r_form": r_form,
        "n_pred": float(answer.count),
        "n_true": float(truth.count),
    }
