"""`sv6d score FILE`: score responses that are already written, on a CPU, and print a table by task."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pandas as pd
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ..schema import GroundTruthError, TaskError, Taxonomy, TaxonomyError
from .config import RewardConfig, RewardConfigError
from .families import COMPONENTS
from .score import failed_score, score

COLUMNS = {
    "task": ("task", "data_source"),
    "response": ("response", "output"),
    "ground_truth": ("ground_truth", "gts", "reward_model"),
}
"""What is needed of a row, and the columns it may stand in; the later names are those of verl's rows and dumps."""


@click.command(name="score")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write each row with its components, as jsonl or parquet.",
)
@click.option("--task", help="The task of all rows, for a file without a task column.")
@click.option(
    "--taxonomy",
    "taxonomy_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A taxonomy file in place of the packaged one.",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A YAML file of reward settings.",
)
def command(file: Path, output: Path | None, task: str | None, taxonomy_path: Path | None, config_path: Path | None):
    """Score the responses in FILE, a .jsonl or .parquet with the columns task (or data_source), response and
    ground_truth.  Exits with 1 when rows could not be scored; they are listed."""
    try:
        taxonomy, config = Taxonomy.load(taxonomy_path), _read_config(config_path)
        config.require_dimensions(taxonomy.dimensions)
        rows = read_rows(file, task)
    except (TaxonomyError, RewardConfigError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    problems: list[str] = []
    scored = []
    for i, row in enumerate(track(rows, description="scoring", console=Console(stderr=True), transient=True)):
        try:
            result = score(row["task"], row["response"], row["ground_truth"], taxonomy=taxonomy, config=config)
        except (TaskError, GroundTruthError, TypeError) as error:
            problems.append(f"{file}: row {i}: {error}")
            result = failed_score()
        scored.append({"task": row["task"], **result.components})
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(summary_table(pd.DataFrame(scored, columns=["task", *COMPONENTS])))
    if output:
        write_rows([{**row, **result} for row, result in zip(rows, scored, strict=True)], output)
        click.echo(f"{len(rows)} rows written to {output}")
    for problem in problems[:20]:
        click.echo(problem, err=True)
    if problems:
        click.echo(f"{len(problems)} of {len(rows)} rows could not be scored", err=True)
        raise SystemExit(1)


def read_rows(file: Path, task: str | None) -> list[dict[str, Any]]:
    """The rows of a file as `task`, `response`, `ground_truth` (and `id` where there is one).

    Raises:
        ValueError: names the file, the row and the missing column.
    """
    rows = []
    for i, raw in enumerate(_raw_rows(file)):
        row = {name: _first_present(raw, names) for name, names in COLUMNS.items()}
        row["task"] = task or row["task"]
        if isinstance(row["ground_truth"], Mapping):
            row["ground_truth"] = row["ground_truth"].get("ground_truth")
        for name, value in row.items():
            if value is None:
                hint = " or give --task" if name == "task" else ""
                raise ValueError(f"{file}: row {i}: no {' or '.join(COLUMNS[name])}; add that column{hint}")
        rows.append(row | ({"id": raw["id"]} if "id" in raw else {}))
    if not rows:
        raise ValueError(f"{file}: holds no rows")
    return rows


def summary_table(scored: pd.DataFrame) -> Table:
    """Mean score with its standard error, and the mean of what each component earns, by task and over all."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    shown = [c for c in ("format", "iou", "label", "similarity", "judge") if scored[c].notna().any()]
    for name in ("task", "rows", "score", *shown, "failed"):
        table.add_column(name, justify="left" if name == "task" else "right", no_wrap=name != "task", overflow="fold")
    groups = [*scored.groupby("task", sort=False), ("all", scored)]
    for task, group in groups:
        error = f" ±{group['score'].sem():.3f}" if len(group) > 1 else ""
        cells = [_cell(group[c].mean()) for c in shown]
        table.add_row(
            str(task),
            str(len(group)),
            f"{group['score'].mean():.3f}{error}",
            *cells,
            str(int(group["failed"].sum())),
        )
    return table


def write_rows(rows: list[dict[str, Any]], path: Path) -> None:
    """Write jsonl or parquet, by the ending; the file appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(partial)
    else:
        frame.to_json(partial, orient="records", lines=True, force_ascii=True)
    os.replace(partial, path)


def _raw_rows(file: Path) -> Iterator[Mapping[str, Any]]:
    if file.suffix == ".parquet":
        yield from pd.read_parquet(file).to_dict("records")
        return
    with file.open(encoding="utf-8") as lines:
        for i, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{file}: line {i + 1}: is not JSON: {error}; give .jsonl or .parquet") from error
            if not isinstance(row, dict):
                raise ValueError(f"{file}: line {i + 1}: is no object")
            yield row


def _first_present(raw: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((raw[name] for name in names if raw.get(name) is not None), None)


def _read_config(path: Path | None) -> RewardConfig:
    from omegaconf import OmegaConf

    return RewardConfig.read(OmegaConf.load(path) if path else None)


def _cell(mean: float) -> str:
    return "–" if mean != mean else f"{mean:.3f}"
