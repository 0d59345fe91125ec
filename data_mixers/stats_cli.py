"""`sv6d data stats` and `sv6d data balance`: look at rows, and thin out what is too common."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from .balance import keep_shares, keeps
from .rows import RowError, read_rows, write_rows
from .sources import row_files
from .stats import LISTED, Stats, count, leaks

LEAKED = 3


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong with files or rows, as the command's last line."""
    try:
        yield
    except (FileNotFoundError, RowError) as error:
        raise click.ClickException(str(error)) from error


def _files(paths: Sequence[Path]) -> list[Path]:
    return [Path(file) for file in row_files(paths, deep=True)]


@click.command("stats")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--against",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Evaluation rows, whose media must not be here.",
)
@click.option("--picture", type=click.Path(path_type=Path), help="Also draw it: PNG, PDF or SVG by the suffix.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def stats(paths, against, picture, as_json):
    """Count the rows of files or folders: tasks, durations, tags, duplicates, and leaks into evaluation rows.

    \b
      sv6d data stats DATA/rl --against DATA/heldout --picture rows.png

    Exit status 3: media of the evaluation rows are among the training rows.
    """
    with _told():
        found = count(track(_files(paths), "counting", console=Console(stderr=True), transient=True))
        leaked = leaks(found, count(_files(against))) if against else []
    if as_json:
        click.echo(
            json.dumps(
                found.plain() | {"leaks": len(leaked), "leaks_listed": [list(pair) for pair in leaked[:LISTED]]},
                indent=1,
            )
        )
    else:
        _print(found, leaked, Console(highlight=False))
    if picture:
        from .stats_picture import draw

        draw(found, picture)
        click.echo(str(picture), err=as_json)
    raise SystemExit(LEAKED if leaked else 0)


def _print(found: Stats, leaked: list[tuple[str, str]], console: Console) -> None:
    told = found.plain()
    table = Table(box=None, header_style="bold")
    table.add_column("task", no_wrap=True)
    for name in ("rows", "seconds: median", "25-75 %", "segments: median"):
        table.add_column(name, justify="right")
    for task, rows in found.rows.most_common():
        seconds, segments = told["seconds"].get(task), told["segments"].get(task)
        times = (f"{seconds['median']:.1f}", f"{seconds['low']:.1f}-{seconds['high']:.1f}") if seconds else ("", "")
        table.add_row(task, f"{rows:,}", *times, f"{segments['median']:g}" if segments else "")
    console.print(table)
    tags = Table(box=None, header_style="bold")
    tags.add_column("sub-dimension", no_wrap=True)
    for name in ("tags", "balance", "most common", "rarest"):
        tags.add_column(name, justify="left" if "m" in name or name == "rarest" else "right")
    for name, even in found.balance().items():
        common = found.tags[name].most_common()
        tags.add_row(
            name,
            str(len(common)),
            f"{even:.2f}",
            f"{common[0][0]} {common[0][1]:,}",
            f"{common[-1][0]} {common[-1][1]:,}",
        )
    if found.tags:
        console.print()
        console.print(tags)
        console.print("[dim]balance: 1 is even, 0 a single tag; sv6d data balance thins what is too common[/]")
    console.print(f"\n{found.total:,} rows of {len(found.datasets)} data sets, {len(found.media):,} media files")
    for kind, pairs in (("come twice", found.duplicates), ("show media of the evaluation rows", leaked)):
        if pairs:
            console.print(
                f"[yellow]{len(pairs):,} rows {kind}[/], for instance "
                + "; ".join(f"{a} and {b}" for a, b in pairs[:3])
            )


@click.command("balance")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for the kept rows, a file for each, in the same folders.",
)
@click.option(
    "--cap",
    type=click.IntRange(1),
    help="Rows of a tag or data set above which it is thinned. [default: twice the usual]",
)
@click.option("--seed", default=0, show_default=True, help="Same seed, same rows, whatever their order.")
def balance(paths, out, cap, seed):
    """Thin the rows of common tags and large data sets, so that both are more even; no tag is lost.

    \b
      sv6d data balance DATA/sft -o DATA/sft-balanced

    Usual is the geometric mean of the counts of a sub-dimension's tags, and of the data sets' rows. A row with a tag that is not
    too common stays.
    """
    console = Console(stderr=True)
    with _told():
        places = _places(paths, out)
        read = track(places, "counting", console=console)
        shares = keep_shares((row for file in read for row in read_rows(file)), cap)
    kept = before = 0
    for file, place in track(places.items(), "writing", console=console):
        rows = read_rows(file)
        chosen = [row for row in rows if keeps(row, shares, seed)]
        before, kept = before + len(rows), kept + len(chosen)
        if chosen:
            write_rows(chosen, place)
    click.echo(f"{kept:,} of {before:,} rows in {out}; `sv6d data stats {out}` shows their balance")


def _places(paths: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Row file -> where its kept rows go: below `out` as it lies below the folder that is given, or that all given share.

    Raises:
        click.ClickException: two files would be one.
    """
    folder = os.path.commonpath([(path if path.is_dir() else path.parent).absolute() for path in paths])
    places: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for file in dict.fromkeys(path.absolute() for path in _files(paths)):
        place = out / file.relative_to(folder).with_suffix(".parquet")
        if place in taken:
            raise click.ClickException(f"{taken[place]} and {file} would both become {place}; rename one of them")
        places[file], taken[place] = place, file
    return places
