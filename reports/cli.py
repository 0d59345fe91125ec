"""`sv6d report RUN ...`: the report page of one run or several, its numbers, its charts for print, its alarms."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from .runs import Run, RunError, load_run

INCOMPLETE = 3  # what was asked for is written, but a run lacks something that a whole run has
ALARM = 4  # with --check: a rule of the diagnosis sounds an alarm
OPTIONAL = ("jinja2", "matplotlib")
PORT = 8765


@click.command("report")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the page (HTML, one self-contained file).")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every number of the page.")
@click.option("--figures", type=click.Path(path_type=Path), help="Write each chart as PDF, SVG and PNG to this folder.")
@click.option("--check", is_flag=True, help="Print what the diagnosis found; exit with 4 on an alarm.")
@click.option("--watch", is_flag=True, help="Serve the page on localhost; it follows the runs while they train.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="Of --watch; 0 takes any that is free.",
)
def command(
    runs: tuple[Path, ...],
    output: Path | None,
    json_path: Path | None,
    figures: Path | None,
    check: bool,
    watch: bool,
    port: int,
) -> None:
    """Show the training dynamics of each RUN, a folder that a training run left: Figure 3, and by task and component.

    \b
    sv6d report runs/grpo -o report.html         one page that opens anywhere
    sv6d report runs/a runs/b -o report.html     both runs on the same charts
    sv6d report runs/grpo --figures figures      figure3.pdf and every other chart, for print
    sv6d report runs/grpo --watch                the page, live, while the run goes on
    sv6d report runs/grpo --check                alarms and warnings; for jobs and CI

    Exit status: 0 all is well, 1 there is nothing to report, 3 a run lacks something (said on standard error and on the
    page), 4 with --check: an alarm.
    """
    if watch:
        if output or json_path or figures or check:
            raise click.UsageError("--watch serves the page and writes nothing: leave out the other options.")
        _optional(lambda: _serve(runs, port))
        return
    loaded = _load(runs)
    shown = _optional(lambda: _make(loaded, output, json_path, figures))
    for number, run in enumerate(loaded):
        _tell(run, shown["runs"][number], len(loaded) > 1)
    if not (output or json_path or figures or check):
        click.echo("-o report.html writes the page; --figures, --check and --watch do more (--help).")
    alarms = check and _tell_findings(shown["runs"])
    if alarms or any(run.missing for run in loaded):
        sys.exit(ALARM if alarms else INCOMPLETE)


def _load(runs: Sequence[Path]) -> list[Run]:
    try:
        return [load_run(run) for run in runs]
    except RunError as error:
        raise click.ClickException(str(error)) from None


def _optional(work: Callable[[], Any]) -> Any:
    """Does the work; where a library of the extra is missing, a sentence says so."""
    try:
        return work()
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        raise click.ClickException(f"{error.name} is not installed: pip install 'sv6d[reports]'") from None


def _writing(path: Path, write: Callable[[], Any]) -> Any:
    """Writes to `path`; where that fails, a sentence names it as it was asked for."""
    try:
        return write()
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be written ({error.strerror}).") from None


def _make(loaded: list[Run], output: Path | None, json_path: Path | None, figures: Path | None) -> dict[str, Any]:
    """Writes what was asked for and names it; returns the numbers."""
    from .page import gather, render, write_text

    shown = gather(loaded)
    if output:
        page = render(shown)
        _writing(output, lambda: write_text(output, page))
        click.echo(f"page     {output}")
    if json_path:
        text = json.dumps(shown, indent=1, allow_nan=False) + "\n"
        _writing(json_path, lambda: write_text(json_path, text))
        click.echo(f"numbers  {json_path}")
    if figures:
        from .printed import write_figures

        with click.progressbar(write_figures(shown["runs"], figures), label="figures", file=sys.stderr) as files:
            count = _writing(figures, lambda: sum(1 for _ in files))
        click.echo(f"figures  {figures}: {count} files, figure3.pdf among them")
    return shown


def _tell(run: Run, shown: dict[str, Any], named: bool) -> None:
    """A run in a few lines; on standard error what it lacks."""
    prefix = f"{shown['name']}: " if named else ""
    for sentence in run.missing:
        click.echo(f"missing: {prefix}{sentence}", err=True)
    for sentence in run.notes:
        click.echo(f"note: {prefix}{sentence}", err=True)
    if named:
        click.echo(shown["name"])
    ends = shown["summary"]
    for name in ("reward", "entropy", "length"):
        if ends[f"{name}_first"] is not None:
            click.echo(f"{name:8} {ends[f'{name}_first']:.3f} -> {ends[f'{name}_last']:.3f}")
    for name, (first, last) in shown["supervised"]["ends"].items():
        click.echo(f"{name} loss {first:.3f} -> {last:.3f}")


def _tell_findings(runs: list[dict[str, Any]]) -> bool:
    """Prints what the diagnosis found; True when there is an alarm."""
    from .diagnosis import RULES

    for run in runs:
        prefix = f"{run['name']}: " if len(runs) > 1 else ""
        for found in run["findings"]:
            if found["level"] == "unjudged":
                click.echo(f"unjudged: {prefix}{found['rule']}: {found['evidence']}")
                continue
            about = [found["task"]] if found["task"] else []
            about += [f"steps {found['steps'][0]} to {found['steps'][1]}"] if found["steps"] else []
            click.echo(f"{found['level']}: {prefix}{found['title']}{' (' + ', '.join(about) + ')' if about else ''}")
            click.echo(f"  {found['evidence']}\n  try: {found['advice']}")
    levels = [found["level"] for run in runs for found in run["findings"]]
    unjudged = (
        f", {levels.count('unjudged')} of {len(RULES) * len(runs)} rules unjudged" if "unjudged" in levels else ""
    )
    click.echo(f"{levels.count('alarm')} alarm(s), {levels.count('warning')} warning(s){unjudged}")
    return "alarm" in levels


def _serve(runs: Sequence[Path], port: int) -> None:
    from .watch import Server, Watched, follow

    watched = Watched(runs)
    try:
        server = Server(watched, port)
    except OSError as error:
        raise click.ClickException(
            f"port {port} of this machine: {error.strerror}; take another with --port."
        ) from None
    click.echo(f"{server.url} follows {', '.join(map(str, runs))}; Ctrl-C ends it.")
    try:
        follow(server)
    except KeyboardInterrupt:
        click.echo("ended")
