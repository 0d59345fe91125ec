"""`sv6d data`: make rows with known truth from real footage, and check the rows of any folder before training on them."""

from pathlib import Path

import click


@click.group()
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
