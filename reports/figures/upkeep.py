"""Is it well: distance to the reference, truncation, staleness, agreement of rollout and trainer, failures, scoring, time."""

from __future__ import annotations

from ..means import mean
from .palette import SERIES
from .traces import Panel, line, measured, run_lines, run_points, share_layout, steps_layout, title

WIDE = 30  # largest to smallest: from here on an axis shows powers of ten alone


def health(runs: list[dict]) -> list[Panel]:
    makers = (_kl, _truncation, _staleness, _agreement, _failures)
    return [panel for make in makers for panel in make(runs)]


def _kl(runs: list[dict]) -> list[Panel]:
    data = run_lines(runs, "kl", connectgaps=True, smooth=False)
    caption = "How far the policy has moved from the reference, where it was measured (Table 3 sets no penalty on it)."
    layout = steps_layout("nats a token", rangemode="tozero")
    return [Panel("kl", "health", "KL to the reference", caption, data, layout)] if data else []


def _truncation(runs: list[dict]) -> list[Panel]:
    data = run_lines(runs, "truncated")
    caption = "Share of responses that reached the length limit."
    return [Panel("truncation", "health", "Truncation", caption, data, share_layout("share truncated"))] if data else []


def _staleness(runs: list[dict]) -> list[Panel]:
    data = run_lines(runs, "staleness")
    if not data:
        return []
    if len(runs) == 1:
        data[0]["name"] = "mean"
        largest = runs[0]["overall"]["staleness_max"]
        data.append(line(runs[0]["steps"], largest, "largest", "all", dash="dot", width=1.4, smooth=False))
    caption = "Policy versions that a response's first token lies behind the trained policy."
    layout = steps_layout("versions", rangemode="tozero")
    return [Panel("staleness", "health", "Staleness", caption, data, layout)]


def _agreement(runs: list[dict]) -> list[Panel]:
    data = run_lines(runs, "probs_diff_max", smooth=False)
    if len(runs) == 1:
        for trace in data:
            trace["name"] = "all rollouts"
        fresh = runs[0]["overall"].get("fresh_probs_diff_max")
        if measured(fresh):
            data.append(line(runs[0]["steps"], fresh, "fresh rollouts", "all", dash="dot", width=1.4, smooth=False))
    if not data:
        return []
    caption = (
        "Largest difference between a token's probabilities in rollout and trainer: rounding in fresh rollouts, the "
        "policy's own movement in stale ones."
    )
    layout = steps_layout("probability", type="log", dtick=1, tickformat=".0e")
    return [Panel("agreement", "health", "Rollout and trainer", caption, data, layout)]


def _failures(runs: list[dict]) -> list[Panel]:
    total = sum(run["failures"]["failed_total"] for run in runs)
    if not total:
        return []
    data = [_counted(trace, len(runs) > 1) for trace in run_lines(runs, "failed", smooth=False)]
    caption = (
        f"Rollouts whose scoring failed: {total} in the whole run."
        if len(runs) == 1
        else "Rollouts whose scoring failed."
    )
    top = max(v or 0 for run in runs for v in run["overall"]["failed"] or [0])
    layout = steps_layout("rollouts", range=[0, max(top * 1.05, 1)], **({"dtick": 1} if top <= 5 else {}))
    return [Panel("failures", "health", "Failed rollouts", caption, data, layout)]


def _counted(trace: dict, many: bool) -> dict:
    """Counts of a single run are bars."""
    if many:
        return trace
    return {"type": "bar", "x": trace["x"], "y": trace["y"], "name": "failed", "meta": {"color": "dead"}}


def scoring(runs: list[dict]) -> list[Panel]:
    """What the judge failed to do, and how long scoring and judging took."""
    found = []
    if data := run_lines(runs, "judge_failure_rate", smooth=False):
        caption = "Share of the judge's questions of a step that got no verdict."
        found.append(
            Panel("judge-failures", "scoring", "Judge failures", caption, data, share_layout("share of questions"))
        )
    for name, heading, what in (
        ("judge_seconds", "Seconds of a judgement", "Time of a judge's verdict"),
        ("reward_seconds", "Seconds of a reward", "Time of scoring a response, judge included"),
    ):
        if data := _quantiles(runs, name):
            caption = f"{what}: " + ("the slowest twentieth begins here." if len(runs) > 1 else "median and slowest.")
            held = [v for trace in data for v in trace["y"] if v]
            decades = max(held) > WIDE * min(held) if held else False
            layout = steps_layout("seconds", type="log", tickformat="~g", dtick=1 if decades else "D2")
            found.append(Panel(name.replace("_", "-"), "scoring", heading, caption, data, layout))
    return found


def _quantiles(runs: list[dict], name: str) -> list[dict]:
    if len(runs) > 1:
        return run_lines(runs, f"{name}_p95", smooth=False)
    looks = {
        "p50": ("median", {"color": "last"}),
        "p95": ("95th percentile", {"color": "first", "width": 1.6}),
        "max": ("longest", {"color": "all", "dash": "dot", "width": 1.4}),
    }
    steps, series = runs[0]["steps"], {end: runs[0]["overall"].get(f"{name}_{end}") for end in looks}
    return [
        line(steps, series[end], called, smooth=False, **look)
        for end, (called, look) in looks.items()
        if measured(series[end])
    ]


def timing(runs: list[dict]) -> list[Panel]:
    return _phases_by_run(runs) if len(runs) > 1 else _phases_by_step(runs[0])


def _phases_by_step(run: dict) -> list[Panel]:
    phases = {name: values for name, values in run["timing"].items() if name != "step"}
    if not phases:
        return []
    heaviest = sorted(phases, key=lambda name: -sum(v or 0.0 for v in phases[name]))
    data = [
        {
            "type": "bar",
            "x": run["steps"],
            "y": phases[name],
            "name": name,
            "meta": {"color": i if i < SERIES else "first"},
            "hovertemplate": "%{y:.2f} s<extra>" + name + "</extra>",
        }
        for i, name in enumerate(heaviest)
    ]
    caption = "Seconds by phase; 'other' is what no phase of a step accounts for, 'testing' comes on top of the step."
    layout = steps_layout("seconds") | {"barmode": "stack", "bargap": 0.1, "hovermode": "x unified"}
    return [Panel("timing", "timing", "Seconds a step, by phase", caption, data, layout)]


def _phases_by_run(runs: list[dict]) -> list[Panel]:
    """Mean seconds of every phase, a point a run; the phases stand where other charts have tasks."""
    means = [{name: mean(values) for name, values in run["timing"].items() if measured(values)} for run in runs]
    phases = sorted({p for each in means for p in each}, key=lambda p: -max(each.get(p) or 0.0 for each in means))
    if not phases:
        return []
    data = run_points(runs, [{phase: each.get(phase) for phase in phases} for each in means], ".2f")
    for trace in data:
        del trace["meta"]["axis"]  # no task
    rows = {"categoryorder": "array", "categoryarray": [title(p) for p in phases], "autorange": "reversed"}
    layout = {"xaxis": {"title": {"text": "seconds"}, "rangemode": "tozero"}, "yaxis": rows | {"automargin": True}}
    caption = "Mean seconds by phase in the steps that had it."
    return [Panel("timing", "timing", "Seconds a step, by phase", caption, data, layout | {"meta": {"rows": True}})]
