"""Temporal grounding: 0.2 Format + 0.4 IoU + 0.4 Label (Table 4), each 1 - a term of the SV6D objective (eq. 5)."""

from ..schema import Taxonomy
from .config import RewardConfig
from .matching import content_losses, match_answer, read_answer, read_truth
from .sv6d import blend, reg_loss, sv6d_loss, unit


def reward(response: str, ground_truth: str, taxonomy: Taxonomy, config: RewardConfig) -> dict[str, float]:
    """The components of one response; `score` is the reward.

    A ground truth whose segments carry no label at all drops Label: its weight goes to IoU, and `label` is absent.
    """
    truth = read_truth(ground_truth, taxonomy, True, config.dimension_weights)
    answer = read_answer(response, truth)
    matched = match_answer(answer, truth, config.alpha, config.overlap_gate)
    align, struct = content_losses(matched, answer, truth, config)
    reg = reg_loss(answer.r_prof, answer.r_comp, answer.r_form, config.lambdas)
    format, iou, label = unit(1.0 - reg), unit(1.0 - align), unit(1.0 - struct)
    components = {
        "format": format,
        "iou": iou,
        "r_prof": answer.r_prof,
        "r_comp": answer.r_comp,
        "r_form": answer.r_form,
        "n_pred": float(answer.count),
        "n_true": float(truth.count),
    }
    labelled = bool(truth.labels.dimensions) or not truth.count
    if labelled:
        components["label"] = label
    weights = config.grounding
    if config.mode == "literal":
        components["score"] = unit(1.0 - sv6d_loss(align, struct if labelled else 0.0, reg))
    elif labelled:
        components["score"] = blend(((weights.format, format), (weights.iou, iou), (weights.label, label)))
    else:
        components["score"] = blend(((weights.format, format), (weights.iou + weights.label, iou)))
    return components
