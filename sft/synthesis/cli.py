"""`sv6d data synthesize`: question-answer pairs from structural documents (section 3.1.3)."""

import os
from pathlib import Path

import click

from .generate import WEIGHTS, Plan
from .shards import DOCUMENTS, Settings, SynthesisError, plan_shards, prepare, rejects_path, write_shards
from .templates import TemplateError


@click.command("synthesize")
@click.argument("documents", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the rows: qa-00000.parquet, ..."
)
@click.option(
    "--videos",
    type=click.Path(path_type=Path),
    help="Folder that the documents' `video` names start from. [default: the first documents']",
)
@click.option(
    "--per-document",
    default=Plan().per_document,
    show_default=True,
    type=click.IntRange(1),
    help="Questions a document.",
)
@click.option("--seed", default=0, show_default=True, help="Same seed and documents, same rows, however many workers.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
@click.option(
    "--only", multiple=True, metavar="KIND", help="Only questions of this kind or family; may be given again."
)
@click.option(
    "--templates",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Wordings and system prompts of your own.",
)
@click.option(
    "--taxonomy", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A taxonomy of your own."
)
def command(documents, out, videos, per_document, seed, workers, only, templates, taxonomy):
    """Ask structural DOCUMENTS questions: files with a document a line (.jsonl), or folders of such files.

    \b
      sv6d data synthesize documents.jsonl -o data/qa --workers 8
      sv6d data synthesize documents/ -o data/qa --only retrieval --only choice.single

    Attribute, retrieval, abduction and correction questions and multiple choice, over all dimensions that a document has. Each
    answer is scored by the rewards of Table 4 and earns 1. Rows are SFT rows (docs/data.md). The same command goes on with what
    is missing. Documents with errors are listed in qa-*.rejected.jsonl, with file, line and all that is wrong.
    """
    from rich.console import Console
    from rich.progress import track

    files = [file for path in documents for file in (sorted(path.glob("**/*.jsonl")) if path.is_dir() else [path])]
    try:
        plan = Plan(per_document, seed, _weights(only))
        root = videos or (documents[0] if documents[0].is_dir() else documents[0].parent)
        settings = Settings(plan, templates, taxonomy, Path(os.path.abspath(root)), DOCUMENTS)
        shards = plan_shards(files, settings.documents)
        prepare(out, files, settings)
        jobs = write_shards(shards, out, settings, workers)
        done = list(track(jobs, "asking", total=len(shards), console=Console(stderr=True)))
    except (SynthesisError, TemplateError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    rows, read, rejected = (sum(counts) for counts in zip(*done, strict=True)) if done else (0, 0, 0)
    click.echo(f"{rows:,} pairs of {read - rejected:,} documents in {out}")
    if rejected:
        first = next(path for shard in shards if (path := rejects_path(out, shard.number)).exists())
        click.echo(f"{rejected:,} documents cannot be used; {first} and others like it say why", err=True)
    raise SystemExit(0 if rows else 1)


def _weights(only: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """The kinds that are asked for, by kind or family, with their weights."""
    chosen = tuple(
        (kind, weight) for kind, weight in WEIGHTS.items() if not only or {kind, kind.partition(".")[0]} & {*only}
    )
    families = {kind.partition(".")[0] for kind in WEIGHTS}
    if unknown := {*only} - WEIGHTS.keys() - families:
        raise SynthesisError(
            f"{min(unknown)!r} is no kind of question; there are {', '.join([*sorted(families), *WEIGHTS])}"
        )
    return chosen
