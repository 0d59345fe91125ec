"""The one public call: a task, a response and its ground truth -> the reward and its components (Table 4)."""

from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

from ..schema import Taxonomy
from . import chain_of_thought
from .config import RewardConfig
from .families import COMPONENTS, find_family, find_taxonomy
from .judging.rules import Judge

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
    taxonomy: Taxonomy | str | Path | None = None,
    config: RewardConfig | Mapping[str, Any] | None = None,
    judge: Judge | None = None,
) -> Score:
    """Score one response. No response text makes this raise.

    Args:
        task: one of the 13 task ids; a family: `temporal_grounding`, `action_localization`, `ocr`, `chain_of_thought`;
            or a name that an installed package plugs in (`families.py`).
        response: what the model wrote, thinking included.
        ground_truth: the text as it stands in the row.
        taxonomy: one that was loaded, the path of one, or the name that a package gives it; default: the packaged one.
        config: settings, see `RewardConfig`; a mapping (plain or OmegaConf) is read and checked anew by every call.
        judge: (answer, truth) -> value in [0, 1] for chain of thought; default: the rule judge.

    Raises:
        TaskError: an unknown task.
        GroundTruthError: a ground truth that cannot be scored against.
        RewardConfigError: a wrong setting.
        TaxonomyError: no such taxonomy, or a broken one.
        PluginError: a plugged-in family that does not load, or whose components break the contract.
        TypeError: a response that is no text, such as messages of a chat.
    """
    if not isinstance(response, str):
        raise TypeError(f"response {response!r:.80} is no text; give what the model wrote, as one string")
    family = find_family(task)
    if not isinstance(taxonomy, Taxonomy):
        taxonomy = find_taxonomy(taxonomy)
    if not isinstance(config, RewardConfig):
        config = RewardConfig.read(config)
    if config.dimension_weights:
        config.require_dimensions(taxonomy.dimensions)
    if judge is not None and family.reward is chain_of_thought.reward:
        components = chain_of_thought.reward(response, ground_truth, taxonomy, config, judge)
    else:
        components = family.reward(response, ground_truth, taxonomy, config)
    return complete(components)


def complete(components: Mapping[str, float]) -> Score:
    """The score of a family's components; those that it does not give are NaN."""
    return Score(components["score"], _NOTHING | components)


def failed_score() -> Score:
    """The score of a sample that could not be scored: 0, flagged."""
    return Score(0.0, _NOTHING | {"failed": 1.0})
