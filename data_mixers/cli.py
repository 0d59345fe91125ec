"""`sv6d mix`: look at an interleaving before a run follows it (section 5.2.4)."""

from itertools import pairwise

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..schema import TASKS
from .schedule import Schedule
from .weights import WeightError

COLOURS = [
    *("#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1"),
    *("#ff9da7", "#9c755f", "#86bcb6", "#d37295", "#a0cbe8", "#8cd17d"),
]
STRIP = 390
"""Draws shown: one gradient step of Table 3, 13 task types x 30."""


@click.command("mix")
@click.argument("weights", nargs=-1, metavar="[TASK=WEIGHT]...")
def command(weights: tuple[str, ...]) -> None:
    """Show the schedule that WEIGHTS produce; without any, the 13 task types weigh the same.

    \b
        sv6d mix
        sv6d mix cut_point_detection=3 subject=2 ocr_regular=0.5
    """
    named = dict(map(_weight, weights))
    if len(named) < len(weights):
        raise click.BadParameter("a task is named twice", param_hint="TASK=WEIGHT")
    try:
        schedule = Schedule(named or dict.fromkeys(TASKS, 1))
    except WeightError as error:
        raise click.BadParameter(str(error), param_hint="TASK=WEIGHT") from None
    _show(schedule, Console())


def _weight(text: str) -> tuple[str, float]:
    task, _, number = text.partition("=")
    try:
        return task, float(number)
    except ValueError:
        raise click.BadParameter(f"{text!r}; write TASK=NUMBER, as in subject=2", param_hint="TASK=WEIGHT") from None


def _show(schedule: Schedule, console: Console) -> None:
    console.print(_counts(schedule))
    for line in (
        f"period: {schedule.period:,} draws; every count is exact after each",
        f"largest rounding of a share: {float(schedule.rounding_error):.2g}",
        f"worst error of any prefix: {float(schedule.certificate.prefix_error):.4f} draws, measured over one period",
        f"bound of any prefix: 1 - 1/(2n-2) = {float(schedule.certificate.bound):.4f} draws",
        f"the first {STRIP} draws:",
    ):
        console.print(line, highlight=False)
    console.print(_strip(schedule))


def _counts(schedule: Schedule) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("task", no_wrap=True)
    for heading in ("share", "a period", f"in {STRIP}", "longest gap"):
        table.add_column(heading, justify="right")
    first = np.bincount(schedule.take(0, STRIP), minlength=len(schedule.tasks))
    for i, task in enumerate(schedule.tasks):
        count = int(schedule.counts[i])
        cells = (f"{count / schedule.period:.4f}", f"{count:,}", str(first[i]), f"{_longest_gap(schedule, i):,}")
        table.add_row(Text("██", _colour(i)), task, *cells)
    return table


def _longest_gap(schedule: Schedule, task: int) -> int:
    """Draws from one draw of the task to its next, at most."""
    places = np.flatnonzero(schedule.take(0, 2 * schedule.period) == task).tolist()
    return max(later - earlier for earlier, later in pairwise(places))


def _strip(schedule: Schedule) -> Text:
    """The first draws as coloured blocks, 78 a line (six rounds of 13 tasks)."""
    strip = Text()
    for position, task in enumerate(schedule.take(0, STRIP).tolist()):
        strip.append("\n" if position and position % 78 == 0 else "").append("█", _colour(task))
    return strip


def _colour(task: int) -> str:
    return COLOURS[task % len(COLOURS)]
