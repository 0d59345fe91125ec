"""Every number of the report, aggregated once: the page draws them and `--json` writes them, so the two cannot differ.

By step and task: reward, entropy, length and components (Table 4's terms); how rewards spread within groups; the mixture
that was asked for and the one that was trained on; truncation, staleness, KL, failures; the time of a step by phase, of a
reward and of a judgement. Of supervised fine-tuning: losses and learning rates.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from ..schema import TASKS
from .means import mean
from .runs import ENDS, OUTSIDE_STEP, Run, dynamics, ends_of, heldout_scores, is_supervised, summary
from .spread import group_shares, group_spreads, spreads

COMPONENT_MEASURES = ("format", "iou", "label", "similarity", "judge")
ROLLOUT_MEASURES = ("reward", "entropy", "length", *COMPONENT_MEASURES, "truncated", "staleness")
"""Means over the rollouts of a step."""
METRIC_MEASURES = {"kl": "task/{task}/kl", "share": "mixture/{task}/realised", "debt": "mixture/{task}/debt"}
"""What only the trainer knows of a task's step, under the name of its metric."""
MEASURES = (
    *("reward", "entropy", "length", *COMPONENT_MEASURES, "spread", "dead_groups", "truncated", "staleness"),
    *("kl", "share", "debt", "failed"),
)
OVERALL_METRICS = {
    "probs_diff_max": ("training/rollout_probs_diff_max",),
    "fresh_probs_diff_max": ("sv6d/fresh_rollout_probs_diff_max",),
    "kl": ("sv6d/kl", "actor/kl_loss"),
    "judge_asked": ("judge/asked",),
    "judge_failure_rate": ("judge/failure_rate",),
    "refilled_groups": ("sv6d/refilled_groups",),
    "repeated_groups": ("sv6d/repeated_groups",),
    "skipped_groups": ("sv6d/skipped_groups",),
    "balance_wait_seconds": ("sv6d/balance_wait_seconds",),
}
"""Series over all tasks that the trainer measures: the first of these metrics that a run has."""
STAND_INS = {"reward": "score", "length": "response_length", "dead_groups": "groups_without_signal"}
"""The trainer's metrics by task, `task/<task>/<name>`, bear other names than our measures."""
TIMED = ("reward_seconds", "judge_seconds")
LEFT_OUT = {
    "failed_groups": "training/rollout_failure/evicted_samples",
    "stale_groups": "training/off_policy/evicted_samples",
    "padded_sequences": "sv6d/padded_sequences",
    "masked_samples": "judge/masked_samples",
    "judge_failed": "judge/failed",
    "refilled_groups": "sv6d/refilled_groups",
    "repeated_groups": "sv6d/repeated_groups",
    "skipped_groups": "sv6d/skipped_groups",
}
"""What the trainer left out or added, under verl's names for it; each is a count in the steps that have it."""
LOSSES = {"training": "train/loss", "validation": "val/loss"}
ALL_RATES = "train/lr"
SHOWN = 5  # skipped data rows that are named on the page; the file lists them all


def numbers(run: Run) -> dict[str, Any]:
    """All numbers of the report as plain JSON data; floats carry six digits, None stands for "not measured"."""
    curves = dynamics(run)
    steps = [int(s) for s in curves.index]
    rollouts = _with_measures(run.rollouts)
    groups = group_spreads(run.rollouts)
    tasks = task_order(set(rollouts["task"].unique()) | set(heldout_scores(run).columns) | _metric_tasks(run.metrics))
    plain = {
        "name": run.name,
        "summary": summary(run),
        "steps": steps,
        "tasks": tasks,
        "overall": _overall(rollouts, groups, curves, run.metrics),
        "by_task": _by_task(rollouts, groups, run.metrics, tasks, steps),
        "rollouts": _counts(rollouts, tasks, steps),
        "components": _components(rollouts, tasks),
        "groups": group_shares(groups, tasks),
        "spread": spreads(groups, tasks, steps),
        "heldout": _heldout(run, tasks),
        "mixture": _mixture(rollouts, run.about.get("mixture"), tasks),
        "requested": _metrics_by_task(run.metrics, "mixture/{task}/requested", tasks, steps),
        "replaced": _metrics_by_task(run.metrics, "mixture/{task}/replaced", tasks, steps),
        "timing": _timing(run.metrics, steps),
        "supervised": _supervised(run.metrics, steps),
        "failures": _failures(run, rollouts, tasks),
        "missing": list(run.missing),
        "notes": list(run.notes),
    }
    return plain_data(plain)


def task_order(tasks: set[str]) -> list[str]:
    """The 13 tasks in the order of the task table, then tasks that it does not know, by name."""
    known = [task for task in TASKS if task in tasks]
    return known + sorted(tasks - set(known))


def _metric_tasks(metrics: pd.DataFrame) -> set[str]:
    """The tasks of which the trainer measured the reward."""
    return {key.split("/")[1] for key in metrics if key.startswith("task/") and key.endswith("/score")}


def _with_measures(rollouts: pd.DataFrame) -> pd.DataFrame:
    """The rollouts' columns under the names of MEASURES, and each rollout's staleness in policy versions."""
    if rollouts.empty:
        columns = ["step", "task", "failed", *ROLLOUT_MEASURES, *TIMED]
        return pd.DataFrame({name: pd.Series(dtype=float) for name in columns})
    frame = rollouts.rename(columns={"score": "reward", "response_length": "length"})
    # The update of step s starts from version s - 1; the oldest token decides.
    return frame.assign(
        truncated=frame["truncated"].astype(float), staleness=frame["step"] - 1.0 - frame["version_start"]
    )


def _overall(
    rollouts: pd.DataFrame, groups: pd.DataFrame, curves: pd.DataFrame, metrics: pd.DataFrame
) -> dict[str, list]:
    """Series over all tasks, one value a step."""
    by_step = rollouts.groupby("step")
    table = (
        by_step[[*COMPONENT_MEASURES, "truncated", "staleness"]]
        .mean()
        .assign(
            dead_groups=groups.groupby("step")["dead"].mean(),
            spread=groups.groupby("step")["spread"].mean(),
            staleness_max=by_step["staleness"].max(),
            failed=by_step["failed"].sum(),
            rollouts=by_step.size(),
            **_seconds(by_step),
        )
    )
    table = curves.join(table.reindex(curves.index))
    for name, keys in OVERALL_METRICS.items():
        key = next((key for key in keys if key in metrics and metrics[key].notna().any()), None)
        table[name] = math.nan if key is None else metrics[key]
    debts = [key for key in metrics if key.startswith("mixture/") and key.endswith("/debt")]
    table["debt"] = metrics[debts].sum(axis=1, min_count=1) if debts else math.nan
    return {name: table[name].tolist() for name in table}


def _seconds(by_step: Any) -> dict[str, pd.Series]:
    """How long scoring took, and the judge's part of it: of each step's rollouts the median, the 95th percentile, the longest."""
    timed = [name for name in TIMED if name in by_step.obj and by_step.obj[name].notna().any()]
    found = {}
    for name in timed:
        by = by_step[name]
        found |= {f"{name}_p50": by.median(), f"{name}_p95": by.quantile(0.95), f"{name}_max": by.max()}
    return found


def _by_task(
    rollouts: pd.DataFrame, groups: pd.DataFrame, metrics: pd.DataFrame, tasks: list[str], steps: list[int]
) -> dict[str, dict]:
    """For each task and measure one value a step; measures that the task never has are left out.

    What the rollouts do not tell comes from the trainer's metrics by task, where the run has these.
    """
    by = rollouts.groupby(["step", "task"], observed=True)
    table = by[list(ROLLOUT_MEASURES)].mean()
    table["failed"] = by["failed"].sum()
    table[["dead_groups", "spread"]] = groups.groupby(["step", "task"], observed=True)[["dead", "spread"]].mean()
    table["share"] = by.size() / rollouts.groupby("step").size()
    known = set(table.index.get_level_values("task"))
    series: dict[str, dict] = {}
    for task in tasks:
        rows = table.xs(task, level="task") if task in known else pd.DataFrame()
        rows = rows.reindex(steps)
        for measure in MEASURES:
            key = METRIC_MEASURES.get(measure, f"task/{{task}}/{STAND_INS.get(measure, measure)}").format(task=task)
            if key in metrics and (measure not in rows or measure in METRIC_MEASURES or rows[measure].isna().all()):
                rows[measure] = metrics[key].reindex(steps)
        series[task] = {m: rows[m].tolist() for m in MEASURES if m in rows and rows[m].notna().any()}
    return series


def _metrics_by_task(metrics: pd.DataFrame, key: str, tasks: list[str], steps: list[int]) -> dict[str, list]:
    """task -> the metric's value at each step; tasks without it are left out."""
    keys = {task: key.format(task=task) for task in tasks}
    return {task: metrics[name].reindex(steps).tolist() for task, name in keys.items() if name in metrics}


def _counts(rollouts: pd.DataFrame, tasks: list[str], steps: list[int]) -> dict[str, list[int]]:
    """task -> how many rollouts each step has; tasks without any are left out."""
    table = pd.crosstab(rollouts["step"], rollouts["task"]).reindex(steps, fill_value=0)
    return {task: table[task].tolist() for task in tasks if task in table}


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


def _supervised(metrics: pd.DataFrame, steps: list[int]) -> dict[str, dict]:
    """Of supervised fine-tuning: `losses` and `rates` (by component of the model, or of all), a value a step; `ends`, means of
    each loss over its first and last five values. All are empty in a run of reinforcement learning."""
    if not is_supervised(metrics):
        return {"losses": {}, "rates": {}, "ends": {}}
    losses = {name: metrics[key] for name, key in LOSSES.items() if key in metrics and metrics[key].notna().any()}
    rates = {
        key.removesuffix("/lr"): metrics[key] for key in sorted(metrics) if key.endswith("/lr") and key != ALL_RATES
    }
    if not rates and ALL_RATES in metrics:
        rates = {"all": metrics[ALL_RATES]}
    return {
        "losses": {name: series.reindex(steps).tolist() for name, series in losses.items()},
        "rates": {name: series.reindex(steps).tolist() for name, series in rates.items()},
        "ends": {name: [mean(end) for end in ends_of(series)] for name, series in losses.items()},
    }


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


def plain_data(value: Any) -> Any:
    """JSON data: numpy scalars become Python's, floats six digits, NaN and infinities None."""
    if isinstance(value, dict):
        return {str(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_data(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
