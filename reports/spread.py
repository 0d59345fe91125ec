"""How far apart the rewards of a group lie: what GRPO learns from (its advantage divides by this), and groups without any.

A group is the G rollouts of one dispatch. Groups of one rollout are not counted.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

SAME = 1e-9  # rewards of a group closer than this give no advantage: the group is dead
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
EDGES = (0.05, 0.15, 0.3)
BINS = ("all equal", "below 0.05", "0.05 to 0.15", "0.15 to 0.3", "0.3 and more")
"""Of a group's standard deviation; the first holds the dead groups."""


def group_spreads(rollouts: pd.DataFrame) -> pd.DataFrame:
    """One row a group: step, task, `dead` (1.0 when all its rewards are equal), `mean`, `spread` (standard deviation)."""
    if rollouts.empty:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in ("step", "task", "dead", "mean", "spread")})
    scored = rollouts.loc[rollouts["score"].notna(), ["step", "task", "group", "score"]]
    by = scored.groupby(["step", "task", "group"], observed=True, sort=False)["score"]
    table = by.agg(["min", "max", "size", "mean", "std"])
    table = table[table["size"] > 1]
    dead = (table["max"] - table["min"] <= SAME).astype(float)
    return table.assign(dead=dead, spread=table["std"].where(dead == 0.0, 0.0))[
        ["dead", "mean", "spread"]
    ].reset_index()


def group_shares(groups: pd.DataFrame, tasks: list[str]) -> dict[str, dict]:
    """task -> number of groups, the share that is dead, and which of these earned everything or nothing."""
    solved, nought = (groups["dead"] * (abs(groups["mean"] - end) <= SAME) for end in (1.0, 0.0))
    columns = groups.assign(solved=solved, nought=nought).groupby("task", observed=True)
    table = columns[["dead", "solved", "nought"]].mean()
    count = columns.size()
    return {
        task: {"groups": int(count.get(task, 0))}
        | {f"{kind}_share": float(table[kind].get(task, math.nan)) for kind in table}
        for task in tasks
    }


def spreads(groups: pd.DataFrame, tasks: list[str], steps: list[int]) -> dict[str, Any]:
    """The distribution of the groups' spreads: quantiles at each step over all tasks, shares of `BINS` by task."""
    found = np.quantile if len(groups) else None
    lists = {step: rows.to_numpy() for step, rows in groups.groupby("step")["spread"]}
    table = [found(lists[step], QUANTILES) if step in lists else [math.nan] * len(QUANTILES) for step in steps]
    position = np.where(groups["dead"] == 1.0, 0, 1 + np.searchsorted(EDGES, groups["spread"], side="right"))
    shares = pd.crosstab(groups["task"], position, normalize="index") if len(groups) else pd.DataFrame()
    return {
        "quantiles": {f"p{round(100 * q)}": [row[i] for row in table] for i, q in enumerate(QUANTILES)},
        "bins": list(BINS),
        "by_task": {
            task: [float(shares.loc[task].get(i, 0.0)) for i in range(len(BINS))]
            for task in tasks
            if task in shares.index
        },
    }
