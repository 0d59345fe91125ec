"""The demo's rows and media on disk: `rl/`, `sft/` and `heldout/`, one parquet a task, and `media/`.

An item depends on (seed, part, task, index) alone, so more rows or another order change none of it. `dataset.json` is
written last: its existence means that the folder is complete.
"""

import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from zlib import crc32

import av
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ...data_mixers.rows import Example, to_rl_row, to_sft_row, write_rows
from ...schema import validate_ground_truth
from .footage import PHOTOS, RUNS, Stock
from .makers import ANNOTATED, FPS, MAKERS, Item

MANIFEST = "dataset.json"
SAMPLED_FPS = 2.0  # what the model sees of a film: 8 frames of 64 x 64 pixels
PIXELS = {"min_pixels": 4096, "max_pixels": 4096}
VIDEO_OPTIONS = {"fps": SAMPLED_FPS, **PIXELS, "total_pixels": 4096 * 16}


class DatasetError(RuntimeError):
    """The output folder holds another dataset; the message says which and how to go on."""


def make_item(task: str, part: str, index: int, seed: int) -> Item:
    """Item `index` of a task in `rl`, `sft` (both from training footage) or `heldout` (from footage kept apart)."""
    rng = np.random.default_rng([seed, crc32(f"{part}/{task}".encode()), index])
    return MAKERS[task](rng, Stock("heldout" if part == "heldout" else "train"))


def write_film(frames: np.ndarray, path: Path) -> None:
    """An H.264 mp4 of (T, H, W, 3) uint8 frames, 8 a second, every frame kept."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "16"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))


def make_example(task: str, part: str, index: int, seed: int, out: Path) -> Example:
    """Make an item, write its film or still below `<out>/media`, and return it as an example."""
    item = make_item(task, part, index, seed)
    validate_ground_truth(task, item.ground_truth, item.duration)
    path = out / "media" / part / task / f"{index:05d}{'.png' if item.duration is None else '.mp4'}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if item.duration is None:
        Image.fromarray(item.pixels).save(path, compress_level=1)
    else:
        write_film(item.pixels, path)
    return Example(
        task=task,
        media=[str(path)],
        ground_truth=item.ground_truth,
        query=item.query,
        duration=item.duration,
        dataset="demo-footage",
        id=f"{part}/{task}/{index}",
        split="heldout" if part == "heldout" else "train",
        media_options=PIXELS if item.duration is None else VIDEO_OPTIONS,
        thought=item.thought,
    )


def write_task(
    task: str, counts: dict[str, int], seed: int, out: Path, progress: Callable[[], None] = lambda: None
) -> str:
    """All parts of one task: media, then its parquet files. Returns the task."""
    for part, count in counts.items():
        to_row = to_sft_row if part == "sft" else to_rl_row
        rows = []
        for index in range(count):
            rows.append(to_row(make_example(task, part, index, seed, out), index))
            progress()
        write_rows(rows, out / part / f"{task}.parquet")
    return task


def write_dataset(
    out: str | os.PathLike,
    *,
    per_task: int,
    sft_per_task: int,
    heldout_per_task: int,
    seed: int,
    workers: int = 1,
    console: Console | None = None,
) -> dict:
    """Write the demo's dataset for all 13 tasks and return its manifest. Does nothing when `out` holds this very dataset.

    Args:
        per_task, sft_per_task, heldout_per_task: rows of each task in `rl/`, `sft/`, `heldout/`.
        workers: processes that share the tasks.

    Raises:
        DatasetError: `out` holds a complete dataset made with other arguments.
        MissingFootage: a package whose footage is edited is not installed.
    """
    out, console = Path(out).absolute(), console or Console(stderr=True)
    counts = {"rl": per_task, "sft": sft_per_task, "heldout": heldout_per_task}
    asked = {"seed": seed, "rows_per_task": counts}
    made = read_manifest(out)
    if made is not None:
        if {key: made[key] for key in asked} != asked:
            had = {key: made[key] for key in asked}
            raise DatasetError(f"{out} holds another dataset, {had}; remove the folder or give another one")
        console.print(f"{out} is complete: {made['rows']} rows of {len(made['tasks'])} tasks")
        return made
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        total = sum(counts.values())
        bar = progress.add_task("editing footage", total=total * len(MAKERS))
        if workers == 1:
            for task in MAKERS:
                write_task(task, counts, seed, out, lambda: progress.advance(bar))
        else:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                for done in as_completed([pool.submit(write_task, task, counts, seed, out) for task in MAKERS]):
                    done.result()
                    progress.advance(bar, total)
    manifest = {
        **asked,
        "rows": total * len(MAKERS),
        "tasks": {task: list(ANNOTATED[task]) for task in MAKERS},
        "sources": {
            split: {"clips": [run._asdict() for run in RUNS[split].values()], "photos": PHOTOS[split]} for split in RUNS
        },
    }
    partial = out / f".{MANIFEST}.partial"
    partial.write_text(json.dumps(manifest, indent=2))
    partial.replace(out / MANIFEST)
    return manifest


def read_manifest(out: str | os.PathLike) -> dict | None:
    """The manifest of a complete dataset, None where the folder holds none (or was left unfinished)."""
    path = Path(out) / MANIFEST
    return json.loads(path.read_text()) if path.is_file() else None
