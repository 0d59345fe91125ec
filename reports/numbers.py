"""Every number of the report, aggregated once: the page draws them and `--json` writes them, so the two cannot differ.

By step and task: reward, entropy, length and components (Table 4's terms); groups without a gradient; the mixture that was
asked for and the one that was trained on; truncation, staleness, failures; the time of a step by phase.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from ..schema import TASKS
from .runs import ENDS, OUTSIDE_STEP, Run, dynamics, heldout_scores, summary

COMPONENT_MEASURES = ("format", "iou", "label", "similarity", "judge")
MEASURES = ("reward", "entropy", "length", *COMPONENT_MEASURES, "dead_groups", "truncated", "failed")
LEFT_OUT = {
    "failed_groups": "training/rollout_failure/evicted_samples",
    "stale_groups": "training/off_policy/evicted_samples",
    "padded_sequences": "sv6d/padded_sequences",
}
"""What the trainer left out or added, under verl's names for it; each is a count in the steps that have it."""
SHOWN = 5  # skipped data rows that are named on the page; the file lists them all
SAME = 1e-9  # rewards of a group closer than this give no advantage: the group is dead


def numbers(run: Run) -> dict[str, Any]:
    """All numbers of the report as plain JSON data; floats carry six digits, None stands for "not measured"."""
    curves = dynamics(run)
    steps = [int(s) for s in curves.index]
    rollouts = _with_measures(run.rollouts)
    groups = _groups(run.rollouts)
    tasks = task_order(set(rollouts["task"].unique()) | set(heldout_scores(run).columns))
    plain = {
        "name": run.name,
        "summary": summary(run),
        "steps": steps,
        "tasks": tasks,
        "overall": _overall(rollouts, groups, curves, run.metrics),
        "by_task": _by_task(rollouts, groups, tasks, steps),
        "components": _components(rollouts, tasks),
        "groups": _group_shares(groups, tasks),
        "heldout": _heldout(run, tasks),
        "mixture": _mixture(rollouts, run.about.get("mixture"), tasks),
        "timing": _timing(run.metrics, steps),
        "failures": _failures(run, rollouts, tasks),
        "missing": list(run.missing),
        "notes": list(run.notes),
    }
    return _plain(plain)


def task_order(tasks: set[str]) -> list[str]:
    """The 13 tasks in the order of the task table, then tasks that it does not know, by name."""
    known = [task for task in TASKS if task in tasks]
    return known + sorted(tasks - set(known))


def _with_measures(rollouts: pd.DataFrame) -> pd.DataFrame:
    """The rollouts' columns under the names of MEASURES, and each rollout's staleness in policy versions."""
    if rollouts.empty:
        columns = ["step", "task", "staleness", *MEASURES]
        return pd.DataFrame({name: pd.Series(dtype=float) for name in columns if name != "dead_groups"})
    frame = rollouts.rename(columns={"score": "reward", "response_length": "length"})
    # The update of step s starts from version s - 1; the oldest token decides.
    return frame.assign(
        truncated=frame["truncated"].astype(float), staleness=frame["step"] - 1.0 - frame["version_start"]
    )


def _groups(rollouts: pd.DataFrame) -> pd.DataFrame:
    """One row a group of two rollouts or more: step, task, dead (1.0 when all its rewards are equal)."""
    if rollouts.empty:
        return pd.DataFrame({"step": [], "task": [], "dead": []})
    scored = rollouts.loc[rollouts["score"].notna(), ["step", "task", "group", "score"]]
    by = scored.groupby(["step", "task", "group"], observed=True, sort=False)["score"].agg(["min", "max", "size"])
    by = by[by["size"] > 1]
    return by.assign(dead=(by["max"] - by["min"] <= SAME).astype(float))["dead"].reset_index()


def _overall(
    rollouts: pd.DataFrame, groups: pd.DataFrame, curves: pd.DataFrame, metrics: pd.DataFrame
) -> dict[str, list]:
    """Series over all tasks, one value a step."""
    by_step = rollouts.groupby("step")
    shown = [*COMPONENT_MEASURES, "truncated"]
    table = (
        by_step[shown]
        .mean()
        .assign(
            dead_groups=groups.groupby("step")["dead"].mean(),
            staleness=by_step["staleness"].mean(),
            staleness_max=by_step["staleness"].max(),
            failed=by_step["failed"].sum(),
            rollouts=by_step.size(),
        )
    )
    table = curves.join(table.reindex(curves.index))
    table["probs_diff_max"] = metrics.get("training/rollout_probs_diff_max")
    return {name: table[name].tolist() for name in table}


def _by_task(rollouts: pd.DataFrame, groups: pd.DataFrame, tasks: list[str], steps: list[int]) -> dict[str, dict]:
    """For each task and measure one value a step; measures that the task never has are left out."""
    by = rollouts.groupby(["step", "task"], observed=True)
    table = by[[name for name in MEASURES if name not in ("dead_groups", "failed")]].mean()
    table["failed"] = by["failed"].sum()
    table["dead_groups"] = groups.groupby(["step", "task"], observed=True)["dead"].mean()
    series: dict[str, dict] = {}
    for task in tasks:
        rows = table.xs(task, level="task").reindex(steps) if task in table.index.get_level_values("task") else None
        series[task] = {} if rows is None else {m: rows[m].tolist() for m in MEASURES if rows[m].notna().any()}
    return series


def _components(rollouts: pd.DataFrame, tasks: list[str]) -> dict[str, dict]:
    """task -> component -> means over the first and the last five steps. Components that do not apply are left out."""
    recorded = np.unique(rollouts["step"])
    ends = {"first": recorded[:ENDS], "last": recorded[-ENDS:]}
    columns = ["reward", *COMPONENT_MEASURES]
    tables = {
        end: rollouts[rollouts["step"].isin(at)].groupby("task", observed=True)[columns].mean()
        for end, at in ends.items()
    }
    return {
        task: {
            name: {end: tables[end][name].get(task, math.nan) for end in ends}
            for name in columns
            if any(not math.isnan(tables[end][name].get(task, math.nan)) for end in ends)
        }
        for task in tasks
    }


def _group_shares(groups: pd.DataFrame, tasks: list[str]) -> dict[str, dict]:
    by = groups.groupby("task", observed=True)["dead"].agg(["size", "mean"])
    return {
        task: {"groups": int(by["size"].get(task, 0)), "dead_share": float(by["mean"].get(task, math.nan))}
        for task in tasks
    }


def _heldout(run: Run, tasks: list[str]) -> dict[str, Any]:
    table = heldout_scores(run)
    mean = table.mean(axis=1).tolist()
    return {
        "steps": [int(s) for s in table.index],
        "mean_before": mean[0] if mean else math.nan,
        "mean_after": mean[-1] if len(mean) > 1 else math.nan,
        "tasks": {task: table[task].tolist() for task in tasks if task in table},
    }


def _mixture(rollouts: pd.DataFrame, weights: dict[str, float] | None, tasks: list[str]) -> dict[str, dict]:
    """Shares of the rollouts by task: asked for (the weights, normalised; None when not recorded) and trained on."""
    count = rollouts["task"].value_counts()
    total, asked = max(int(count.sum()), 1), sum((weights or {}).values())
    return {
        task: {
            "requested": weights.get(task, 0) / asked if weights and asked else None,
            "realised": int(count.get(task, 0)) / total,
            "rollouts": int(count.get(task, 0)),
        }
        for task in tasks
    }


def _timing(metrics: pd.DataFrame, steps: list[int]) -> dict[str, list]:
    """phase -> seconds at each step. `other` is what is left of the step; validation comes on top of it."""
    phases = {key.removeprefix("timing_s/"): metrics[key] for key in metrics if key.startswith("timing_s/")}
    phases = {name: series for name, series in phases.items() if "/" not in name and series.notna().any()}
    table = pd.DataFrame(phases).reindex(steps)
    if "step" in table:
        outside = [key.removeprefix("timing_s/") for key in OUTSIDE_STEP]
        inside = table.drop(columns=["step", *outside], errors="ignore").sum(axis=1)
        table["other"] = (table["step"] - inside).clip(lower=0.0)
    return {name: table[name].tolist() for name in table}


def _failures(run: Run, rollouts: pd.DataFrame, tasks: list[str]) -> dict[str, Any]:
    """What went wrong, counted: rollouts whose scoring failed, groups that were replaced, sequences that padded a batch, rows
    the recorder lost, data rows that were skipped."""
    failed = rollouts.groupby("task", observed=True)["failed"].sum()
    skipped = Counter(row.get("task", "") for row in run.skipped)
    return {
        "failed": {task: int(failed.get(task, 0)) for task in tasks},
        "failed_total": int(failed.sum()),
        "truncated_share": float(rollouts["truncated"].mean()) if len(rollouts) else math.nan,
        **{name: int(run.metrics[key].sum()) if key in run.metrics else 0 for name, key in LEFT_OUT.items()},
        "dropped_rows": run.dropped["rows"],
        "dropped_reason": run.dropped["last"],
        "skipped_rows": dict(skipped),
        "skipped_total": len(run.skipped),
        "skipped_shown": [f"{row.get('id')}: {row.get('error')}" for row in run.skipped[:SHOWN]],
    }


def _plain(value: Any) -> Any:
    """JSON data: numpy scalars become Python's, floats six digits, NaN and infinities None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
