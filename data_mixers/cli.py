"""`sv6d mix`: look at an interleaving before a run follows it (section 5.2.4)."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from string import ascii_letters, digits
from typing import get_args

import click
import numpy as np
import yaml
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ..schema import TASKS
from .rows import read_rows
from .schedules.certificate import Certificate, length_error, sequence_errors
from .schedules.peers import megatron_greedy, random_draws, round_robin
from .schedules.plan import Plan, Segment
from .schedules.schedule import STEP, Mode, Schedule
from .sources import row_files

COLOURS = [
    *("#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1"),
    *("#ff9da7", "#9c755f", "#86bcb6", "#d37295", "#a0cbe8", "#8cd17d"),
]
LETTERS = ascii_letters + digits
SHOWN = 390
"""Draws of the strip; in whole steps where one step is no longer than this."""
COMPARED = 100 * STEP
"""Draws over which the peers are measured."""


@click.command("mix")
@click.argument("weights", nargs=-1, metavar="[WEIGHTS]...")
@click.option(
    "--mode", type=click.Choice(get_args(Mode)), default="prefix", show_default=True, help="What to keep small."
)
@click.option("--step", type=click.IntRange(1), default=STEP, show_default=True, help="Prompts of a gradient step.")
@click.option("--by-rows", is_flag=True, help="Of a folder: weigh each task by its rows rather than equally.")
def command(weights: tuple[str, ...], mode: Mode, step: int, by_rows: bool) -> None:
    """Show the order in which tasks are drawn under WEIGHTS, what it keeps, and how others would do.

    WEIGHTS are shares of any scale: TASK=NUMBER pairs, a YAML or JSON file {task: number}, or a folder of row files (its
    tasks weigh the same, or --by-rows). Without any, the 13 task types weigh the same.

    \b
        sv6d mix
        sv6d mix cut_point_detection=3 subject=2 ocr_regular=0.5
        sv6d mix weights.yaml --mode window --step 64
        sv6d mix DATA/rl --by-rows

    Mode prefix (the default of a run): after any number of draws, every task is within 1 - 1/(2n-2) draws of its share; that
    is proven for all weights. Mode window: a search for the smallest error of any stretch of draws, wherever it begins.

    A file may also hold a plan, a list of segments; ramp is the number of draws over which shares move to the new ones:

    \b
        - {start: 0, weights: {subject: 1, ocr_regular: 1}}
        - {start: 3900, weights: {subject: 3, ocr_regular: 1}, ramp: 1950}
    """
    console = Console()
    try:
        asked = _read(weights, by_rows)
        if isinstance(asked, Mapping):
            _show_schedule(Schedule(asked, mode), step, console)
        else:
            _show_plan(Plan(asked, mode), step, console)
    except (ValueError, FileNotFoundError) as error:  # WeightError and RowError are ValueErrors
        raise click.BadParameter(str(error), param_hint="WEIGHTS") from None


def _read(weights: tuple[str, ...], by_rows: bool) -> dict[str, float] | list[Segment]:
    path = Path(weights[0]) if len(weights) == 1 and "=" not in weights[0] else None
    if by_rows and not (path and path.is_dir()):
        raise click.BadParameter("it needs a folder of row files as WEIGHTS", param_hint="--by-rows")
    if path is None:
        named = dict(map(_pair, weights))
        if len(named) < len(weights):
            raise ValueError("a task is named twice")
        return named or dict.fromkeys(TASKS, 1)
    if path.is_dir():
        rows = _rows(path)
        return rows if by_rows else dict.fromkeys(rows, 1)
    if path.suffix not in {".yaml", ".yml", ".json"}:
        raise ValueError(
            f"{str(path)!r}; write TASK=NUMBER, as in subject=2, or name a .yaml or .json file, or a folder"
        )
    return _parse(path)


def _pair(text: str) -> tuple[str, float]:
    task, _, number = text.partition("=")
    try:
        return task, float(number)
    except ValueError:
        raise ValueError(f"{text!r}; write TASK=NUMBER, as in subject=2") from None


def _rows(folder: Path) -> dict[str, int]:
    """Rows by task, tasks in the order of the report's table, others after them."""
    found: dict[str, int] = {}
    for file in row_files(folder):
        for row in read_rows(file):
            found[row["data_source"]] = found.get(row["data_source"], 0) + 1
    return {task: found[task] for task in [*TASKS, *sorted(found)] if task in found}


def _parse(path: Path) -> dict[str, float] | list[Segment]:
    try:
        content = yaml.safe_load(path.read_text())  # JSON is YAML
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {error}") from None
    if isinstance(content, dict):
        return content
    try:
        return [Segment(**segment) for segment in content]
    except TypeError:
        raise ValueError(
            f"{path} holds neither {{task: number}} nor a list of segments {{start, weights, ramp}} (ramp may be left out)"
        ) from None


def _show_schedule(schedule: Schedule, step: int, console: Console) -> None:
    certificate = schedule.certify(step)
    console.print(_tasks(schedule, step))
    console.print(_kept(certificate), "", _strip(schedule, step), "", _comparison(schedule, certificate), sep="\n")


def _show_plan(plan: Plan, step: int, console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("task", no_wrap=True)
    for segment in plan.segments:
        ramp = f"\nramp {segment.ramp:,}" if segment.ramp else ""
        table.add_column(f"from {segment.start:,}{ramp}", justify="right")
    for i, task in enumerate(plan.tasks):
        shares = (segment.weights.get(task, 0) / sum(segment.weights.values()) for segment in plan.segments)
        table.add_row(_mark(i), str(task), *(f"{share:.4f}" for share in shares))
    certificate = plan.certificate
    first_change = plan.segments[min(1, len(plan.segments) - 1)].start // step * step
    lines = {
        "any prefix": _against_bound(certificate.prefix_error, certificate.bound),
        "largest rounding of a share": f"{float(plan.rounding_error):.2g}",
        "hash of the sequence": certificate.digest,
    }
    console.print(table, _listed(lines), "", _strip(plan, step, first_change), sep="\n")


def _tasks(schedule: Schedule, step: int) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("task", no_wrap=True)
    for heading in ("share", "a period", f"in {step:,}", "longest gap"):
        table.add_column(heading, justify="right")
    first = np.bincount(schedule.take(0, step), minlength=len(schedule.tasks))
    for i, task in enumerate(schedule.tasks):
        count = int(schedule.counts[i])
        cells = (f"{count / schedule.period:.4f}", f"{count:,}", str(first[i]), f"{_longest_gap(schedule, i):,}")
        table.add_row(_mark(i), str(task), *cells)
    return table


def _longest_gap(schedule: Schedule, task: int) -> int:
    """Draws from one draw of the task to its next, at most."""
    return int(np.diff(np.flatnonzero(schedule.take(0, 2 * schedule.period) == task)).max())


def _kept(certificate: Certificate) -> RenderableType:
    lines = {
        "any prefix": _against_bound(certificate.prefix_error, certificate.bound),
        "any window": f"{float(certificate.window_error):.4f} draws",
        f"any window of {certificate.step:,}": f"{float(certificate.step_error):.4f} draws",
        "period": f"{certificate.period:,} draws; every count is exact after each",
        "largest rounding of a share": f"{float(certificate.rounding_error):.2g}",
        "hash of a period": certificate.digest,
    }
    return _listed(lines)


def _against_bound(error: Fraction, bound: Fraction) -> str:
    verdict = "kept" if error <= bound else "not kept"
    return f"{float(error):.4f} draws (bound 1 - 1/(2n-2) = {float(bound):.4f}, {verdict})"


def _listed(lines: dict[str, str]) -> Text:
    width = max(map(len, lines))
    return Text("\n".join(["", "worst error, exact:", *(f"  {name:<{width}}  {what}" for name, what in lines.items())]))


def _comparison(schedule: Schedule, certificate: Certificate) -> Table:
    counts, step = schedule.counts, certificate.step
    table = Table(title=f"worst error over {COMPARED:,} draws", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for heading in ("any prefix", f"any {step:,}", "any window"):
        table.add_column(heading, justify="right")
    for name, order in _peers(counts):
        prefix, window = sequence_errors(order, counts)
        table.add_row(name, *_cells(prefix, length_error(order, counts, step) if step <= COMPARED else None, window))
    ours = certificate.prefix_error, certificate.step_error, certificate.window_error
    table.add_row(Text(f"this schedule ({schedule.mode})", "bold"), *_cells(*ours))
    return table


def _peers(counts: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield "random draws (datasets, torchdata)", random_draws(counts, COMPARED)
    yield "Megatron greedy", megatron_greedy(counts, COMPARED)
    yield "smooth round robin (nginx)", np.resize(round_robin(counts), COMPARED)


def _cells(*errors: Fraction | None) -> list[str]:
    return ["-" if error is None else f"{float(error):.4f}" for error in errors]


def _strip(sequence: Schedule | Plan, step: int, start: int = 0) -> Text:
    """Draws from `start` on, a letter each in its task's colour."""
    strip = Text(f"{SHOWN // step * step or SHOWN} draws from {start:,} on; a step of {step:,} begins a line:")
    for begin in range(start, start + max(SHOWN // step, 1) * step, step):
        for place, task in enumerate(sequence.take(begin, begin + min(step, SHOWN)).tolist()):
            strip.append("\n" if place % 78 == 0 else "")
            strip.append(LETTERS[task % len(LETTERS)], f"bold black on {_colour(task)}")
    return strip


def _mark(task: int) -> Text:
    return Text(f" {LETTERS[task % len(LETTERS)]} ", f"bold black on {_colour(task)}")


def _colour(task: int) -> str:
    return COLOURS[task % len(COLOURS)]
