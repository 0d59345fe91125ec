"""Synthesis of question-answer pairs (section 3.1.3): pairs a second a core, beside copying the finished rows.

    python benchmarks/synthesis.py                # 1,000 documents of 10 shots, 40 questions each
    python benchmarks/synthesis.py --documents 200

Times are of the processor, of one process that reads documents, asks, checks every answer by the rewards and writes parquet. The
floor does nothing but read the finished rows and write them again, in the same run; the bound is 20,000 pairs a second.
"""

import random
import tempfile
import time
from pathlib import Path

import click
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from sv6d.schema import Taxonomy
from sv6d.schema.document import Document, Shot, check_document
from sv6d.sft.synthesis.shards import Settings, plan_shards, prepare, shard_path, write_shards

SHOTS, SECONDS = 10, 58.0
LABELLED = 0.7  # of a shot's sub-dimensions


def make_document(rng: random.Random, number: int, taxonomy: Taxonomy) -> Document:
    """A sound document with random labels: subject's pairs that cannot be are drawn again."""
    cuts = sorted(rng.sample(range(10, int(SECONDS * 10)), SHOTS - 1))
    edges = [0.0, *(cut / 10 for cut in cuts), SECONDS]
    roles = taxonomy.skeletons["dramatic_arc"].roles
    acts = sorted(rng.randrange(5) for _ in range(SHOTS))
    while True:
        shots = [
            Shot(a, b, roles[act], make_labels(rng, taxonomy))
            for a, b, act in zip(edges, edges[1:], acts, strict=False)
        ]
        document = Document(tuple(shots), SECONDS, f"video-{number:05d}.mp4", "dramatic_arc")
        if not any(problem.level == "error" for problem in check_document(document, taxonomy)):
            return document


def make_labels(rng: random.Random, taxonomy: Taxonomy) -> dict:
    labels: dict = {}
    for dimension in taxonomy.dimensions.values():
        for name, sub in dimension.sub_dimensions.items():
            if name != "configuration" and rng.random() < LABELLED:  # with framing_type it makes pairs that cannot be
                many = sub.cardinality == "many"
                tags = rng.sample(sub.labels, 1 + (many and rng.random() < 0.3))
                labels.setdefault(dimension.name, {})[name] = tags if many else tags[0]
    return labels


@click.command()
@click.option("--documents", default=1000, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(documents: int, seed: int):
    console, taxonomy, rng = Console(), Taxonomy.load(), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "documents.jsonl", Path(folder) / "out"
        with console.status("making documents"):
            source.write_text("".join(make_document(rng, i, taxonomy).to_json() + "\n" for i in range(documents)))
        settings = Settings()
        warm = Path(folder) / "warm"  # imports and the words of the taxonomy are made once a run, not once a pair
        first = source.with_name("first.jsonl")
        first.write_text("".join(source.read_text().splitlines(keepends=True)[:20]))
        prepare(warm, [first], settings)
        list(write_shards(plan_shards([first], settings.documents), warm, settings, workers=1))

        start = time.process_time()
        prepare(out, [source], settings)
        shards = plan_shards([source], settings.documents)
        with console.status("asking"):
            rows = sum(done.rows for done in write_shards(shards, out, settings, workers=1))
        seconds = time.process_time() - start

        start = time.process_time()
        for shard in shards:
            copied = pq.read_table(shard_path(out, shard.number)).to_pylist()
            pq.write_table(
                pq.read_table(shard_path(out, shard.number)).from_pylist(copied), Path(folder) / "copy.parquet"
            )
        floor = time.process_time() - start
        size = sum(shard_path(out, shard.number).stat().st_size for shard in shards)

    table = Table("", "pairs a second", "us a pair", box=None)
    table.add_row("synthesis, checked and written", f"{rows / seconds:,.0f}", f"{seconds / rows * 1e6:.1f}")
    table.add_row("reading and writing the rows", f"{rows / floor:,.0f}", f"{floor / rows * 1e6:.1f}")
    console.print(table)
    console.print(
        f"{rows:,} pairs of {documents} documents, {size / rows:.0f} bytes a pair; {seconds / floor:.2f} x the floor"
    )


if __name__ == "__main__":
    main()
