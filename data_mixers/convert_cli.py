"""`sv6d data convert`: public annotations -> rows."""

from pathlib import Path

import click

from .convert import convert, named_as_tests, read_systems
from .readers import READERS, Source

FORMATS = "\n".join(f"  {name:20}  {reader.about}\n{'':24}{reader.files}" for name, reader in READERS.items())


@click.command("convert", help=f"""Turn public annotations into rows of the training format (docs/data.md).

\b
  sv6d data convert charades_sta charades_sta_train.txt --media videos -o DATA
  sv6d data convert icdar2015 gt/ --media images -o DATA --sft

FILES are annotation files or folders of them. FORMAT is one of

\b
{FORMATS}

Every row is checked; what cannot be used is listed in OUT/NAME.bad.jsonl with file, line and reason. Exit status 1: no row was made.
""")  # fmt: skip
@click.argument("format", type=click.Choice(list(READERS)), metavar="FORMAT")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Data folder to write to.")
@click.option(
    "--media",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the videos or pictures.",
)
@click.option("--name", help="Name of the row file. [default: FORMAT]")
@click.option(
    "--split", type=click.Choice(["train", "heldout"]), default="train", show_default=True, help="rl/ or heldout/."
)
@click.option("--subset", help="Only annotations of this subset, where the format has them.")
@click.option(
    "--durations",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV: video name first, and a column duration or length, in seconds.",
)
@click.option("--sft", is_flag=True, help="Also write sft/NAME.parquet, with the answer to learn.")
@click.option(
    "--systems",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="System prompts by data set, of your own.",
)
@click.option("--no-media-check", is_flag=True, help="Keep rows whose media are not there (yet).")
def command(format, files, out, media, name, split, subset, durations, sft, systems, no_media_check):
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    found = [
        file
        for path in files
        for file in (sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path])
    ]
    source = Source(
        tuple(found), media.absolute(), (out / "media").absolute(), split, subset, durations, not no_media_check
    )
    tests = named_as_tests([*dict.fromkeys(path.name for path in (*files, *found)), subset or ""])
    if tests and split == "train":
        click.echo(
            f"warning: {tests[0]} is a test set by its name, and its rows go to {out / 'rl'}, to be trained on; "
            "`--split heldout` keeps them for evaluation",
            err=True,
        )
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} annotations read"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        try:
            told, reader = read_systems(systems), READERS[format]
            done = convert(reader, source, out, name or format, sft, told, lambda: bar.advance(task))
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise click.ClickException(
                f"not read as {format}: {error}. `sv6d data convert --help` says what its files are."
            ) from error
    for kind, count in done.rows.most_common():
        click.echo(f"{count:8,} {kind}")
    for path in done.files:
        click.echo(str(path))
    if done.bad:
        click.echo(
            f"{len(done.bad):,} annotations could not be used; {out / f'{name or format}.bad.jsonl'} says why. The first:",
            err=True,
        )
        click.echo(f"  {done.bad[0].file}, {done.bad[0].line}: {done.bad[0].reason}", err=True)
    raise SystemExit(0 if done.rows else 1)
