"""What it learns from: how rewards spread within groups, and which tasks the groups were of."""

from __future__ import annotations

from itertools import accumulate

from .palette import SERIES
from .traces import (
    PERCENT,
    Panel,
    all_tasks,
    band,
    bars,
    dash,
    line,
    measured,
    points,
    run_lines,
    run_point,
    run_points,
    share_layout,
    steps_layout,
    tasks_layout,
    title,
)

NEGLIGIBLE = 1e-6  # shares are written with six digits


def groups(runs: list[dict]) -> list[Panel]:
    """The spread of rewards within groups: by task, over time, and the groups without any."""
    tasks = [task for task in all_tasks(runs) if any(run["groups"].get(task, {}).get("groups") for run in runs)]
    found = []
    if tasks and len(runs) == 1:
        layout = tasks_layout("share of groups", tasks, tickformat=PERCENT, range=[0, 1]) | {"barmode": "stack"}
        caption = (
            "Groups by the standard deviation of their rewards, over the whole run. Groups whose rewards are all equal "
            "are dead: they give no gradient."
        )
        data = _spread_bars(runs[0]["spread"])
        found.append(Panel("groups-tasks", "groups", "Reward spread within groups", caption, data, layout))
    elif tasks:
        layout = tasks_layout("share of groups", tasks, tickformat=PERCENT, rangemode="tozero")
        caption = "Share of groups whose rewards are all equal, over the whole run: they give no gradient."
        shares = [{t: run["groups"][t]["dead_share"] for t in run["tasks"]} for run in runs]
        data = run_points(runs, shares, ".1%")
        found.append(Panel("groups-tasks", "groups", "Dead groups by task", caption, data, layout))
    found += _spread_over_time(runs)
    if data := run_lines(runs, "dead_groups"):
        caption = "Share of groups whose rewards are all equal, over training, all tasks together."
        found.append(
            Panel("groups-steps", "groups", "Dead groups by step", caption, data, share_layout("share of groups"))
        )
    return found


def _spread_bars(spread: dict) -> list[dict]:
    """Stacked bars of each task's groups, from dead to wide."""
    data = []
    for i, name in enumerate(spread["bins"]):
        shares = {task: values[i] for task, values in spread["by_task"].items()}
        data.append(bars(shares, name, "dead" if i == 0 else f"ramp-{i - 1}"))
    return data


def _spread_over_time(runs: list[dict]) -> list[Panel]:
    known = [(i, run) for i, run in enumerate(runs) if measured(run["spread"]["quantiles"]["p50"])]
    if not known:
        return []
    caption = "Standard deviation of the rewards in a group: median"
    if len(runs) > 1:
        data = [
            line(run["steps"], run["spread"]["quantiles"]["p50"], run["name"], i % SERIES, run=i, dash=dash(i))
            for i, run in known
        ]
        caption += " of each step's groups."
    else:
        steps, q = runs[0]["steps"], runs[0]["spread"]["quantiles"]
        data = [
            *band(steps, q["p10"], q["p90"], "10 to 90 %", "last", 0.15),
            *band(steps, q["p25"], q["p75"], "25 to 75 %", "last", 0.25),
            line(steps, q["p50"], "median", "last"),
        ]
        caption += " of each step's groups, and the bands that hold half and four fifths of them."
    layout = steps_layout("standard deviation", rangemode="tozero")
    return [Panel("groups-spread", "groups", "Reward spread by step", caption, data, layout)]


def mixture(runs: list[dict]) -> list[Panel]:
    """The mixture asked for and trained on: in all, how far it strayed on the way, and what stood in for lost groups."""
    return _totals(runs) + (_on_the_way(runs[0]) if len(runs) == 1 else _owed(runs)) + _standing_in(runs)


def _totals(runs: list[dict]) -> list[Panel]:
    tasks = all_tasks(runs)
    if not any(run["mixture"].get(task, {}).get("realised") for run in runs for task in tasks):
        return []
    layout = tasks_layout("share of rollouts", tasks, tickformat=PERCENT, rangemode="tozero")
    realised, asked = ([_shares(run, kind) for run in runs] for kind in ("realised", "requested"))
    caption = "Share of the rollouts that each task had in training"
    if len(runs) > 1:
        data = run_points(runs, realised, ".2%")
        caption += ", run by run"
        wanted = [
            run_point(each, f"{run['name']}, requested", i, ".2%", hollow=True) | {"showlegend": False}
            for i, (run, each) in enumerate(zip(runs, asked, strict=True))
            if measured(each.values())
        ]
        caption += " (full), and was meant to have (hollow)." if wanted else "."
        data += wanted
    else:
        data = [bars(realised[0], "trained on", "last", ".2%")]
        caption += "."
    if len(runs) == 1 and measured(asked[0].values()):
        ticks = points(asked[0], "requested", "all", "line-ns", ".2%")
        data.append(ticks | {"marker": {"symbol": "line-ns", "size": 14, "line": {"width": 3}}})
        caption = caption.removesuffix(".") + " (bars) and was meant to have (ticks)."
        if runs[0]["requested"] and not _on_the_way(runs[0]):
            caption += " No step strayed from what was asked."
    return [Panel("mixture", "mixture", "Requested and realised", caption, data, layout)]


def _shares(run: dict, kind: str) -> dict[str, float | None]:
    return {task: mixed[kind] for task, mixed in run["mixture"].items()}


def _on_the_way(run: dict) -> list[Panel]:
    """How far each task was ahead of its share so far, and how many groups it was owed."""
    found = []
    ahead = {task: _ahead(run, task) for task in run["tasks"] if run["requested"].get(task)}
    if lines := _task_lines(run, ahead):
        caption = (
            "Share of all rollouts so far, less the share that was asked for so far, of the tasks that strayed most: "
            "0 is the mixture to the dot; a task below it is starved."
        )
        layout = steps_layout("ahead of the request", tickformat="+.2%") | {"meta": {"legend": True}}
        found.append(Panel("mixture-steps", "mixture", "Ahead and behind", caption, lines, layout))
    owed = {task: run["by_task"][task].get("debt") for task in run["tasks"]}
    if lines := _task_lines(run, owed):
        layout = steps_layout("groups", rangemode="tozero") | {"meta": {"legend": True}}
        caption = "Groups that a task is owed at the end of a step, of those owed most: it gets them in steps to come."
        found.append(Panel("mixture-debt", "mixture", "Groups owed", caption, lines, layout))
    return found


def _owed(runs: list[dict]) -> list[Panel]:
    if not any(v for run in runs for v in run["overall"].get("debt") or []):
        return []
    caption = "Groups that tasks are owed at the end of a step, all tasks together."
    layout = steps_layout("groups", rangemode="tozero")
    return [Panel("mixture-debt", "mixture", "Groups owed", caption, run_lines(runs, "debt", smooth=False), layout)]


def _ahead(run: dict, task: str) -> list[float | None]:
    """The mean so far of the realised less the requested share; steps that measured neither are empty and count for none."""
    trained, asked = run["by_task"][task].get("share") or [], run["requested"][task]
    gaps = [None if a is None or b is None else a - b for a, b in zip(trained, asked, strict=False)]
    sums, counts = accumulate(gap or 0.0 for gap in gaps), accumulate(int(gap is not None) for gap in gaps)
    return [None if gap is None else total / count for gap, total, count in zip(gaps, sums, counts, strict=True)]


def _task_lines(run: dict, series: dict[str, list | None]) -> list[dict]:
    """A line for each of the tasks that were farthest from 0, as many as there are colours."""
    most = {task: max((abs(v or 0.0) for v in values), default=0.0) for task, values in series.items() if values}
    farthest = [task for task in sorted(most, key=most.get, reverse=True) if most[task] > NEGLIGIBLE][:SERIES]
    return [
        line(run["steps"], series[task], title(task), i, task=task, width=1.6, smooth=False)
        for i, task in enumerate(farthest)
    ]


def _standing_in(runs: list[dict]) -> list[Panel]:
    """Groups that did not come as dispatched, by what was done about it."""
    kinds = {
        "refilled_groups": "replaced by other rows",
        "repeated_groups": "rolled out again",
        "skipped_groups": "trained without",
    }
    busy = [kind for kind in kinds if any(v for run in runs for v in run["overall"].get(kind) or [])]
    if not busy:
        return []
    if len(runs) > 1:
        data = [
            line(run["steps"], _sum([run["overall"][k] for k in busy]), run["name"], i % SERIES, run=i, smooth=False)
            for i, run in enumerate(runs)
        ]
    else:
        series = runs[0]["overall"]
        data = [
            {"type": "bar", "x": runs[0]["steps"], "y": series[k], "name": kinds[k], "meta": {"color": i}}
            for i, k in enumerate(busy)
        ]
    caption = "Groups that failed, grew stale or never came, and what stood in for them."
    layout = steps_layout("groups", rangemode="tozero") | {"barmode": "stack"}
    return [Panel("replaced", "mixture", "Groups stood in for", caption, data, layout)]


def _sum(series: list[list]) -> list[float | None]:
    """The sums of series, None where none was measured."""
    columns = zip(*series, strict=True)
    return [sum(v or 0 for v in values) if measured(values) else None for values in columns]
