"""Temporal grounding: 0.2 Format + 0.4 IoU + 0.4 Label (Table 4), each 1 - a term of the SV6D objective (eq. 5)."""

from collections.abc import Sequence

from ..schema import Taxonomy
from ..schema.answer import SegmentAnswer, read_segments
from .config import RewardConfig
from .matching import content_losses, match_answer, read_truth
from .sv6d import blend, reg_loss, sv6d_loss, unit


def reward(response: str, ground_truth: str, taxonomy: Taxonomy, config: RewardConfig) -> dict[str, float]:
    """The components of one response; `score` is the reward.

    A ground truth whose segments carry no label at all drops Label: its weight goes to IoU, and `label` is absent.
    """
    truth = read_truth(ground_truth, taxonomy, True, config.dimension_weights)
    answer = read_segments(response, truth.labels.common_dimensions, truth.max_length)
    r_prof, r_comp, r_form = regularizers(answer, truth.labels.dimensions, taxonomy)
    matched = match_answer(answer, truth, config.alpha, config.overlap_gate)
    align, struct = content_losses(matched, answer, truth, config)
    reg = reg_loss(r_prof, r_comp, r_form, config.lambdas)
    components = {
        "format": unit(1.0 - reg),
        "iou": unit(1.0 - align),
        "r_prof": r_prof,
        "r_comp": r_comp,
        "r_form": r_form,
        "n_pred": float(answer.count),
        "n_true": float(truth.count),
    }
    labelled = bool(truth.labels.dimensions) or not truth.count
    if labelled:
        components["label"] = unit(1.0 - struct)
    if config.mode == "literal":
        components["score"] = unit(1.0 - sv6d_loss(align, struct if labelled else 0.0, reg))
        return components
    w = config.grounding
    shares = {"format": w.format, "iou": w.iou if labelled else w.iou + w.label, "label": w.label if labelled else 0.0}
    components["score"] = blend((share, components[name]) for name, share in shares.items() if share)
    return components


def regularizers(answer: SegmentAnswer, dimensions: Sequence[str], taxonomy: Taxonomy) -> tuple[float, float, float]:
    """R_prof, R_comp and R_form of eq. 10, each in [0, 1]; all 1 where nothing could be read.

    R_prof: share of predicted tags that equal no canonical tag of any dimension. R_comp: share of the item's
    `dimensions` without a tag. R_form: violated checks / 4.
    """
    if answer.faults.syntax:
        return 1.0, 1.0, 1.0
    tags: list[str] = []
    named = set()
    for labels in answer.labels:
        for dimension, subs in labels.items():
            before = len(tags)
            for entry in subs.values():
                if entry.__class__ is str:
                    tags.append(entry)
                else:
                    tags.extend(entry)
            if len(tags) > before:
                named.add(dimension)
    wrong = 0 if taxonomy.tags.issuperset(tags) else sum(not taxonomy.is_canonical(tag) for tag in tags)
    missing = sum(dimension not in named for dimension in dimensions)
    return wrong / len(tags) if tags else 0.0, missing / len(dimensions) if dimensions else 0.0, answer.faults.share
