"""`sv6d data`: make rows with known truth from real footage, and check the rows of any folder before training on them."""

from importlib import import_module
from pathlib import Path

import click

ELSEWHERE = {
    "balance": ("sv6d.data_mixers.stats_cli", "balance"),
    "caption": ("sv6d.sft.synthesis.captions_cli", "command"),
    "convert": ("sv6d.data_mixers.convert_cli", "command"),
    "documents": ("sv6d.schema.document_cli", "command"),
    "stats": ("sv6d.data_mixers.stats_cli", "stats"),
    "synthesize": ("sv6d.sft.synthesis.cli", "command"),
}
"""Sub-commands that are written where their work is done; imported when they are called."""


class DataGroup(click.Group):
    """The commands here and those of `ELSEWHERE`."""

    def list_commands(self, ctx):
        return sorted([*self.commands, *ELSEWHERE])

    def get_command(self, ctx, name):
        if name not in ELSEWHERE:
            return super().get_command(ctx, name)
        module, attribute = ELSEWHERE[name]
        return getattr(import_module(module), attribute)


@click.group(cls=DataGroup)
def command():
    """Make and look at training rows."""


@command.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--per-task", default=120, show_default=True, type=click.IntRange(min=1), help="RL rows of each of the 13 tasks."
)
@click.option(
    "--sft-per-task", default=100, show_default=True, type=click.IntRange(min=0), help="SFT rows of each task."
)
@click.option(
    "--heldout-per-task", default=24, show_default=True, type=click.IntRange(min=0), help="Held-out rows of each task."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Same seed, same rows.")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Processes that share the tasks."
)
def demo(out: Path, per_task: int, sft_per_task: int, heldout_per_task: int, seed: int, workers: int):
    """Edit real footage into rows for the 13 tasks, with truth known by construction."""
    from .demo.dataset import DatasetError, write_dataset
    from .demo.footage import MissingFootage

    try:
        made = write_dataset(
            out,
            per_task=per_task,
            sft_per_task=sft_per_task,
            heldout_per_task=heldout_per_task,
            seed=seed,
            workers=workers,
        )
    except (DatasetError, MissingFootage) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{made['rows']} rows of {len(made['tasks'])} tasks in {out}")


@command.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def validate(folder: Path):
    """Check every row of the parquet files below FOLDER: its task, its ground truth, and that its media decode.

    Bad rows are listed with file, row and reason; the exit status is 1 when there is one, or no row at all.
    """
    from rich.console import Console
    from rich.progress import track

    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise click.ClickException(f"{folder} holds no parquet file; `sv6d data demo --out {folder}` writes some")
    rows, bad = 0, []
    for path in track(files, "checking rows", console=Console(stderr=True)):
        count, found = find_bad_rows(path)
        rows += count
        bad += found
    for line in bad:
        click.echo(line)
    click.echo(f"{rows} rows in {len(files)} files, {len(bad)} bad")
    raise SystemExit(1 if bad or not rows else 0)


def find_bad_rows(path: Path) -> tuple[int, list[str]]:
    """Check the rows of one parquet file. Returns how many it has, and a line `file: row n: reason` for each bad one."""
    from ..data_mixers.media import DECODE_SECONDS
    from ..data_mixers.rows import media_paths, read_rows, validate_row
    from .checking.media import why_not

    try:
        rows = read_rows(path)
    except Exception as error:  # whatever pyarrow makes of a file that is no parquet, or has other columns
        return 0, [f"{path}: cannot be read as rows: {error}"]
    bad = []
    for number, row in enumerate(rows):
        try:
            validate_row(row, path.parent)
            for medium in media_paths(row):
                if reason := why_not(medium, DECODE_SECONDS):
                    raise ValueError(reason)
        except Exception as error:  # decoders raise many kinds
            bad.append(f"{path}: row {number}: {error}")
    return len(rows), bad


def check_media(path: str) -> None:
    """Decode a film or a still to its end.

    Raises:
        ValueError: it does not decode, or has no picture.
    """
    import av

    try:
        with av.open(path) as container:
            frames = sum(1 for _ in container.decode(video=0))
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{path} does not decode: {error}") from error
    if frames == 0:
        raise ValueError(f"{path} holds no frame")
