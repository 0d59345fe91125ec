"""`sv6d compare A B`: which of two runs earns more, task by task, and how sure that is."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from .comparison import Comparison, ComparisonError, Interval, compare
from .runs import ENDS, RunError, load_run

COLOURS = {"better": "green", "worse": "red", "even": ""}


@click.command("compare")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--steps", type=click.IntRange(1), default=ENDS, show_default=True, help="Compare each run's last STEPS steps."
)
@click.option(
    "--confidence", type=click.FloatRange(0, 1, True, True), default=0.95, show_default=True, help="Of the intervals."
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def command(a: Path, b: Path, steps: int, confidence: float, as_json: bool) -> None:
    """Compare run B with run A: the reward of their last steps, by task, with bootstrap intervals.

    \b
      sv6d compare runs/base runs/clip-higher

    Prompts that both runs were asked in those steps are compared one by one; the table says where there were too few. More
    --steps give narrower intervals and look further back. The last line is the verdict, made to be quoted.
    """
    try:
        found = compare(load_run(a), load_run(b), steps, confidence)
    except (RunError, ComparisonError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(plain(found), indent=1, allow_nan=False))
        return
    _print(found, Console(highlight=False))


def plain(found: Comparison) -> dict:
    """The comparison as JSON data; NaN is null."""

    def number(value: float) -> float | None:
        return float(f"{value:.6g}") if math.isfinite(value) else None

    def interval(found: Interval) -> dict:
        return {name: number(value) for name, value in found._asdict().items()} | {"verdict": found.verdict}

    return {
        **found._asdict(),
        "verdict": found.verdict,
        "overall": interval(found.overall),
        "tasks": [
            {**task._asdict(), "a": number(task.a), "b": number(task.b), "difference": interval(task.difference)}
            for task in found.tasks
        ],
        "beside": {name: {"a": number(x), "b": number(y)} for name, (x, y) in found.beside.items()},
    }


def _print(found: Comparison, console: Console) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("task", no_wrap=True)
    for name in ("A", "B", "B - A", "interval", "prompts"):
        table.add_column(name, justify="right", no_wrap=True)
    for task in found.tasks:
        row = [task.task, f"{task.a:.3f}", f"{task.b:.3f}", *_cells(task.difference)]
        table.add_row(
            *row, f"{task.prompts} {'pairs' if task.paired else 'each'}", style=COLOURS[task.difference.verdict]
        )
    table.add_section()
    table.add_row("all tasks alike", "", "", *_cells(found.overall), "", style=f"bold {COLOURS[found.overall.verdict]}")
    (a_first, a_last), (b_first, b_last) = found.steps
    console.print(f"A: {found.a}, steps {a_first} to {a_last}\nB: {found.b}, steps {b_first} to {b_last}\n")
    console.print(table)
    for name, (x, y) in found.beside.items():
        console.print(f"{name:8} {_figure(x)} -> {_figure(y)}")
    for sentence in found.left_out:
        console.print(f"[yellow]note:[/] {sentence}")
    console.print()
    console.print(found.verdict, soft_wrap=True)


def _cells(found: Interval) -> list[str]:
    return [f"{found.mean:+.3f}", f"{found.low:+.3f} {found.high:+.3f}"]


def _figure(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "not measured"
