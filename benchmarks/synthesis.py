"""Synthesis of question-answer pairs (section 3.1.3): pairs a second a core, beside copying the finished rows.

    python benchmarks/synthesis.py                # 1,000 documents of 10 shots, 40 questions each
    python benchmarks/synthesis.py --documents 200

Times are of the processor, of one process that reads documents, asks, checks every answer by the rewards and writes parquet; the
best of several repeats, as other work on the machine takes caches and clock from it. The floor does nothing but read the finished
rows and write them again, in the same run; the bound is 20,000 pairs a second.
"""

import random
import tempfile
import time
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sv6d.schema import Taxonomy
from sv6d.schema.document import Document, Shot, check_document
from sv6d.sft.synthesis.shards import Settings, plan_shards, prepare, write_shards

SHOTS, SECONDS = 10, 58.0
WHOLE, LABELLED = 0.5, 0.4  # of a document's sub-dimensions are in every shot; of a shot's others


def make_document(rng: random.Random, number: int, taxonomy: Taxonomy) -> Document:
    """A sound document with random labels: subject's pairs that cannot be are drawn again."""
    cuts = sorted(rng.sample(range(10, int(SECONDS * 10)), SHOTS - 1))
    edges = [0.0, *(cut / 10 for cut in cuts), SECONDS]
    roles = taxonomy.skeletons["dramatic_arc"].roles
    acts = sorted(rng.randrange(5) for _ in range(SHOTS))
    names = [(d.name, name) for d in taxonomy.dimensions.values() for name in d.sub_dimensions]
    whole = {sub for sub in names if rng.random() < WHOLE}
    while True:
        shots = [
            Shot(a, b, roles[act], make_labels(rng, taxonomy, whole))
            for a, b, act in zip(edges, edges[1:], acts, strict=False)
        ]
        document = Document(tuple(shots), SECONDS, f"video-{number:05d}.mp4", "dramatic_arc")
        if not any(problem.level == "error" for problem in check_document(document, taxonomy)):
            return document


def make_labels(rng: random.Random, taxonomy: Taxonomy, whole: set[tuple[str, str]]) -> dict:
    labels: dict = {}
    for dimension in taxonomy.dimensions.values():
        for name, sub in dimension.sub_dimensions.items():
            if name == "configuration":  # with framing_type it makes pairs that cannot be
                continue
            if (dimension.name, name) in whole or rng.random() < LABELLED:
                many = sub.cardinality == "many"
                tags = rng.sample(sub.labels, 1 + (many and rng.random() < 0.3))
                labels.setdefault(dimension.name, {})[name] = tags if many else tags[0]
    return labels


@click.command()
@click.option("--documents", default=1000, show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(documents: int, repeats: int, seed: int):
    console, taxonomy, rng = Console(), Taxonomy.load(), random.Random(seed)
    settings = Settings()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "documents.jsonl"
        with console.status("making documents"):
            source.write_text("".join(make_document(rng, i, taxonomy).to_json() + "\n" for i in range(documents)))
        first = Path(folder) / "first.jsonl"  # imports and the words of the taxonomy are made once a run
        first.write_text("".join(source.read_text().splitlines(keepends=True)[:20]))
        synthesize(first, Path(folder) / "warm", settings)
        times, floors, rows = [], [], 0
        for repeat in track(range(repeats), "asking", console=console, transient=True):
            out = Path(folder) / f"out-{repeat}"
            start = time.process_time()
            rows = synthesize(source, out, settings)
            times.append(time.process_time() - start)
            start = time.process_time()
            copy(out)
            floors.append(time.process_time() - start)
        size = sum(file.stat().st_size for file in out.glob("qa-*.parquet"))

    seconds, floor = min(times), min(floors)
    table = Table("", "pairs a second", "us a pair", box=None)
    table.add_row("synthesis, checked and written", f"{rows / seconds:,.0f}", f"{seconds / rows * 1e6:.1f}")
    table.add_row("reading and writing the rows", f"{rows / floor:,.0f}", f"{floor / rows * 1e6:.1f}")
    console.print(table)
    console.print(
        f"{rows:,} pairs of {documents} documents, {size / rows:.0f} bytes a pair; {seconds / floor:.2f} x the floor; "
        f"the slowest of {repeats} repeats: {rows / max(times):,.0f} pairs a second"
    )


def synthesize(source: Path, out: Path, settings: Settings) -> int:
    prepare(out, [source], settings)
    return sum(done.rows for done in write_shards(plan_shards([source], settings.documents), out, settings, workers=1))


def copy(out: Path) -> None:
    for file in out.glob("qa-*.parquet"):
        rows = pq.read_table(file).to_pylist()
        pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(file)), file.with_suffix(".copy"))


if __name__ == "__main__":
    main()
