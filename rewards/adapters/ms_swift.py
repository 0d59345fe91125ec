"""The rewards in ms-swift: a plug-in file that calls `register()`, then `--reward_funcs sv6d`.

swift rlhf --rlhf_type grpo --external_plugins plugin.py --reward_funcs sv6d sv6d_iou --reward_weights 1 0 ...
"""

import asyncio
from collections.abc import Mapping, MutableMapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from math import isnan
from typing import Any

from ..families import COMPONENTS
from ..score import Score
from .rows import RowScorer


def register(
    settings: Mapping[str, Any] | None = None,
    *,
    task: str | None = None,
    task_column: str = "task",
    truth_column: str = "ground_truth",
    name: str = "sv6d",
) -> None:
    """Enter the reward into ms-swift's table of outcome rewards as `name`, and each component as `<name>_<component>`.

    The components are there to be logged: give them the weight 0. They are read from the reward's own scoring, so they
    cost nothing more. Where one does not apply it is None, which ms-swift leaves out of its means.

    Args:
        settings: the fields of `RewardConfig`; `taxonomy`, `judge`, `time_limit`, as in verl's `reward_kwargs`.
        task: the task of every row, in place of a column.
        task_column, truth_column: the columns of the data set that hold each row's task and ground truth (as text).

    Raises:
        RewardConfigError, TaxonomyError, PluginError: a wrong setting, before training.
        ImportError: ms-swift is not installed.
    """
    batches = _Batches(RowScorer(settings, task), task_column, truth_column)
    orms = _table()
    for component in COMPONENTS:
        key = name if component == "score" else f"{name}_{component}"
        orms[key] = _reward_class(key, component, batches)


class _Batches:
    """The scores of the batch at hand, which the reward and its components share."""

    def __init__(self, rows: RowScorer, task_column: str, truth_column: str):
        self._rows = rows
        self._columns = task_column, truth_column
        self._batch: tuple | None = None
        self._scores: list[Score] = []

    def scores(self, completions: Sequence[str], columns: Mapping[str, Any]) -> list[Score]:
        tasks, truths = (columns.get(name) for name in self._columns)
        batch = tuple(completions), tasks, truths
        if batch != self._batch:
            self._scores = asyncio.run(self._rows.score_all(tasks, completions, truths))
            self._batch = batch
        return self._scores


def _reward_class(name: str, component: str, batches: _Batches) -> type:
    """A class as ms-swift makes rewards of: its name is what is logged."""

    def start(self, args: Any = None, **_: Any):
        self.args = args

    def call(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        values = [score.components[component] for score in batches.scores(completions, columns)]
        return [None if isnan(value) else value for value in values]

    return type(name, (), {"__init__": start, "__call__": call, "__doc__": f"`{component}` of sv6d's rewards."})


def _table() -> MutableMapping[str, type]:
    if find_spec("swift") is None:
        raise ImportError("ms-swift is not installed: pip install ms-swift")
    name = "swift.rewards" if find_spec("swift.rewards") else "swift.plugin"  # 4.x, 3.x
    return import_module(name).orms
