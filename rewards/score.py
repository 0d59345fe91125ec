"""The one public call: a task, a response and its ground truth -> the reward and its components (Table 4)."""

from collections.abc import Mapping
from math import nan
from typing import Any, NamedTuple

from ..schema import Taxonomy
from ..schema.ground_truth import family_of
from . import action_localization, chain_of_thought, ocr, temporal_grounding
from .config import RewardConfig
from .judge import Judge

COMPONENTS = (
    "score",
    "format",
    "iou",
    "label",
    "similarity",
    "judge",
    "r_prof",
    "r_comp",
    "r_form",
    "n_pred",
    "n_true",
    "failed",
)
"""The component keys, the same on every path; NaN where one does not apply."""

_NOTHING = dict.fromkeys(COMPONENTS, nan) | {"score": 0.0, "failed": 0.0}


class Score(NamedTuple):
    """The reward of one response."""

    value: float
    """In [0, 1]."""
    components: dict[str, float]
    """All of `COMPONENTS`."""


def score(
    task: str,
    response: str,
    ground_truth: str,
    *,
    taxonomy: Taxonomy | None = None,
    config: RewardConfig | Mapping[str, Any] | None = None,
    judge: Judge | None = None,
) -> Score:
    """Score one response. No response text makes this raise.

    Args:
        task: one of the 13 task ids, or a family: `temporal_grounding`, `action_localization`, `ocr`,
            `chain_of_thought`.
        response: what the model wrote, thinking included.
        ground_truth: the text as it stands in the row.
        taxonomy: default: the packaged one.
        config: settings, see `RewardConfig`.
        judge: (answer, truth) -> value in [0, 1] for chain of thought; default: the rule judge.

    Raises:
        TaskError: an unknown task.
        GroundTruthError: a ground truth that cannot be scored against.
        RewardConfigError: a wrong setting.
    """
    family = family_of(task)
    taxonomy = taxonomy or Taxonomy.load()
    config = RewardConfig.read(config)
    config.require_dimensions(taxonomy.dimensions)
    if family == "chain_of_thought" and judge is not None:
        components = chain_of_thought.reward(response, ground_truth, taxonomy, config, judge)
    else:
        components = _REWARDS[family](response, ground_truth, taxonomy, config)
    return Score(components["score"], _NOTHING | components)


def failed_score() -> Score:
    """The score of a sample that could not be scored: 0, flagged."""
    return Score(0.0, _NOTHING | {"failed": 1.0})


_REWARDS = {
    "temporal_grounding": temporal_grounding.reward,
    "action_localization": action_localization.reward,
    "ocr": ocr.reward,
    "chain_of_thought": chain_of_thought.reward,
}
