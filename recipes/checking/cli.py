"""`sv6d check`: what a recipe would run into, in a table, before it is given a GPU."""

import json
import shutil
from collections.abc import Iterable

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..compose import compose
from .finding import Finding
from .table import SKIPPED, check

SIGNS = {"error": "[red]error[/]", "warning": "[yellow]warning[/]", "note": "[green]ok[/]"}
ORDER = tuple(SIGNS)


@click.command("check", short_help="Check a GRPO recipe before a GPU is paid for.")
@click.argument("recipe")
@click.argument("overrides", nargs=-1)
@click.option("--media/--no-media", default=True, show_default=True, help="Open media files of sampled rows.")
@click.option("--cluster", is_flag=True, help="Ask every node of the Ray cluster that the recipe would use.")
@click.option("--sample", default=26, show_default=True, type=click.IntRange(min=1), help="Rows to look at closely.")
@click.option("--seed", default=0, show_default=True, type=int, help="Same seed, same rows.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(recipe: str, overrides: tuple[str, ...], media: bool, cluster: bool, sample: int, seed: int, as_json: bool):
    """Check RECIPE with OVERRIDES, as `sv6d grpo` takes them: batches, context, memory, data, rewards, model files, disk.

    \b
      sv6d check leum_8b_1node sv6d.data=DATA sv6d.model=checkpoints/sft sv6d.run_dir=runs/leum sv6d.gpu_gb=80
      sv6d check cpu_demo --no-media sv6d.data=D sv6d.model=M sv6d.run_dir=R

    Each line says what was found, with numbers; an error or a warning also says what to change. Exit status 1 where there is an
    error. What depends on the machine (GPUs, disk) is only a warning on a machine that has no GPU at all.
    """
    config = compose("grpo", recipe, list(overrides))
    console = Console(stderr=True)
    with console.status("checking") as status:

        def progress(what: str, done: int, total: int) -> None:
            status.update(f"{what} ({done + 1} of {total})")

        found = list(check(config, media, cluster, sample, seed, progress))
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in found], indent=1))
    else:
        show(recipe, found, Console(width=max(shutil.get_terminal_size((120, 24)).columns, 100)))
    raise SystemExit(any(finding.level == "error" for finding in found))


def show(recipe: str, findings: Iterable[Finding], console: Console) -> None:
    """A line a finding, in the order of the checks, and what it comes to."""
    findings = list(findings)
    table = Table("", "check", "finding", title=f"sv6d check {recipe}", title_justify="left", show_lines=False)
    for finding in findings:
        sign = "-" if finding.text.startswith(SKIPPED) else SIGNS[finding.level]
        table.add_row(sign, finding.check, escape(finding.text))
    console.print(table)
    counts = [(level, sum(finding.level == level for finding in findings)) for level in ORDER[:2]]
    told = ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in counts if count)
    console.print(told or "nothing is amiss", highlight=False)
