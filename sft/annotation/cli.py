"""`sv6d annotate`: raw videos -> structural documents."""

from collections import Counter
from contextlib import closing
from pathlib import Path

import click
import msgspec

from ...data_mixers import lines
from ...schema import Taxonomy
from ..endpoint import Endpoint
from . import store
from .pipeline import Done, Settings, annotate_here, annotate_on_ray
from .questions import ROLE
from .rules import Limits

SUFFIXES = {".mp4", ".mkv", ".webm", ".mov", ".avi"}


@click.command("annotate", short_help="Raw videos -> structural documents, labels pre-filled by a model (3.1.2).")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for documents.jsonl and what else is left.",
)
@click.option("--endpoint", required=True, help="OpenAI-compatible address, as http://host:8000/v1 (vLLM).")
@click.option("--model", required=True, help="The model's name there; it must see pictures.")
@click.option(
    "--dimension", "dimensions", multiple=True, help="Only this dimension; may be given again. [default: all]"
)
@click.option("--skeleton", help="The skeleton whose roles shots are given. [default: the taxonomy's]")
@click.option(
    "--min-confidence",
    default=Limits().confidence,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Labels below go; 0 keeps all.",
)
@click.option(
    "--min-complete",
    default=Limits().complete,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of its labels that a document must keep.",
)
@click.option(
    "--frames", default=4, show_default=True, type=click.IntRange(1), help="Frames of a shot that the model sees."
)
@click.option("--workers", default=8, show_default=True, type=click.IntRange(1), help="Videos at a time.")
@click.option("--ray", metavar="ADDRESS", help="Run on this Ray cluster ('auto': the one here) instead of on threads.")
@click.option(
    "--redo", multiple=True, metavar="DIMENSION", help="Ask this dimension (or `role`) again; may be given again."
)
@click.option(
    "--taxonomy", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A taxonomy of your own."
)
def command(
    folder,
    out,
    endpoint,
    model,
    dimensions,
    skeleton,
    min_confidence,
    min_complete,
    frames,
    workers,
    ray,
    redo,
    taxonomy,
):
    """Annotate the videos in FOLDER: shots by PySceneDetect, labels by a model that is held to the taxonomy, then filters.

    \b
      vllm serve Qwen3-VL-8B-Instruct
      sv6d annotate videos -o annotated --endpoint http://localhost:8000/v1 --model Qwen3-VL-8B-Instruct
      sv6d data synthesize annotated/documents.jsonl --videos videos -o DATA/sft

    The same command goes on where it was ended, asks only about new videos, and judges everything anew: another
    --min-confidence asks the model nothing, another --model asks all. Rejected videos are kept in rejected.jsonl, with the reason.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    told = Taxonomy.load(taxonomy)
    chosen = _known(dimensions, [name for name in told.dimensions], "--dimension") or tuple(told.dimensions)
    skeleton = (_known((skeleton,), [*told.skeletons], "--skeleton") if skeleton else (told.default_skeleton,))[0]
    _known(redo, [*told.dimensions, ROLE], "--redo")
    videos = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not videos:
        raise click.ClickException(f"{folder} holds no video ({', '.join(sorted(SUFFIXES))})")
    limits = Limits(confidence=min_confidence, complete=min_complete)
    settings = Settings(
        Endpoint(endpoint, model), folder.absolute(), chosen, skeleton, limits, frames, taxonomy=taxonomy
    )
    out.mkdir(parents=True, exist_ok=True)
    known = store.load(out, model, redo)
    keep = store.Store(out).add
    work = (
        annotate_on_ray(videos, settings, known, workers, keep, ray)
        if ray
        else annotate_here(videos, settings, known, workers, keep)
    )
    done: list[Done] = []
    columns = (TextColumn("annotating"), BarColumn(), MofNCompleteColumn(), TextColumn("videos"), TimeRemainingColumn())
    with closing(work), Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=len(videos))
        try:
            for one in work:
                done.append(one)
                bar.advance(task)
        finally:
            _write(out, done, videos)
    _report(out, done)
    raise SystemExit(0 if any(one.document for one in done) else 1)


def _known(given: tuple[str, ...], names: list[str], option: str) -> tuple[str, ...]:
    if unknown := [name for name in given if name not in names]:
        raise click.ClickException(f"{option} {unknown[0]}: there are {', '.join(names)}")
    return given


def _write(out: Path, done: list[Done], videos: list[str]) -> None:
    """A run that was ended early leaves what an earlier one wrote of the videos that it did not reach."""
    left = {*videos} - {one.video for one in done}
    kept = [one for one in done if one.document]
    told = {
        "documents": [msgspec.to_builtins(one.document) for one in kept],
        "rejected": [
            {"video": one.video, "reasons": one.reasons, "removed": [removal._asdict() for removal in one.removed]}
            for one in done
            if not one.document
        ],
        "removed": [{"video": one.video, **removal._asdict()} for one in kept for removal in one.removed],
    }
    for name, rows in told.items():
        path = out / f"{name}.jsonl"
        earlier = [row for row in lines.read(path) if row["video"] in left]
        lines.write(path, sorted([*earlier, *rows], key=lambda row: row["video"]))


def _report(out: Path, done: list[Done]) -> None:
    kept = [one for one in done if one.document]
    asked = sum(one.asked for one in done)
    click.echo(f"{len(kept)} documents in {out / 'documents.jsonl'}; {asked} questions were asked anew")
    rules = Counter(removal.rule for one in done for removal in one.removed)
    if rules:
        told = ", ".join(f"{count} by {rule}" for rule, count in rules.most_common())
        click.echo(f"labels taken away: {told} (removed.jsonl)")
    if rejected := [one for one in done if not one.document]:
        click.echo(
            f"{len(rejected)} videos rejected (rejected.jsonl); the first: {rejected[0].video}: {rejected[0].reasons[0]}",
            err=True,
        )
