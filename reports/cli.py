"""`sv6d report RUN -o FILE`: the report page of a run, and its numbers as JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from .runs import RunError, load_run

INCOMPLETE = 3  # the page is written, but the run lacks something that a whole run has


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The page to write (HTML).")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the page's numbers as JSON.")
def command(run: Path, output: Path, json_path: Path | None) -> None:
    """Draw the training dynamics of RUN, a folder with rollouts/ and metrics.jsonl, on one self-contained page.

    Exit status: 0 the run is whole, 1 there is nothing to report, 3 the page is written but something is missing (said on
    standard error and on the page).
    """
    try:
        loaded = load_run(run)
    except RunError as error:
        raise click.ClickException(str(error)) from None
    try:
        from .page import write_page

        shown = write_page(loaded, output)
    except ModuleNotFoundError as error:
        if error.name not in ("plotly", "jinja2"):
            raise
        raise click.ClickException(f"{error.name} is not installed: pip install 'sv6d[reports]'") from None
    except OSError as error:
        raise click.ClickException(f"{output}: cannot be written ({error.strerror}).") from None
    if json_path:
        tmp = json_path.with_name(json_path.name + ".tmp")
        tmp.write_text(json.dumps(shown, indent=1, allow_nan=False) + "\n")
        os.replace(tmp, json_path)
    for sentence in loaded.missing:
        click.echo(f"missing: {sentence}", err=True)
    for sentence in loaded.notes:
        click.echo(f"note: {sentence}", err=True)
    ends = shown["summary"]
    for name in ("reward", "entropy", "length"):
        if ends[f"{name}_first"] is not None:
            click.echo(f"{name:8} {ends[f'{name}_first']:.3f} -> {ends[f'{name}_last']:.3f}")
    click.echo(f"{output}")
    if loaded.missing:
        sys.exit(INCOMPLETE)
