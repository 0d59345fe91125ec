"""The rewards in TRL: `GRPOTrainer(reward_funcs=SV6DReward(), ...)`, on conversations and on plain completions."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from typing import Any

from ..families import COMPONENTS
from .rows import RowScorer


class SV6DReward:
    """A reward function of TRL's, which awaits it beside its others.

    Each batch logs the mean of every component that applies as `sv6d/<component>` and `sv6d/<task>/<component>`, and
    the components of each completion go into the table of completions.

    Args:
        settings: the fields of `RewardConfig`; `taxonomy`, `judge`, `time_limit`, as in verl's `reward_kwargs`.
        task: the task of every row, in place of a column.
        task_column, truth_column: the columns of the data set that hold each row's task and ground truth (as text).

    Raises:
        RewardConfigError, TaxonomyError, PluginError: a wrong setting, before training.
    """

    def __init__(
        self,
        settings: Mapping[str, Any] | None = None,
        *,
        task: str | None = None,
        task_column: str = "task",
        truth_column: str = "ground_truth",
    ):
        self.__name__ = "sv6d"  # what TRL logs the reward as
        self._rows = RowScorer(settings, task)
        self._task = task
        self._columns = task_column, truth_column

    async def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        *,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list], None] | None = None,
        **columns: Any,
    ) -> list[float]:
        """The rewards of a batch, each in [0, 1]; a row that cannot be scored earns 0 and counts in `sv6d/failed`."""
        tasks, truths = (columns.get(name) for name in self._columns)
        scores = await self._rows.score_all(tasks, completions, truths)
        tasks = [self._task or task for task in tasks or [None] * len(scores)]
        if log_extra is not None:
            for name in COMPONENTS:
                log_extra(f"sv6d_{name}", [score.components[name] for score in scores])
        if log_metric is not None:
            for name, value in _means(tasks, [score.components for score in scores]).items():
                log_metric(name, value)
        return [score.value for score in scores]


def _means(tasks: Sequence[Any], components: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each component over all rows and over those of each task, where it applies."""
    values = defaultdict(list)
    for task, row in zip(tasks, components, strict=True):
        for name, value in row.items():
            if not isnan(value):
                values[f"sv6d/{name}"].append(value)
                values[f"sv6d/{task}/{name}"].append(value)
    return {name: sum(found) / len(found) for name, found in values.items()}
