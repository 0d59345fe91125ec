"""`sv6d data synthesize`: question-answer pairs from structural documents (section 3.1.3)."""

import os
from pathlib import Path

import click

from .generate import WEIGHTS, Plan
from .phrasing import Phrasing
from .shards import (
    DOCUMENTS,
    Settings,
    Shard,
    SynthesisError,
    Written,
    plan_shards,
    prepare,
    rejects_path,
    write_shards,
)
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
@click.option("--endpoint", help="OpenAI-compatible address of a model that rephrases, as http://host:8000/v1 (vLLM).")
@click.option("--model", help="The model's name there.")
@click.option(
    "--phrase-share",
    default=Phrasing._field_defaults["share"],
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of the pairs that the model rephrases.",
)
@click.option(
    "--requests",
    default=Phrasing._field_defaults["requests"],
    show_default=True,
    type=click.IntRange(1),
    help="Requests at a time, of each worker.",
)
def command(
    documents,
    out,
    videos,
    per_document,
    seed,
    workers,
    only,
    templates,
    taxonomy,
    endpoint,
    model,
    phrase_share,
    requests,
):
    """Ask structural DOCUMENTS questions: files with a document a line (.jsonl), or folders of such files.

    \b
      sv6d data synthesize documents.jsonl -o data/qa --workers 8
      sv6d data synthesize documents/ -o data/qa --only retrieval --only choice.single
      sv6d data synthesize documents.jsonl -o data/qa --endpoint http://localhost:8000/v1 --model Qwen3-8B

    Attribute, retrieval, abduction and correction questions and multiple choice, over all dimensions that a document has. Each
    answer is scored by the rewards of Table 4 and earns 1. Rows are SFT rows (docs/data.md). The same command goes on with what
    is missing. With an --endpoint, a model rephrases questions and reasoning, never the answer; what loses or adds something is refused
    and the template kept. Documents with errors are listed in qa-*.rejected.jsonl, with file, line and all that is wrong.
    """
    from rich.console import Console
    from rich.progress import track

    if bool(endpoint) != bool(model):
        raise click.ClickException(
            "--endpoint and --model go together: the address of a server, and what it calls its model"
        )
    try:
        phrasing = Phrasing(endpoint, model, phrase_share, requests) if endpoint else None
        files = document_files(documents)
        plan = Plan(per_document, seed, _weights(only))
        settings = Settings(plan, templates, taxonomy, videos_root(videos, documents), DOCUMENTS, phrasing)
        shards = plan_shards(files, settings.documents)
        prepare(out, files, settings)
        jobs = write_shards(shards, out, settings, workers)
        done = list(track(jobs, "asking", total=len(shards), console=Console(stderr=True)))
    except (SynthesisError, TemplateError, ValueError, ImportError) as error:
        raise click.ClickException(str(error)) from error
    _report(out, done, shards, phrasing)
    raise SystemExit(0 if any(written.rows for written in done) else 1)


def document_files(paths: tuple[Path, ...]) -> list[Path]:
    """The files themselves, and every .jsonl file below the folders."""
    return [file for path in paths for file in (sorted(path.glob("**/*.jsonl")) if path.is_dir() else [path])]


def videos_root(given: Path | None, documents: tuple[Path, ...]) -> Path:
    """The folder that the documents' `video` names start from: the one that is given, or the first documents'."""
    first = documents[0] if documents[0].is_dir() else documents[0].parent
    return Path(os.path.abspath(given or first))


def _report(out: Path, done: list[Written], shards: list[Shard], phrasing: Phrasing | None) -> None:
    def total(name: str) -> int:
        return sum(getattr(written, name) for written in done)

    click.echo(f"{total('rows'):,} pairs of {total('documents') - total('rejected'):,} documents in {out}")
    if phrasing:
        told = f"{total('phrased'):,} in the words of {phrasing.model}; {total('refused'):,} rephrasings refused"
        click.echo(f"{told}, {total('failed'):,} not answered: these keep the templates' words")
        for why in [why for written in done for why in written.why][:2]:
            click.echo(f"  the first: {why}", err=True)
        if total("failed"):
            click.echo(
                f"  to ask for those again, remove {out}/qa-*.parquet; what is known is not asked twice", err=True
            )
    if total("warned"):
        click.echo(f"{total('warned'):,} of these have warnings; `sv6d data documents` prints them", err=True)
    if total("rejected"):
        first = next(path for shard in shards if (path := rejects_path(out, shard.number)).exists())
        click.echo(f"{total('rejected'):,} documents cannot be used; {first} and others like it say why", err=True)


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
