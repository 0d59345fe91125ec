"""What charts are made of: plotly traces and layouts as plain data.

A colour is a name of `palette`, or the number of a series. `meta` says what the page's controls do with a trace: `scope`
and `task` (Figure 3 together or task by task), `measure` (the small charts), `axis: task` (its rows are tasks, named by
`customdata`), `smooth`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .palette import SERIES

LABELS = {
    "reward": "mean reward",
    "entropy": "entropy (nats)",
    "length": "response length (tokens)",
    "format": "format",
    "iou": "IoU",
    "label": "label",
    "similarity": "similarity",
    "judge": "judge",
    "spread": "reward spread within groups",
    "dead_groups": "share of dead groups",
    "truncated": "share truncated",
    "staleness": "staleness (versions)",
    "kl": "KL to the reference (nats)",
    "share": "share of rollouts",
    "debt": "groups owed",
    "failed": "failed rollouts",
}
PERCENT = ".1~%"
"""Ticks may lie closer than a whole per cent: rounded to that, they would repeat."""
FEW_STEPS = 80
DASHES = ("solid", "dash", "dot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross")
"""Of the points of several runs; the page's stylesheet draws the same in its key."""


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


def starting_smoothness(runs: list[dict]) -> float:
    """How smooth curves are at first: short runs are shown as they are."""
    return min(0.6, max(len(run["steps"]) for run in runs) // 20 * 0.3)


def title(task: str) -> str:
    return task.replace("_", " ")


def sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def measured(values: Iterable | None) -> bool:
    return any(v is not None for v in values or [])


def dash(number: int) -> str:
    """How the line of this number is drawn: colours that come again come with another dash."""
    return DASHES[number // SERIES % len(DASHES)]


def line(x: list, y: list, name: str, color: str | int, **meta: Any) -> dict:
    """A curve over steps. `dash` and `width` are its looks, the rest of `meta` goes to the page."""
    look = {"dash": meta.pop("dash", "solid"), "width": meta.pop("width", 2)}
    return {
        "type": "scatter",
        # A point whose neighbours are missing is no line.
        "mode": "lines+markers" if len(x) <= FEW_STEPS else "lines",
        "marker": {"size": 4},
        "x": x,
        "y": y,
        "name": name,
        "line": look,
        "connectgaps": meta.pop("connectgaps", False),
        "meta": {"color": color, "smooth": True} | meta,
        "hovertemplate": "step %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
    }


def run_lines(runs: list[dict], measure: str, **meta: Any) -> list[dict]:
    """One curve a run of a measure over all tasks; of a single run it is called `all tasks`."""
    many = len(runs) > 1
    return [
        line(
            run["steps"],
            run["overall"][measure],
            run["name"] if many else "all tasks",
            i % SERIES if many else "last",
            **({"dash": dash(i)} if many else {}),
            **({"run": i} | meta),
        )
        for i, run in enumerate(runs)
        if measured(run["overall"].get(measure))
    ]


def band(x: list, low: list, high: list, name: str, color: str | int, opacity: float) -> list[dict]:
    """The area between two curves, as the two traces that plotly makes it of."""
    edge = {"type": "scatter", "mode": "lines", "x": x, "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    tint = {"color": color, "opacity": opacity, "edge": True}
    return [
        edge | {"y": low, "name": f"{name}, lower", "meta": tint},
        edge | {"y": high, "name": name, "fill": "tonexty", "showlegend": True, "meta": tint | {"fill": True}},
    ]


def bars(values: Mapping[str, Any], name: str, color: str | int, form: str = ".1%") -> dict:
    """One horizontal bar a task."""
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


def points(values: Mapping[str, Any], name: str, color: str | int, symbol: str = "circle", form: str = ".3f") -> dict:
    """One point a task."""
    trace = {key: value for key, value in bars(values, name, color, form).items() if key != "orientation"}
    marker = {"size": 10, "symbol": symbol, "line": {"width": 2}}
    return trace | {"type": "scatter", "mode": "markers", "marker": marker, "cliponaxis": False}


def run_points(runs: list[dict], values: list[Mapping], form: str = ".3f") -> list[dict]:
    """One point a run on the row of every task."""
    return [run_point(each, run["name"], i, form) for i, (run, each) in enumerate(zip(runs, values, strict=True))]


def run_point(values: Mapping[str, Any], name: str, run: int, form: str = ".3f", hollow: bool = False) -> dict:
    """One point a task, of the run of this number. Each run has its symbol, a later one is smaller, and a hollow one stands around
    the full one: none hides another."""
    symbol = SYMBOLS[run % len(SYMBOLS)] + ("-open" if hollow else "")
    trace = points(values, name, run % SERIES, symbol, form)
    trace["marker"]["size"] = max(13 - 2 * run, 6) + (4 if hollow else 0)
    trace["meta"]["run"] = run
    return trace


def dumbbell(before: Mapping, after: Mapping, names: tuple[str, str], tasks: list[str]) -> list[dict]:
    """Two points a task with a bar between them."""
    both = [task for task in tasks if before.get(task) is not None and after.get(task) is not None]
    between = {
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
    ends = ((before, names[0], "first", "circle-open"), (after, names[1], "last", "circle"))
    return [between, *(points({t: v.get(t) for t in tasks}, name, *look) for v, name, *look in ends)]


def steps_layout(label: str, **yaxis: Any) -> dict:
    return {"xaxis": {"title": {"text": "training step"}}, "yaxis": {"title": {"text": label}} | yaxis}


def share_layout(label: str) -> dict:
    return steps_layout(label, tickformat=PERCENT, rangemode="tozero")


def tasks_layout(label: str, tasks: list[str], **xaxis: Any) -> dict:
    """Tasks from top to bottom, in their order."""
    order = [title(task) for task in tasks]
    return {
        "xaxis": {"title": {"text": label}} | xaxis,
        "yaxis": {"categoryorder": "array", "categoryarray": order, "autorange": "reversed", "automargin": True},
        "meta": {"rows": True},
    }


def all_tasks(runs: list[dict]) -> list[str]:
    """The tasks of any run, in the order of the first that has them."""
    return list(dict.fromkeys(task for run in runs for task in run["tasks"]))
