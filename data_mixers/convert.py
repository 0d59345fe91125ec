"""Annotations of a public data set -> rows of the training format, with everything that could not be used listed beside them."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..schema import TaskError, validate_ground_truth
from .readers import BadRow, Reader, Source
from .rows import Example, RowError, to_rl_row, to_sft_row, write_rows


class Converted(NamedTuple):
    """What a conversion came to."""

    rows: Counter
    """Rows by task."""
    bad: list[BadRow]
    files: list[Path]


def convert(
    reader: Reader,
    source: Source,
    out: Path,
    name: str,
    sft: bool = False,
    need_media: bool = True,
    advance: Callable[[], None] = lambda: None,
) -> Converted:
    """Write `<out>/rl/<name>.parquet`, and `<out>/sft/<name>.parquet` where asked; bad annotations go to `<out>/<name>.bad.jsonl`.

    Each row is checked: a task's form, canonical tags, times inside the video, and that its media are there.

    Args:
        source: its `split` chooses the folder: rows of `heldout` go to `<out>/heldout`.
        sft: also write rows with the answer to learn.
        need_media: whether a row whose media are missing is a bad one.
        advance: called for each annotation.

    Raises:
        ValueError: a file that is not of its format at all.
    """
    bad: list[BadRow] = []
    examples: list[Example] = []
    for found in reader.read(source):
        advance()
        if isinstance(found, BadRow):
            bad.append(found)
        elif reason := _fault(found, need_media):
            bad.append(BadRow(f"{found.dataset}", found.id, reason))
        else:
            examples.append(found)
    folder = "rl" if source.split == "train" else "heldout"
    files = []
    if examples:
        files.append(write_rows((to_rl_row(e, i) for i, e in enumerate(examples)), out / folder / f"{name}.parquet"))
    if examples and sft:
        files.append(write_rows((to_sft_row(e, i) for i, e in enumerate(examples)), out / "sft" / f"{name}.parquet"))
    _list(bad, out / f"{name}.bad.jsonl")
    return Converted(Counter(example.task for example in examples), bad, files)


def _fault(example: Example, need_media: bool) -> str | None:
    """Why an example is no row; None where it is one."""
    try:
        to_rl_row(example, 0)
        validate_ground_truth(example.task, example.ground_truth, example.duration)
    except (RowError, TaskError, ValueError) as error:
        return str(error)
    missing = [path for path in example.media if need_media and not os.path.exists(path)]
    return f"{missing[0]} is missing" if missing else None


def _list(bad: list[BadRow], path: Path) -> None:
    path.unlink(missing_ok=True)
    if bad:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row._asdict()) + "\n" for row in bad))
