"""A step's metrics by task, as verl's loggers take them: `task/<task>/<name>`, plain numbers."""

import math

import pandas as pd

from ...reports.spread import group_spreads
from ...rewards import COMPONENTS
from ...rewards.verl_manager import TIMES

MEANS = (
    *("score", *(name for name in COMPONENTS if name != "score")),
    *("response_length", "truncated", "entropy", "kl", "staleness", *TIMES, "judge_failed"),
)
"""What is averaged over a task's rollouts."""


def task_metrics(frame: pd.DataFrame) -> dict[str, float]:
    """Means by task of `MEANS`, NaN and missing values left out; how many groups of two rollouts or more there are; and what
    share of them learnt nothing, because all their scores are equal."""
    table = frame.assign(staleness=frame["step"] - 1 - frame["version_start"])
    means = table[list(MEANS)].astype(float).groupby(frame["task"], observed=True).mean()
    equal = group_spreads(frame).groupby("task", observed=True)["dead"].agg(["size", "mean"])
    columns = means.assign(groups=equal["size"], groups_without_signal=equal["mean"]).to_dict("index")
    return {
        f"task/{task}/{name}": float(value)
        for task, values in columns.items()
        for name, value in values.items()
        if not math.isnan(value)
    }
