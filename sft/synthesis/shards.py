"""Documents in, sharded SFT rows out: streamed, by several processes, resumable, the same files whoever writes them.

A shard is a run of consecutive documents; it is written whole or not at all, so a run that was cut short goes on with the
shards that are missing. Documents that cannot be used are listed beside it, with file, line and reason.
"""

import hashlib
import json
import multiprocessing
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from ...data_mixers import lines
from ...data_mixers.rows import SFT_SCHEMA
from ...data_mixers.whole import written_whole
from ...schema import Taxonomy
from ...schema.document import Document, DocumentError, Problem, examine_document
from .check import Checker
from .generate import Generator, Plan
from .phrasing import Phraser, Phrasing, Tally
from .questions import QA
from .rows import Rows
from .templates import Templates

DOCUMENTS = 500
"""Documents of a shard: 20,000 rows of 40 questions each."""
GROUP = 4000
"""Rows that are held before they are written: more would be moved through memory anew, at more cost than to make them."""
MANIFEST = "synthesis.json"
METADATA = b"synthesis"
"""Of a shard's file: what it came to."""


class SynthesisError(ValueError):
    """Documents that are not there, or an output folder of other settings; the message says which and what to do."""


class Settings(NamedTuple):
    """What the output depends on; paths are those of the files that say it, None for the packaged ones."""

    plan: Plan = Plan()
    templates: Path | None = None
    taxonomy: Path | None = None
    videos: Path = Path()
    """The folder that the documents' `video` names start from."""
    documents: int = DOCUMENTS
    """A shard's documents."""
    phrasing: Phrasing | None = None
    """None: all in the words of the templates."""


class Shard(NamedTuple):
    """A run of documents in one file."""

    number: int
    file: Path
    offset: int
    """Where its first line begins, in bytes."""
    line: int
    """Its first line, from 1."""
    first: int
    """Its first document's place among all, from 0."""


class Written(NamedTuple):
    """What a shard came to."""

    rows: int
    documents: int
    rejected: int
    warned: int = 0
    """Documents that were used and have warnings."""
    phrased: int = 0
    """Pairs in a model's words."""
    refused: int = 0
    """Pairs whose rephrasing was refused."""
    failed: int = 0
    """Pairs about which the endpoint did not answer."""
    why: tuple[str, ...] = ()
    """The first refusal and the first failure."""


def plan_shards(files: list[Path], documents: int) -> list[Shard]:
    """Cut the documents (a JSON object a line) into shards; a shard lies in one file. Reads the files once.

    Raises:
        SynthesisError: no file, or one that is not there.
    """
    if not files:
        raise SynthesisError("no documents: give files with a structural document a line (.jsonl), or folders of them")
    shards: list[Shard] = []
    total = 0
    for file in files:
        if not file.is_file():
            raise SynthesisError(f"{file}: no such file of documents")
        offset, count = 0, 0
        with file.open("rb") as text:
            for number, line in enumerate(text, 1):
                if line.strip():
                    if count % documents == 0:
                        shards.append(Shard(len(shards), file, offset, number, total + count))
                    count += 1
                offset += len(line)
        total += count
    return shards


def prepare(out: Path, files: list[Path], settings: Settings) -> None:
    """Make the output folder, or recognise it as this run's.

    Raises:
        SynthesisError: it holds the output of other documents or settings.
    """
    told = json.dumps(_identity(files, settings), indent=1)
    manifest = out / MANIFEST
    if manifest.exists() and manifest.read_text() != told:
        raise SynthesisError(
            f"{out} holds the output of other documents or settings ({manifest}); choose another folder"
        )
    if not manifest.exists() and out.is_dir() and any(out.iterdir()):
        raise SynthesisError(f"{out} is not empty and no output of ours; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    manifest.write_text(told)


def write_shards(shards: list[Shard], out: Path, settings: Settings, workers: int) -> Iterator[Written]:
    """Write every shard that is not there yet; yields what each came to, as they are done."""
    jobs = [(shard, out, settings) for shard in shards]
    if workers <= 1:
        yield from map(_write, jobs)
        return
    # spawn: the threads of pyarrow do not survive a fork
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(_write, jobs)


def shard_path(out: Path, number: int) -> Path:
    return out / f"qa-{number:05d}.parquet"


def rejects_path(out: Path, number: int) -> Path:
    return out / f"qa-{number:05d}.rejected.jsonl"


def phrasings_path(out: Path, number: int) -> Path:
    return out / f"qa-{number:05d}.phrasings.jsonl"


def _write(job: tuple[Shard, Path, Settings]) -> Written:
    shard, out, settings = job
    path, rejects = shard_path(out, shard.number), rejects_path(out, shard.number)
    if path.exists():
        told = json.loads(pq.read_metadata(path).metadata[METADATA])
        return Written(**{**told, "why": tuple(told["why"])})
    generator, checker = _tools(settings)
    rows, bad, warned = Rows(generator.templates.systems, settings.videos), [], []
    asked, tally = _ask(shard, settings, generator, bad, warned), Tally()
    if settings.phrasing:
        phraser = Phraser(settings.phrasing, phrasings_path(out, shard.number), generator.vocabulary.taxonomy)
        asked, tally = phraser.phrase(asked), phraser.tally
    documents = pairs = 0
    with written_whole(path) as partial, pq.ParquetWriter(partial, SFT_SCHEMA, compression="zstd") as file:
        for document, qas in asked:
            checker.check(qas)
            rows.add(qas, document)
            documents, pairs = documents + 1, pairs + len(qas)
            if len(rows) >= GROUP:
                file.write_table(rows.take())
        if len(rows):
            file.write_table(rows.take())
        why = tuple(tally.first[what] for what in sorted(tally.first))
        told = (tally.phrased, tally.refused, tally.failed, why)
        done = Written(pairs, documents + len(bad), len(bad), len(warned), *told)
        file.add_key_value_metadata({METADATA: json.dumps(done._asdict())})
        if bad:  # before the rows, which say that the shard is done
            lines.write(rejects, bad)
    return done


def _ask(
    shard: Shard, settings: Settings, generator: Generator, bad: list[dict[str, Any]], warned: list[int]
) -> Iterator[tuple[Document, list[QA]]]:
    """The questions of each document; those that cannot be used are left in `bad`, the lines of those with warnings in `warned`."""
    for place, (line, text) in enumerate(_lines(shard, settings.documents)):
        try:
            document, warnings = sound_document(text, generator.vocabulary.taxonomy)
        except DocumentError as error:
            bad.append({"file": str(shard.file), "line": line, "reason": str(error)})
            continue
        if warnings:
            warned.append(line)
        yield document, generator.questions(document, shard.first + place)


@cache
def _tools(settings: Settings) -> tuple[Generator, Checker]:
    """Once a process."""
    taxonomy = Taxonomy.load(settings.taxonomy)
    templates = Templates(settings.templates) if settings.templates else Templates.packaged()
    return Generator(settings.plan, taxonomy, templates), Checker(taxonomy)


def _lines(shard: Shard, documents: int) -> Iterator[tuple[int, bytes]]:
    with shard.file.open("rb") as file:
        file.seek(shard.offset)
        numbered = ((number, line) for number, line in enumerate(file, shard.line) if line.strip())
        yield from islice(numbered, documents)


def sound_document(text: bytes, taxonomy: Taxonomy) -> tuple[Document, list[Problem]]:
    """A document without errors, and its warnings.

    Raises:
        DocumentError: what is wrong with it, all of it.
    """
    document, problems = examine_document(text, taxonomy)
    errors = [str(problem) for problem in problems if problem.level == "error"]
    if document is None or errors:
        raise DocumentError("; ".join(errors))
    return document, problems


def _identity(files: list[Path], settings: Settings) -> dict[str, Any]:
    def digest(path: Path | None) -> str | None:
        if path is None:
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return {
        "documents": [[file.name, digest(file)] for file in files],
        "plan": {**settings.plan._asdict(), "weights": dict(settings.plan.weights)},
        "templates": digest(settings.templates),
        "taxonomy": digest(settings.taxonomy),
        "videos": str(settings.videos),
        "documents_a_shard": settings.documents,
        "phrasing": settings.phrasing and [settings.phrasing.model, settings.phrasing.share],
    }
