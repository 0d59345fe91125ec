"""Reading row files for training: every row is checked once, before anything heavy starts.

A broken row stops the run with its place. A few missing media do not (their rows are skipped when drawn); many do.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from ..schema import Taxonomy
from .rows import MissingMedia, RowError, read_rows, validate_row

logger = logging.getLogger(__name__)

MISSING_TOLERANCE = 0.1
"""Share of a task's rows that may lack their media before loading fails."""


def row_files(data_files: str | Path | Iterable[str | Path]) -> list[str]:
    """The parquet files that `data_files` names: a file, a folder of files (in name order), or a list of either."""
    listed = [data_files] if isinstance(data_files, str | Path) else list(data_files)
    files: list[Path] = []
    for path in map(Path, listed):
        inside = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not inside or not inside[0].exists():
            what = "holds no .parquet file" if path.is_dir() else "does not exist"
            raise FileNotFoundError(f"data files: {path} {what}; `sv6d data` writes row files, one a task")
        files += inside
    return [str(file) for file in files]


def load_rows(files: Collection[str | Path], taxonomy: Taxonomy | None = None) -> list[dict[str, Any]]:
    """All rows of the files, media paths absolute, ground truths checked against `taxonomy` (None: the packaged one).

    Raises:
        RowError: any row is broken (the first few are named, with file and row), or more than `MISSING_TOLERANCE` of a
            task's rows lack their media.
    """
    rows: list[dict[str, Any]] = []
    broken: list[str] = []
    missing: dict[str, list[str]] = {}
    for file in map(Path, files):
        for row in read_rows(file):
            try:
                validate_row(row, file.parent, taxonomy)
            except MissingMedia as error:
                missing.setdefault(row["data_source"], []).append(f"{file}: {error}")
            except RowError as error:
                broken.append(f"{file}: {error}")
            rows.append(row)
    if not rows:
        raise RowError(f"the row files hold no row: {', '.join(map(str, files))}")
    if broken:
        raise RowError(f"{len(broken)} of {len(rows)} rows are broken:\n" + _listing(broken))
    _judge_missing(missing, Counter(row["data_source"] for row in rows))
    return rows


def _judge_missing(missing: dict[str, list[str]], sizes: Counter) -> None:
    for task, errors in missing.items():
        message = f"{len(errors)} of {sizes[task]} rows of {task} lack their media"
        if len(errors) > MISSING_TOLERANCE * sizes[task]:
            raise MissingMedia(f"{message}; was the media folder moved without the row files?\n{_listing(errors)}")
        logger.warning("%s; they will be skipped:\n%s", message, _listing(errors))


def _listing(errors: list[str], most: int = 5) -> str:
    more = [f"... and {len(errors) - most} more"] if len(errors) > most else []
    return "\n".join([*errors[:most], *more])
