"""`sv6d data caption`: dual-view dense captions of structural documents (figure 2)."""

from collections import Counter
from contextlib import closing
from pathlib import Path
from random import Random

import click
import pyarrow.parquet as pq

from ...data_mixers import lines
from ...data_mixers.whole import written_whole
from ...schema import Taxonomy
from ...schema.document import Document, DocumentError
from ..endpoint import Endpoint
from .captions import Captioned, Captioner
from .cli import document_files, videos_root
from .questions import QA, Wording, pick
from .rows import Rows
from .shards import sound_document
from .templates import TemplateError, Templates


@click.command("caption")
@click.argument("documents", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for captions.parquet and the rest."
)
@click.option("--endpoint", required=True, help="OpenAI-compatible address, as http://host:8000/v1 (vLLM).")
@click.option("--model", required=True, help="The model's name there; it must see pictures.")
@click.option(
    "--videos",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that the documents' `video` names start from. [default: the first documents']",
)
@click.option(
    "--frames", default=2, show_default=True, type=click.IntRange(1), help="Frames of a shot that the model sees."
)
@click.option("--workers", default=8, show_default=True, type=click.IntRange(1), help="Videos at a time.")
@click.option(
    "--templates",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Wordings and system prompts of your own.",
)
@click.option(
    "--taxonomy", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A taxonomy of your own."
)
def command(documents, out, endpoint, model, videos, frames, workers, templates, taxonomy):
    """Write two captions of each of the structural DOCUMENTS: an expressive one, and an info-dense one.

    \b
      sv6d data caption annotated/documents.jsonl --videos videos -o DATA/captions \\
          --endpoint http://localhost:8000/v1 --model Qwen3-VL-8B-Instruct

    The info-dense view must give each shot's times in order and name no tag that the document contradicts; captions that fail are
    kept in captions.rejected.jsonl, with the reason. What the model wrote is kept in captions.replies.jsonl: the same
    command asks only about what is new, and judges everything anew.
    """
    from rich.console import Console
    from rich.progress import track

    told = Taxonomy.load(taxonomy)
    try:
        words = Templates(templates) if templates else Templates.packaged()
        sound, bad = _read(document_files(documents), told)
        out.mkdir(parents=True, exist_ok=True)
        root = videos_root(videos, documents)
        captioner = Captioner(Endpoint(endpoint, model), out / "captions.replies.jsonl", root, told, frames)
    except (TemplateError, ImportError) as error:
        raise click.ClickException(str(error)) from error
    done: dict[str, Captioned] = {}
    with closing(captioner.captions(sound, workers)) as work:
        for one in track(work, "captioning", len(sound), console=Console(stderr=True)):
            done[one.document.to_json()] = one
    in_order = [done[document.to_json()] for document in sound]
    _write(out, in_order, bad, words, root)
    _report(out, in_order, bad)
    raise SystemExit(0 if any(not caption.reason for one in in_order for caption in one.captions) else 1)


def _read(files: list[Path], taxonomy: Taxonomy) -> tuple[list[Document], list[dict]]:
    """The sound documents, each once, and what is wrong with the others."""
    sound: dict[str, Document] = {}
    bad = []
    for file in files:
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            if line.strip():
                try:
                    document, _ = sound_document(line, taxonomy)
                    sound[document.to_json()] = document
                except DocumentError as error:
                    bad.append({"file": str(file), "line": number, "reason": str(error)})
    return [*sound.values()], bad


def _write(out: Path, done: list[Captioned], bad: list[dict], words: Templates, root: Path) -> None:
    rows = Rows(words.systems, root)
    for one in done:
        good = [caption for caption in one.captions if not caption.reason]
        qas = []
        for caption in good:
            kind = f"caption.{caption.view}"
            question = pick(Random(f"{one.document.video}/{kind}"), words.wordings[kind])
            qas.append(QA(kind, "chain_of_thought", question, caption.text, caption.text, (), Wording(question, {})))
        rows.add(qas, one.document)
        bad += [
            {"video": one.document.video, "view": caption.view, "reason": caption.reason, "caption": caption.text}
            for caption in one.captions
            if caption.reason
        ]
    with written_whole(out / "captions.parquet") as partial:
        pq.write_table(rows.take(), partial, compression="zstd")
    lines.write(out / "captions.rejected.jsonl", bad)


def _report(out: Path, done: list[Captioned], bad: list[dict]) -> None:
    kept = Counter(caption.view for one in done for caption in one.captions if not caption.reason)
    asked = sum(one.asked for one in done)
    click.echo(
        f"{kept['expressive']} expressive and {kept['dense']} info-dense captions of {len(done)} documents in "
        f"{out / 'captions.parquet'}; {asked} were asked for anew"
    )
    if bad:
        click.echo(f"{len(bad)} cannot be used (captions.rejected.jsonl); the first: {bad[0]['reason']}", err=True)
