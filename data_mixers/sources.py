"""Reading row files for training: every row is checked once, before anything heavy starts.

A few broken rows, or rows without their media, do not stop a run: the next row of their task stands in when they are drawn
(`sv6d.data_mixers.verl_dataset`). Many do, and so does a row of no task, with their place.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from ..schema import TASKS, Taxonomy
from .rows import MissingMedia, RowError, UnknownTask, read_rows, validate_row

logger = logging.getLogger(__name__)

TOLERANCE = 0.1
"""Share of a task's rows that may be broken, or lack their media, before loading fails."""

BESIDE = (".bad.jsonl", ".rejected.jsonl", ".phrasings.jsonl", ".replies.jsonl")
"""How the names of files end that lie beside rows and hold none: what could not be used, and what a model said."""

MOVED = "was the media folder moved without the row files?"


class Inspection(NamedTuple):
    """What a look at every row of some row files finds.

    Attributes:
        rows: all rows, media paths absolute.
        broken: why a row cannot be trained on, by its index in `rows`; those of the next two are not among them.
        missing: rows that only lack media files.
        homeless: rows of no task.
    """

    rows: list[dict[str, Any]]
    broken: dict[int, str]
    missing: dict[int, str]
    homeless: dict[int, str]


class Rows(NamedTuple):
    """What row files hold.

    Attributes:
        rows: all rows, media paths absolute.
        broken: why a row cannot be trained on, by its index in `rows`; missing media are not among them.
    """

    rows: list[dict[str, Any]]
    broken: dict[int, str]


def row_files(data_files: str | Path | Iterable[str | Path], deep: bool = False) -> list[str]:
    """The row files that `data_files` names: a file, a folder of files (in name order), or a list of either.

    Args:
        deep: also those in folders of a folder.

    Raises:
        FileNotFoundError: a path that is not there, or a folder without a row file.
    """
    listed = [data_files] if isinstance(data_files, str | Path) else list(data_files)
    files: list[Path] = []
    for path in map(Path, listed):
        inside = [path]
        if path.is_dir() and not _is_saved_dataset(path):
            inside = sorted(filter(is_row_file, path.rglob("*") if deep else path.iterdir()))
        if not inside or not inside[0].exists():
            what = "holds no .parquet or .jsonl file and no saved dataset" if path.is_dir() else "does not exist"
            raise FileNotFoundError(f"data files: {path} {what}; `sv6d data` writes row files, one a task")
        files += inside
    return [str(file) for file in files]


def is_row_file(path: Path) -> bool:
    """Whether a path in a folder of rows is a row file: a .parquet file, a .jsonl file that is none of those `BESIDE`, or a
    folder that `datasets.Dataset.save_to_disk` wrote."""
    return (path.suffix in {".parquet", ".jsonl"} and not path.name.endswith(BESIDE)) or _is_saved_dataset(path)


def count_tasks(files: Collection[str | Path]) -> dict[str, int]:
    """Rows by task of the files, without a look at them, in the order in which a mixture has the tasks (`task_order`)."""
    counts: Counter[str] = Counter()
    for file in map(str, files):
        if file.endswith(".parquet"):
            counts.update(pq.read_table(file, columns=["data_source"])["data_source"].to_pylist())
        else:
            counts.update(row["data_source"] for row in read_rows(file))
    return {task: counts[task] for task in task_order(counts)}


def task_order(tasks: Iterable[str]) -> list[str]:
    """The 13 tasks in their own order, then those of other packages by name."""
    named = set(tasks)
    return [*(task for task in TASKS if task in named), *sorted(named - TASKS.keys())]


def examine_rows(files: Collection[str | Path], taxonomy: Taxonomy | None = None) -> Rows:
    """All rows of the files, and which of them are broken.

    Args:
        taxonomy: the canonical tags of the ground truths; None for the packaged taxonomy.

    Raises:
        RowError: there is no row; a row is of no task; more than `TOLERANCE` of a task's rows are broken, or lack their
            media. The first few are named with file and row.
    """
    rows, broken, missing, homeless = inspect_rows(files, taxonomy)
    _refuse(homeless, rows)
    _judge(broken, rows, RowError, "are broken", "mend or remove them")
    _judge(missing, rows, MissingMedia, "lack their media", MOVED)
    return Rows(rows, broken)


def load_rows(files: Collection[str | Path], taxonomy: Taxonomy | None = None) -> list[dict[str, Any]]:
    """All rows of the files; as `examine_rows`, but a single broken row is refused.

    Raises:
        RowError: any row is broken, or more than `TOLERANCE` of a task's rows lack their media.
    """
    rows, broken, missing, homeless = inspect_rows(files, taxonomy)
    _refuse(homeless | broken, rows)
    _judge(missing, rows, MissingMedia, "lack their media", MOVED)
    return rows


def inspect_rows(files: Collection[str | Path], taxonomy: Taxonomy | None = None) -> Inspection:
    """All rows of the files and what is wrong with each; refuses nothing that can be read.

    Raises:
        RowError: a file cannot be read as rows, or there is no row.
    """
    rows: list[dict[str, Any]] = []
    broken: dict[int, str] = {}
    missing: dict[int, str] = {}
    homeless: dict[int, str] = {}
    for file in map(Path, files):
        for row in read_rows(file):
            try:
                validate_row(row, file.parent, taxonomy)
            except MissingMedia as error:
                missing[len(rows)] = f"{file}: {error}"
            except UnknownTask as error:
                homeless[len(rows)] = f"{file}: {error}"
            except RowError as error:
                broken[len(rows)] = f"{file}: {error}"
            rows.append(row)
    if not rows:
        raise RowError(f"the row files hold no row: {', '.join(map(str, files))}")
    return Inspection(rows, broken, missing, homeless)


def _refuse(broken: dict[int, str], rows: list[dict[str, Any]]) -> None:
    if broken:
        raise RowError(f"{len(broken)} of {len(rows)} rows are broken:\n" + _listing(list(broken.values())))


def _judge(found: dict[int, str], rows: list[dict[str, Any]], kind: type[RowError], what: str, mend: str) -> None:
    """Refuse what many rows of a task have, tell what a few have."""
    sizes = Counter(row["data_source"] for row in rows)
    by_task: dict[str, list[str]] = {}
    for index, reason in found.items():
        by_task.setdefault(rows[index]["data_source"], []).append(reason)
    for task, reasons in by_task.items():
        message = f"{len(reasons)} of {sizes[task]} rows of {task} {what}"
        if len(reasons) > TOLERANCE * sizes[task]:
            raise kind(f"{message}; {mend}\n{_listing(reasons)}")
        logger.warning("%s; they will be skipped:\n%s", message, _listing(reasons))


def _is_saved_dataset(path: Path) -> bool:
    return (path / "dataset_info.json").is_file()


def _listing(errors: list[str], most: int = 5) -> str:
    more = [f"... and {len(errors) - most} more"] if len(errors) > most else []
    return "\n".join([*errors[:most], *more])
