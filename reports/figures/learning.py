"""Is it learning: Figure 3 over all and by task, held-out scores, a small chart for each task, Table 4's components."""

from __future__ import annotations

from collections.abc import Container

from ..numbers import COMPONENT_MEASURES, MEASURES
from .palette import SERIES
from .traces import (
    LABELS,
    Panel,
    all_tasks,
    dash,
    dumbbell,
    line,
    measured,
    run_lines,
    run_point,
    run_points,
    sentence,
    steps_layout,
    tasks_layout,
    title,
)

FIGURE_3 = {"entropy": "Entropy", "reward": "Mean reward", "length": "Mean response length"}
COUNTS = ("debt", "failed")
SEEN_AS_THEY_ARE = (*COUNTS, "kl", "share")  # not smoothed
UNIT_MEASURES = {"reward", *COMPONENT_MEASURES, "dead_groups", "truncated"}
"""Shown from 0 to 1 in every task where all their values lie there; rewards of other packages need not."""


def dynamics(runs: list[dict]) -> list[Panel]:
    """Figure 3, in its order: entropy, reward, length."""
    found = []
    for measure, heading in FIGURE_3.items():
        data = run_lines(runs, measure, scope="all", width=2.5)
        if not data:
            continue
        for i, run in enumerate(runs):
            data += _curves_by_task(run, measure, i if len(runs) > 1 else None)
        layout = steps_layout(LABELS[measure], **({"rangemode": "tozero"} if measure == "length" else {}))
        layout["meta"] = {"key": True}
        found.append(Panel(f"dynamics-{measure}", "dynamics", heading, _ends(runs, measure), data, layout))
    return found


def _ends(runs: list[dict], measure: str) -> str:
    if len(runs) > 1:
        return "A line for each run; the thin lines are not smoothed."
    first, last = (runs[0]["summary"][f"{measure}_{end}"] for end in ("first", "last"))
    tasks = len(runs[0]["tasks"])
    over = f"Over all {tasks} tasks: first" if tasks > 1 else "First"
    return f"{over} five steps {first:.3g}, last five {last:.3g}."


def _curves_by_task(run: dict, measure: str, number: int | None) -> list[dict]:
    """A line a task; of several runs each has its colour, and a task its dash."""
    data = []
    for i, task in enumerate(run["tasks"]):
        series = run["by_task"][task].get(measure)
        if not measured(series):
            continue
        look = {"color": i % SERIES, "dash": dash(i), "name": title(task)}
        if number is not None:
            look = {"color": number % SERIES, "dash": dash(SERIES * i), "name": f"{title(task)}, {run['name']}"}
        data.append(line(run["steps"], series, scope="task", task=task, run=number or 0, width=1.6, **look))
    return data


def heldout(runs: list[dict]) -> list[Panel]:
    validated = [run for run in runs if run["summary"]["heldout_before"]]
    if not validated:
        return []
    tasks = [task for task in all_tasks(runs) if any(task in run["heldout"]["tasks"] for run in validated)]
    if len(runs) > 1:
        caption = "Mean held-out reward by task: hollow at the first, full at the last validation of a run."
        data = [trace for i, run in enumerate(runs) for trace in _first_and_last(run, i)]
    else:
        caption, data = _before_and_after(runs[0], tasks)
    layout = tasks_layout("mean reward", tasks)
    return [Panel("heldout", "heldout", "Before and after", caption, data, layout)]


def _first_and_last(run: dict, i: int) -> list[dict]:
    before, after = run["summary"]["heldout_before"], run["summary"]["heldout_after"]
    first = run_point(before, f"{run['name']}, first", i, hollow=True)
    return [first | {"showlegend": False}, run_point(after, run["name"], i)]


def _before_and_after(run: dict, tasks: list[str]) -> tuple[str, list[dict]]:
    before, after = run["summary"]["heldout_before"], run["summary"]["heldout_after"]
    at = run["heldout"]["steps"]
    rose = sum(after[task] > before[task] for task in tasks if task in after and task in before)
    caption = f"Mean held-out reward at step {at[0]} and at step {at[-1]}; it rose in {rose} of {len(tasks)} tasks."
    if not after:
        caption = f"Mean held-out reward by task at step {at[0]}, the only validation of this run."
    return caption, dumbbell(before, after, (f"step {at[0]}", f"step {at[-1]}"), tasks)


def shown_measures(runs: list[dict]) -> list[str]:
    """The measures that the small charts have; counts only where something was counted."""
    series = [each for run in runs for each in run["by_task"].values()]
    return [m for m in MEASURES if any(m not in COUNTS or any(s[m]) for s in series if m in s)]


def by_task(runs: list[dict]) -> list[Panel]:
    """One small chart a task with a trace for every measure; the menu chooses which is seen."""
    scales = {measure: _scale(runs, measure) for measure in shown_measures(runs)}
    found = []
    for task in all_tasks(runs):
        numbered = ((i if len(runs) > 1 else None, run) for i, run in enumerate(runs))
        data = [trace for i, run in numbered for trace in _task_traces(run, task, i, scales)]
        rewards = [run["components"].get(task, {}).get("reward") for run in runs]
        said = [f"reward {ends['first']:.3f} to {ends['last']:.3f}" for ends in rewards if ends]
        caption = f"{title(task)}: {'; '.join(said)}" if said else title(task)
        layout = {"xaxis": {}, "yaxis": {}, "meta": {"ranges": scales, "small": True}}
        found.append(Panel(f"task-{task}", "tasks", title(task), caption, data, layout, task=task))
    return found


def _task_traces(run: dict, task: str, number: int | None, measures: Container[str]) -> list[dict]:
    series, steps = {m: y for m, y in run["by_task"].get(task, {}).items() if m in measures}, run["steps"]
    look = {"name": title(task), "color": "last"}
    data = []
    if number is None:
        together = {m: run["overall"].get(m) for m in series if m not in ("share", "debt")}
        data = [
            line(steps, y, "all tasks", "context", measure=m, width=1.2) for m, y in together.items() if measured(y)
        ]
        if asked := run["requested"].get(task):
            data.append(line(steps, asked, "requested", "context", measure="share", width=1.6, smooth=False))
    else:
        look = {"name": run["name"], "color": number % SERIES, "dash": dash(number)}
    for m, y in series.items():
        measure = {"measure": m, "run": number or 0, "connectgaps": m == "kl", "smooth": m not in SEEN_AS_THEY_ARE}
        data.append(line(steps, y, **look, **measure))
    if task in run["heldout"]["tasks"]:
        data.append(_heldout_points(run, task, number))
    return data


def _heldout_points(run: dict, task: str, number: int | None) -> dict:
    name = "held-out" if number is None else f"{run['name']}, held-out"
    return {
        "type": "scatter",
        "mode": "markers",
        "x": run["heldout"]["steps"],
        "y": run["heldout"]["tasks"][task],
        "name": name,
        "marker": {"size": max(9 - 2 * (number or 0), 4), "symbol": "diamond"},  # no run hides another's
        "meta": {"color": 1 if number is None else number % SERIES, "measure": "reward", "run": number or 0},
        "hovertemplate": "step %{x}: %{y:.4g}<extra>" + name + "</extra>",
    }


def _scale(runs: list[dict], measure: str) -> list[float]:
    """One scale for all tasks."""
    series = [run["by_task"][task].get(measure, []) for run in runs for task in run["tasks"]]
    if measure == "share":
        series += [asked for run in runs for asked in run["requested"].values()]
    if measure == "reward":
        series += [scores for run in runs for scores in run["heldout"]["tasks"].values()]
    values = [v for each in series for v in each if v is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)
    if measure in UNIT_MEASURES and low >= 0.0 and high <= 1.0:
        return [-0.02, 1.02]
    if measure in UNIT_MEASURES or low < 0.0:
        margin = 0.05 * (high - low) or 1.0
        return [low - margin, high + margin]
    return [0.0, 1.05 * high or 1.0]


def components(runs: list[dict]) -> list[Panel]:
    tasks, found = all_tasks(runs), []
    for name in COMPONENT_MEASURES:
        ends = [{t: run["components"][t][name] for t in run["tasks"] if name in run["components"][t]} for run in runs]
        having = [task for task in tasks if any(task in each for each in ends)]
        if not having:
            continue
        if len(runs) > 1:
            caption = f"Mean {LABELS[name]} by task over the last five steps of each run; 1 is best."
            data = run_points(runs, [{task: each[task]["last"] for task in each} for each in ends])
        else:
            caption = f"Mean {LABELS[name]} by task, first and last five steps; 1 is best."
            first, last = ({task: e[end] for task, e in ends[0].items()} for end in ("first", "last"))
            data = dumbbell(first, last, ("first five steps", "last five steps"), having)
        inside = all(0.0 <= v <= 1.0 for each in ends for e in each.values() for v in e.values() if v is not None)
        layout = tasks_layout(LABELS[name], having, **({"range": [-0.03, 1.03]} if inside else {}))
        found.append(Panel(f"component-{name}", "components", sentence(LABELS[name]), caption, data, layout))
    return found
