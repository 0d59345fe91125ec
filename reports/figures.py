"""The report's charts as plotly figure descriptions (plain data), made from `numbers`; the page's script draws them.

Colours are names that the page gives a value for light and dark; `meta` says what the task filter, the measure menu and
the smoothing do with a trace. The three panels of Figure 3 come first and keep its order: entropy, reward, length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .numbers import COMPONENT_MEASURES, MEASURES

LABELS = {
    "reward": "mean reward",
    "entropy": "entropy (nats)",
    "length": "response length (tokens)",
    "format": "format",
    "iou": "IoU",
    "label": "label",
    "similarity": "similarity",
    "judge": "judge",
    "dead_groups": "share of dead groups",
    "truncated": "share truncated",
    "failed": "failed rollouts",
}
UNIT_MEASURES = {"reward", *COMPONENT_MEASURES, "dead_groups", "truncated"}  # in [0, 1]: one scale for every task
FEW_STEPS = 80
DASHES = ("solid", "dash")
SERIES = 7  # colours in the page's palette; a task beyond them gets the next dash


@dataclass(frozen=True)
class Panel:
    """One chart: where it stands, what it is called, what it says in words, and its plotly data and layout."""

    id: str
    section: str
    title: str
    caption: str
    data: list[dict]
    layout: dict
    task: str | None = None

    def spec(self) -> dict[str, Any]:
        return {"id": self.id, "data": self.data, "layout": self.layout, "task": self.task}


def panels(numbers: dict[str, Any]) -> list[Panel]:
    """All charts that the run has data for, in the order of the page."""
    makers = (_dynamics, _heldout, _tasks, _components, _groups, _mixture, _health, _timing)
    return [panel for make in makers for panel in make(numbers)]


def title(task: str) -> str:
    return task.replace("_", " ")


def _line(x: list, y: list, name: str, color: str | int, **meta: Any) -> dict:
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(x) <= FEW_STEPS else "lines",  # a point whose neighbours are missing is no line
        "marker": {"size": 4},
        "x": x,
        "y": y,
        "name": name,
        "line": {"dash": meta.pop("dash", "solid"), "width": meta.pop("width", 2)},
        "meta": {"color": color, "smooth": True} | meta,
        "hovertemplate": "step %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
    }


def _steps_layout(label: str, **yaxis: Any) -> dict:
    return {"xaxis": {"title": {"text": "training step"}}, "yaxis": {"title": {"text": label}} | yaxis}


def _measured(values: list | None) -> bool:
    return any(v is not None for v in values or [])


def _dynamics(n: dict) -> list[Panel]:
    found = []
    for measure, heading in (("entropy", "Entropy"), ("reward", "Mean reward"), ("length", "Mean response length")):
        overall = n["overall"].get(measure)
        if not _measured(overall):
            continue
        data = [_line(n["steps"], overall, "all tasks", "all", scope="all", width=2.5)]
        for i, task in enumerate(n["tasks"]):
            if _measured(n["by_task"][task].get(measure)):
                look = {"dash": DASHES[i // SERIES % len(DASHES)], "width": 1.6}
                series = n["by_task"][task][measure]
                data.append(_line(n["steps"], series, title(task), i % SERIES, scope="task", task=task, **look))
        first, last = n["summary"][f"{measure}_first"], n["summary"][f"{measure}_last"]
        caption = f"First five steps {first:.3g}, last five {last:.3g}."
        layout = _steps_layout(LABELS[measure], **({"rangemode": "tozero"} if measure == "length" else {}))
        layout["meta"] = {"key": True}
        found.append(Panel(f"dynamics-{measure}", "dynamics", heading, caption, data, layout))
    return found


def _dumbbell(before: dict, after: dict, names: tuple[str, str], tasks: list[str]) -> list[dict]:
    """Two points a task with a bar between them; `customdata` names the task of every point, for the filter."""
    both = [task for task in tasks if before.get(task) is not None and after.get(task) is not None]
    bars = {
        "type": "scatter",
        "mode": "lines",
        "x": [x for task in both for x in (before[task], after[task], None)],
        "y": [y for task in both for y in (title(task), title(task), None)],
        "customdata": [task for task in both for _ in range(3)],
        "line": {"width": 3},
        "meta": {"color": "bar", "axis": "task"},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    points = []
    for values, name, color, symbol in (
        (before, names[0], "first", "circle-open"),
        (after, names[1], "last", "circle"),
    ):
        held = [task for task in tasks if values.get(task) is not None]
        points.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [values[task] for task in held],
                "y": [title(task) for task in held],
                "customdata": held,
                "name": name,
                "marker": {"size": 10, "symbol": symbol, "line": {"width": 2}},
                "meta": {"color": color, "axis": "task"},
                "hovertemplate": "%{y}: %{x:.3f}<extra>" + name + "</extra>",
            }
        )
    return [bars, *points]


def _tasks_layout(label: str, tasks: list[str], **xaxis: Any) -> dict:
    order = [title(task) for task in tasks]
    return {
        "xaxis": {"title": {"text": label}} | xaxis,
        "yaxis": {"categoryorder": "array", "categoryarray": order, "autorange": "reversed", "automargin": True},
        "meta": {"rows": True},
    }


def _heldout(n: dict) -> list[Panel]:
    before, after = n["summary"]["heldout_before"], n["summary"]["heldout_after"]
    if not before:
        return []
    tasks = [task for task in n["tasks"] if task in before or task in after]
    rose = sum(after[task] > before[task] for task in tasks if task in after and task in before)
    at = n["heldout"]["steps"]
    caption = (
        f"Mean held-out reward by task at step {at[0]} and at step {at[-1]}; it rose in {rose} of {len(tasks)} tasks."
    )
    if not after:
        caption = f"Mean held-out reward by task at step {at[0]}, the only validation of this run."
    data = _dumbbell(before, after, (f"step {at[0]}", f"step {at[-1]}"), tasks)
    return [Panel("heldout", "heldout", "Before and after", caption, data, _tasks_layout("mean reward", tasks))]


def _tasks(n: dict) -> list[Panel]:
    """One small chart a task with a trace for every measure; the menu chooses which is seen."""
    scales = {measure: _scale(n, measure) for measure in MEASURES}
    found = []
    for task in n["tasks"]:
        series = n["by_task"][task]
        data = [_line(n["steps"], n["overall"][m], "all tasks", "context", measure=m, width=1.2) for m in series]
        data += [_line(n["steps"], series[m], title(task), "last", measure=m) for m in series]
        if task in n["heldout"]["tasks"]:
            data.append(_heldout_points(n["heldout"]["steps"], n["heldout"]["tasks"][task]))
        reward = n["components"][task].get("reward")
        caption = f"{title(task)}: reward {reward['first']:.3f} to {reward['last']:.3f}" if reward else title(task)
        layout = {"xaxis": {}, "yaxis": {}, "meta": {"ranges": scales, "small": True}}
        found.append(Panel(f"task-{task}", "tasks", title(task), caption, data, layout, task=task))
    return found


def _heldout_points(steps: list[int], scores: list) -> dict:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": steps,
        "y": scores,
        "name": "held-out",
        "marker": {"size": 7, "symbol": "diamond"},
        "meta": {"color": 1, "measure": "reward"},
        "hovertemplate": "step %{x}: %{y:.4g}<extra>held-out</extra>",
    }


def _scale(n: dict, measure: str) -> list[float]:
    if measure in UNIT_MEASURES:
        return [-0.02, 1.02]
    values = [v for task in n["tasks"] for v in n["by_task"][task].get(measure, []) if v is not None]
    return [0.0, 1.05 * max(values, default=1.0) or 1.0]


def _components(n: dict) -> list[Panel]:
    found = []
    for name in COMPONENT_MEASURES:
        ends = {task: n["components"][task][name] for task in n["tasks"] if name in n["components"][task]}
        if not ends:
            continue
        first, last = ({task: e[end] for task, e in ends.items()} for end in ("first", "last"))
        data = _dumbbell(first, last, ("first five steps", "last five steps"), list(ends))
        caption = f"Mean {LABELS[name]} by task, first and last five steps; 1 is best."
        layout = _tasks_layout(LABELS[name], list(ends), range=[-0.03, 1.03])
        found.append(
            Panel(f"component-{name}", "components", LABELS[name][0].upper() + LABELS[name][1:], caption, data, layout)
        )
    return found


def _bars(values: dict[str, Any], name: str, color: str | int, form: str = ".1%") -> dict:
    held = [task for task in values if values[task] is not None]
    return {
        "type": "bar",
        "orientation": "h",
        "x": [values[task] for task in held],
        "y": [title(task) for task in held],
        "customdata": held,
        "name": name,
        "meta": {"color": color, "axis": "task"},
        "hovertemplate": "%{y}: %{x:" + form + "}<extra>" + name + "</extra>",
    }


def _groups(n: dict) -> list[Panel]:
    shares = {task: n["groups"][task]["dead_share"] for task in n["tasks"]}
    if not _measured(list(shares.values())):
        return []
    layout = _tasks_layout("share of groups", n["tasks"], tickformat=".0%", rangemode="tozero")
    caption = "Share of groups whose rollouts all got the same reward, over the whole run: they give no gradient."
    series = n["overall"]["dead_groups"]
    line = _line(n["steps"], series, "all tasks", "last")
    over_time = "The same share over training, all tasks together."
    return [
        Panel("groups-tasks", "groups", "Dead groups by task", caption, [_bars(shares, "dead groups", "last")], layout),
        Panel("groups-steps", "groups", "Dead groups by step", over_time, [line], _share_layout("share of groups")),
    ]


def _share_layout(label: str) -> dict:
    return _steps_layout(label, tickformat=".0%", rangemode="tozero")


def _mixture(n: dict) -> list[Panel]:
    realised = {task: n["mixture"][task]["realised"] for task in n["tasks"]}
    requested = {task: n["mixture"][task]["requested"] for task in n["tasks"]}
    if not any(realised.values()):
        return []
    data = [_bars(realised, "trained on", "last", ".2%")]
    caption = "Share of the rollouts that each task had in training."
    if _measured(list(requested.values())):
        asked = _bars(requested, "requested", "all", ".2%")
        asked |= {
            "type": "scatter",
            "mode": "markers",
            "marker": {"symbol": "line-ns", "size": 14, "line": {"width": 3}},
        }
        data.append({key: value for key, value in asked.items() if key != "orientation"})
        caption = "Share of the rollouts that each task had in training (bars) and was meant to have (ticks)."
    layout = _tasks_layout("share of rollouts", n["tasks"], tickformat=".0%", rangemode="tozero")
    return [Panel("mixture", "mixture", "Requested and realised", caption, data, layout)]


def _health(n: dict) -> list[Panel]:
    overall, steps, found = n["overall"], n["steps"], []
    if _measured(overall.get("truncated")):
        data = [_line(steps, overall["truncated"], "all tasks", "last")]
        caption = "Share of responses that reached the length limit."
        found.append(Panel("truncation", "health", "Truncation", caption, data, _share_layout("share truncated")))
    if _measured(overall.get("staleness")):
        data = [
            _line(steps, overall["staleness"], "mean", "last"),
            _line(steps, overall["staleness_max"], "largest", "all", dash="dot", width=1.4, smooth=False),
        ]
        caption = "Policy versions that a response's first token lies behind the trained policy."
        layout = _steps_layout("versions", rangemode="tozero")
        found.append(Panel("staleness", "health", "Staleness", caption, data, layout))
    if _measured(overall.get("probs_diff_max")):
        data = [_line(steps, overall["probs_diff_max"], "largest difference", "last", smooth=False)]
        caption = "Largest difference between a token's probabilities in rollout and trainer; rounding, unless stale."
        layout = _steps_layout("probability", type="log", dtick=1, tickformat=".0e")
        found.append(Panel("agreement", "health", "Rollout and trainer", caption, data, layout))
    if n["failures"]["failed_total"]:
        bars = {"type": "bar", "x": steps, "y": overall["failed"], "name": "failed", "meta": {"color": 1}}
        caption = f"Rollouts whose scoring failed: {n['failures']['failed_total']} in the whole run."
        top = max(v or 0 for v in overall["failed"])
        layout = _steps_layout("rollouts", range=[0, max(top * 1.05, 1)], **({"dtick": 1} if top <= 5 else {}))
        found.append(Panel("failures", "health", "Failed rollouts", caption, [bars], layout))
    return found


def _timing(n: dict) -> list[Panel]:
    phases = {name: values for name, values in n["timing"].items() if name != "step"}
    if not phases:
        return []
    heaviest = sorted(phases, key=lambda name: -sum(v or 0.0 for v in phases[name]))
    data = [
        {
            "type": "bar",
            "x": n["steps"],
            "y": phases[name],
            "name": name,
            "meta": {"color": i if i < SERIES else "first"},
            "hovertemplate": "step %{x}: %{y:.2f} s<extra>" + name + "</extra>",
        }
        for i, name in enumerate(heaviest)
    ]
    caption = "Seconds by phase; 'other' is what no phase of a step accounts for, 'testing' comes on top of the step."
    layout = _steps_layout("seconds") | {"barmode": "stack", "bargap": 0.1}
    return [Panel("timing", "timing", "Seconds a step, by phase", caption, data, layout)]
