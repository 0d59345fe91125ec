"""`sv6d data documents`: check structural documents (eq. 4) and say what is wrong with each, where, and how to mend it."""

from collections.abc import Iterator
from pathlib import Path

import click

from .document import examine_document
from .taxonomy import Taxonomy


@click.command("documents")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--taxonomy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A taxonomy of your own, with its skeletons.",
)
@click.option("--skeletons", is_flag=True, help="Also print each document's skeleton segments (Definition 2).")
def command(files: tuple[Path, ...], taxonomy: Path | None, skeletons: bool):
    """Check structural documents: FILES with a document a line (.jsonl) or one each (.json), or folders of them.

    \b
      sv6d data documents annotated/documents.jsonl

    Every violation is printed with file, line, place and mend. Exit status 1: a document has an error, or there is none.
    """
    told = Taxonomy.load(taxonomy)
    found = [
        f
        for path in files
        for f in (sorted([*path.rglob("*.json"), *path.rglob("*.jsonl")]) if path.is_dir() else [path])
    ]
    documents = bad = 0
    for where, text in (entry for file in found for entry in _texts(file)):
        documents += 1
        document, problems = examine_document(text, told)
        for problem in problems:
            click.echo(f"{where}: {problem}")
        if document and skeletons:
            runs = (f"{s.role or '-'} {s.start:g}-{s.end:g}" for s in document.skeleton)
            click.echo(f"{where}: {document.skeleton_type or told.default_skeleton}: {', '.join(runs)}")
        bad += any(problem.level == "error" for problem in problems)
    click.echo(f"{documents} documents, {bad} with errors")
    raise SystemExit(1 if bad or not documents else 0)


def _texts(file: Path) -> Iterator[tuple[str, bytes]]:
    """(file and line, JSON text) of each document."""
    if file.suffix == ".json":
        yield str(file), file.read_bytes()
        return
    with file.open("rb") as lines:
        yield from ((f"{file}, line {number}", line) for number, line in enumerate(lines, 1) if line.strip())
