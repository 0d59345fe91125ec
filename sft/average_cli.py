"""`sv6d average`: average checkpoints, and say whether the average is better than what it is made of (section 5.1.2)."""

import json
import math
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from .average import RECORD, average, exponential
from .checkpoints import AverageError, as_model_folder, last_checkpoints


@click.command(name="average", short_help="Average the last checkpoints of a run (SWA, section 5.1.2).")
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--last", default=3, show_default=True, type=click.IntRange(2), help="How many of a run's checkpoints.")
@click.option(
    "--decay", type=click.FloatRange(0, 1), help="Exponential mean: each checkpoint weighs DECAY times the next."
)
@click.option("--weights", help="Weights of the checkpoints, oldest first, as 1,2,4; they are divided by their sum.")
@click.option(
    "--validate",
    "rows",
    type=click.Path(exists=True, path_type=Path),
    help="Rows, as DATA/heldout or DATA/sft: compare the average with each ingredient on them.",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="For --validate: the config.yaml of a run of `sv6d sft`, which says how prompts are made. [default: that of the last checkpoint]",
)
@click.option("--rows-per-task", default=8, show_default=True, type=click.IntRange(1), help="For --validate.")
@click.option(
    "--max-new-tokens", default=2048, show_default=True, type=click.IntRange(1), help="For --validate: of an answer."
)
def command(checkpoints, out, last, decay, weights, rows, config, rows_per_task, max_new_tokens):
    """Average model checkpoints: the last ones of a run, or the ones given; uniformly, unless weights are given.

    \b
      sv6d average runs/leum_sft --last 4 -o runs/leum_sft/averaged
      sv6d average step_100 step_200 step_300 -o averaged --decay 0.5     # shares 1/7, 2/7, 4/7
      sv6d average step_100 step_200 -o averaged --weights 1,3
      sv6d average runs/leum_sft -o averaged --validate DATA/heldout
      sv6d average A B -o averaged --validate DATA/heldout --config runs/leum_sft/config.yaml

    --validate loads one model after the other, prints the loss of the true answers (of SFT rows) and the reward of the model's
    own, and says which is best.
    """
    if decay is not None and weights is not None:
        raise AverageError("--decay and --weights both say what checkpoints weigh; give one of them")
    chosen = last_checkpoints(checkpoints[0], last) if len(checkpoints) == 1 else list(checkpoints)
    told = (
        _read_weights(weights)
        if weights is not None
        else exponential(len(chosen), decay)
        if decay is not None
        else None
    )
    held_out = _read_held_out(rows, config or _trained_with(chosen[-1]), rows_per_task) if rows else None
    click.echo(f"averaging {len(chosen)} checkpoints: {', '.join(str(checkpoint) for checkpoint in chosen)}")
    columns = (TextColumn("averaging"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("averaging", total=None)
        average(
            chosen,
            out,
            lambda written, total: bar.update(task, advance=written, total=total),
            told,
            lambda sentence: bar.console.print(sentence, highlight=False, soft_wrap=True),
        )
    click.echo(f"wrote {out}")
    if held_out:
        _compare(chosen, out, held_out, max_new_tokens)


class HeldOut(NamedTuple):
    """What checkpoints are compared on."""

    rows: list[dict[str, Any]]
    data: dict[str, Any]
    """verl's `data` block of the run: how prompts are made."""


def _read_held_out(files: Path, config: Path, per_task: int) -> HeldOut:
    """Read before the averaging, which takes minutes, so that a fault is told before it.

    Raises:
        AverageError: the rows or the configuration cannot be used.
    """
    import yaml
    from omegaconf import OmegaConf

    from ..data_mixers.rows import RowError
    from ..data_mixers.sources import load_rows, row_files
    from ..rewards.families import find_taxonomy
    from ..schema import TaxonomyError

    by_task: dict[str, list] = {}
    try:
        data = OmegaConf.to_container(OmegaConf.load(config).data)
        taxonomy = find_taxonomy((data.get("mixture") or {}).get("taxonomy"))
        for row in load_rows(row_files(str(files)), taxonomy):
            by_task.setdefault(row["data_source"], []).append(row)
    except (AttributeError, yaml.YAMLError) as error:
        raise AverageError(f"{config} is no configuration of a run, it has no block `data`: {error}") from error
    except (OSError, RowError, TaxonomyError) as error:
        raise AverageError(str(error)) from error
    return HeldOut([row for found in by_task.values() for row in found[:per_task]], data)


def _compare(checkpoints: list[Path], out: Path, held_out: HeldOut, max_new_tokens: int) -> None:
    """Print loss and reward of the average and its ingredients, and keep them in its record."""
    from .validation import validate

    rows, data = held_out
    names = [*map(str, checkpoints), str(out)]
    columns = (TextColumn("validating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch, Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=len(names) * len(rows))
        folders = [as_model_folder(checkpoint, Path(scratch)) for checkpoint in checkpoints]
        found = validate([*folders, out], rows, data, max_new_tokens, lambda: bar.advance(task))
    table = Table(box=None, header_style="bold")
    for column in ("", "loss", "reward"):
        table.add_column(column, justify="right" if column else "left")
    for name, one in zip(names, found, strict=True):
        table.add_row(name, "" if math.isnan(one.loss) else f"{one.loss:.4f}", f"{one.reward:.4f}")
    Console().print(table)
    best = {"reward": max(range(len(found)), key=lambda i: found[i].reward)}
    if not math.isnan(found[0].loss):
        best["loss"] = min(range(len(found)), key=lambda i: found[i].loss)
    for measure, i in best.items():
        click.echo(
            f"best by {measure} on {len(rows)} rows: {names[i]}{' (the average)' if names[i] == str(out) else ''}"
        )
    record = json.loads((out / RECORD).read_text())
    told = [
        {
            "model": name,
            "loss": None if math.isnan(one.loss) else one.loss,
            "reward": one.reward,
            "by_task": one.by_task,
        }
        for name, one in zip(names, found, strict=True)
    ]
    (out / RECORD).write_text(json.dumps(record | {"validated": told}, indent=2) + "\n")


def _trained_with(checkpoint: Path) -> Path:
    """The configuration of the run that a checkpoint belongs to: how its prompts were made.

    Raises:
        AverageError: none is near.
    """
    for folder in (checkpoint, *checkpoint.absolute().parents[:3]):
        if (folder / "config.yaml").is_file():
            return folder / "config.yaml"
    raise AverageError(
        f"{checkpoint} lies in no run of `sv6d sft`, whose config.yaml says how prompts are made: give --config RUN/config.yaml"
    )


def _read_weights(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise AverageError(f"--weights {text}: numbers with commas between them, as 1,2,4") from None
