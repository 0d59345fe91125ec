"""`sv6d score FILE...`: score responses that are already written, on a CPU; a table by task, or one row explained."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain
from math import isnan
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..async_scorer import AsyncScorer
from ..config import read_settings
from ..judging.health import JudgeStopped
from ..score import Score
from ..scorer import TIME_LIMIT, Scorer
from .asked_rows import AskedRows
from .explain import explain
from .explain_text import render
from .rescore import Summary, score_batches
from .rollouts import SUFFIXES, Batch, Rollout, find_files, read_batches
from .scored_file import ScoredFile

EXAMPLES = """\b
Examples:
  sv6d score answers.jsonl --task ocr_regular
  sv6d score dumps/ --data train.parquet        verl's trainer.rollout_data_dir
  sv6d score runs/mine                          the recorder's folder: rollouts whose text it kept
  sv6d score dump.jsonl --config other.yaml -o new.parquet --processes 8
  sv6d score answers.jsonl --explain clip-17    where each point of one answer went
"""
LISTED = 20
"""Problems that are printed; `-o` writes them all."""

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(name="score", epilog=EXAMPLES)
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write each row with its components, as .jsonl or .parquet.",
)
@click.option("--task", help="The task of all rows: one of the 13, a family, or one that a package plugs in.")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="The training rows that were asked (parquet, or a folder of it), for rollouts that name no task (verl's dumps) or "
    "hold no ground truth (the recorder's). May be repeated.",
)
@click.option("--taxonomy", help="Another taxonomy: a YAML file, or the name that a package gives one.")
@click.option("--config", type=_file, help="A YAML file of reward settings.")
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="Score in several; rows keep their order."
)
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    help=f"Seconds for a response of a family that another package plugs in; then its process is ended.  "
    f"[default: {TIME_LIMIT:g}]",
)
@click.option("--judge-url", help="An OpenAI-compatible endpoint that judges chain of thought: http://host:8000/v1.")
@click.option("--judge-model", help="The model's name there. More settings of the judge: `judge:` in --config.")
@click.option(
    "--explain", "wanted", metavar="ID", help="Explain one row, by its id (or uid), or by its number, from 0."
)
def command(paths, output, task, data, taxonomy, config, processes, time_limit, judge_url, judge_model, wanted):
    """Score the responses in FILE... and print a table by task.

    FILE is a .jsonl or .parquet whose rows hold a response (or output, completion), a ground_truth (or gts, reward_model,
    answer) and a task (or data_source); or a folder of such files: verl's rollout and validation dumps, the recorder's
    run folder.

    The table shows the mean score with its standard error, the means of the components that apply, and, where the rows
    hold a score already, the mean of that (recorded). A row that cannot be scored is listed with its file, number and
    reason. It counts as failed and in no mean, and makes the exit status 1.
    """
    try:
        settings = read_settings(config)
        settings |= {name: value for name, value in (("taxonomy", taxonomy), ("time_limit", time_limit)) if value}
        judge = {name: value for name, value in (("url", judge_url), ("model", judge_model)) if value}
        if judge:
            settings["judge"] = {**(settings.get("judge") or {}), **judge}
        AsyncScorer(settings)  # a wrong setting is said before anything is read
        files = find_files(paths)
        asked = AskedRows(data) if data else None
        batches = chain.from_iterable(read_batches(file, task, asked) for file in files)
        if output and output.suffix not in SUFFIXES:
            raise ValueError(f"{output}: end its name in {' or '.join(SUFFIXES)}")
        if output and not output.parent.is_dir():
            raise ValueError(f"{output}: there is no folder {output.parent}; make it first")
        if wanted is not None:
            _explain(find_row(batches, wanted), settings)
        else:
            size = sum(file.stat().st_size for file in files)
            _report(*_score(batches, size, settings, processes, output), output)
    except (ValueError, ImportError, JudgeStopped) as error:
        raise click.ClickException(str(error)) from error


def find_row(batches: Iterable[Batch], wanted: str) -> Rollout:
    """The row of that id, or else of that number.

    Raises:
        ValueError: there is none, or there are several.
    """
    by_id, by_number = [], []
    for batch in batches:
        by_id += [r for r in batch.rollouts if r.id == wanted]
        by_number += [r for r in batch.rollouts if str(r.row) == wanted]
    found = by_id or by_number
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(f"no row has the id or number {wanted!r}")
    places = ", ".join(f"{r.file} row {r.row}" for r in found[:5])
    raise ValueError(
        f"{len(found)} rows have the id or number {wanted!r}: {places}; name one file, or the row's number"
    )


def summary_table(summaries: Mapping[str, Summary]) -> Table:
    """Mean score with its standard error, and the mean of what each component earns, by task and over all."""
    everything = Summary.over(summaries.values())
    shown = [c for c in ("format", "iou", "label", "similarity", "judge") if everything.means[c].count]
    recorded = ["recorded"] if everything.recorded.count else []
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("task", "rows", "score", *recorded, *shown, "failed"):
        table.add_column(name, justify="left" if name == "task" else "right", no_wrap=name != "task", overflow="fold")
    for task, summary in (*summaries.items(), ("all", everything)):
        score = summary.means["score"]
        error = "" if isnan(score.error) else f" ±{score.error:.3f}"
        means = [_cell(summary.recorded.value)] * len(recorded) + [_cell(summary.means[c].value) for c in shown]
        table.add_row(task, str(summary.rows), _cell(score.value) + error, *means, str(summary.failed))
    return table


def _score(
    batches: Iterable[Batch], size: int, settings: Mapping[str, Any], processes: int, output: Path | None
) -> tuple[dict[str, Summary], list[str]]:
    """The summary of each task and the first problems; with a progress bar over `size` bytes."""
    summaries: dict[str, Summary] = {}
    problems: list[str] = []
    columns = (TextColumn("scoring"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        ScoredFile(output) if output else nullcontext() as written,
    ):
        bar = progress.add_task("scoring", total=size)
        for rows, read in score_batches(batches, settings, processes):
            for scored in rows:
                summaries.setdefault(scored.rollout.task or "(no task)", Summary()).add(scored)
                if scored.problem is not None and len(problems) < LISTED:
                    problems.append(f"{scored.rollout.file}: row {scored.rollout.row}: {scored.problem}")
            if written:
                written.write(rows)
            progress.update(bar, advance=read)
    return summaries, problems


def _report(summaries: Mapping[str, Summary], problems: Sequence[str], output: Path | None) -> None:
    everything = Summary.over(summaries.values())
    if not everything.rows:
        raise ValueError("there are no rows; of a run's folder, those with a text count (sv6d.record_responses=all)")
    _console().print(summary_table(summaries))
    if output:
        click.echo(f"{everything.rows} rows written to {output}")
    for problem in problems:
        click.echo(problem, err=True)
    if everything.unscored > LISTED:
        rest = everything.unscored - LISTED
        click.echo(f"... and {rest} more" + ("" if output else "; -o writes them all"), err=True)
    if everything.unscored:
        click.echo(f"{everything.unscored} of {everything.rows} rows could not be scored", err=True)
        raise SystemExit(1)


def _explain(rollout: Rollout, settings: Mapping[str, Any]) -> None:
    ((scored,), _) = next(score_batches([Batch([rollout], 0)], settings))
    if scored.problem is not None:
        raise ValueError(f"{rollout.file}: row {rollout.row}: {scored.problem}")
    settings = Scorer({k: v for k, v in settings.items() if k not in ("judge", "time_limit")})
    score = Score(scored.components["score"], scored.components)
    console = _console()
    for part in render(explain(rollout, score, settings.taxonomy, settings.config)):
        console.print(part)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=140, highlight=False)


def _cell(mean: float) -> str:
    return "–" if isnan(mean) else f"{mean:.3f}"
