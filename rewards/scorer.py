"""Settings that are read once, for row after row."""

from collections.abc import Collection, Mapping
from typing import Any

from .config import RewardConfig, settings_dict
from .families import FAMILY_GROUP, find_taxonomy, plug_ins
from .judging.rules import Judge
from .score import Score, score

TIME_LIMIT = 10.0
"""Seconds that a score of another package's family may take, unless `time_limit` among the settings says otherwise."""


class Scorer:
    """`score` under one set of settings.

    Args:
        settings: the fields of `RewardConfig`, and `taxonomy`: a path, or the name that a package gives one.
        judge: (answer, truth) -> value in [0, 1] for chain of thought; default: the rule judge.
        beside: settings that the caller took out of the same mapping: for the hint at a typo.

    Raises:
        RewardConfigError, TaxonomyError, PluginError: a wrong setting, or a plug-in with a name that is taken; before
            anything is scored.
    """

    def __init__(
        self, settings: Mapping[str, Any] | None = None, judge: Judge | None = None, beside: Collection[str] = ()
    ):
        settings = settings_dict(settings)
        plug_ins(FAMILY_GROUP)
        self.taxonomy = find_taxonomy(settings.pop("taxonomy", None))
        self.config = RewardConfig.read(settings, ("taxonomy", *beside))
        self.config.require_dimensions(self.taxonomy.dimensions)
        self.judge = judge

    def score(self, task: str, response: str, ground_truth: str) -> Score:
        """The score of one row. Raises as `sv6d.rewards.score` does."""
        return score(task, response, ground_truth, taxonomy=self.taxonomy, config=self.config, judge=self.judge)
