"""The files of recorded rollouts: a parquet part a step, and bundles of older steps, so that a long run stays few files.

`step-000012.parquet` holds step 12, `steps-000001-000050.parquet` 50 steps, a row group each. A file is whole or absent,
whatever kills its writer. Where a step stands in both, the part is right: it was written again, or its writer was killed
between making a bundle and removing the parts.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

ROLLOUTS = "rollouts"
BUNDLED = 50  # steps in a bundle
_NAME = re.compile(r"step-(\d+)\.parquet|steps-(\d+)-(\d+)\.parquet")


class Part(NamedTuple):
    """A file and the steps that it holds, both ends included."""

    path: Path
    first: int
    last: int

    @property
    def bundled(self) -> bool:
        return self.path.name.startswith("steps-")


def part_name(step: int) -> str:
    return f"step-{step:06d}.parquet"


def part_of(path: Path) -> Part | None:
    """What a file holds by its name; None for one that is neither part nor bundle."""
    if match := _NAME.fullmatch(path.name):
        first = match[1] or match[2]
        return Part(path, int(first), int(match[3] or first))
    return None


def find_parts(folder: Path) -> list[Part]:
    """The parts and bundles in a folder by their first step, a bundle before the parts of its steps."""
    found = filter(None, map(part_of, folder.iterdir() if folder.is_dir() else ()))
    return sorted(found, key=lambda part: (part.first, not part.bundled, part.last))


def valid_parts(folder: Path) -> list[Part]:
    """Those that count: of bundles that begin alike the shorter, because the writer was killed while it cut the other."""
    found: dict[tuple[int, bool], Part] = {}
    for part in find_parts(folder):
        found.setdefault((part.first, part.bundled), part)
    return list(found.values())


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file under another name, flushes it to the disk and renames it: readers see the old file or the new one.

    Raises:
        OSError: it could not be written; nothing is left of it.
    """
    tmp = path.with_suffix(".tmp")
    try:
        with open(tmp, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(tmp, path)
    except BaseException:
        with contextlib.suppress(OSError):
            tmp.unlink()
        raise


def bundle_oldest(folder: Path, schema: pa.Schema) -> bool:
    """Bundles the oldest parts once there are twice as many as a bundle takes; says whether it did.

    Parts that stand beside a bundle of their step stay. So does one that cannot be read, with those around it.

    Raises:
        OSError, pa.ArrowException: the bundle could not be written, or a part not be read; all parts are still there.
    """
    parts = find_parts(folder)
    bundles = [part for part in parts if part.bundled]
    single = [p for p in parts if not p.bundled and not any(b.first <= p.first <= b.last for b in bundles)]
    if len(single) < 2 * BUNDLED:
        return False
    _merge(folder, single[:BUNDLED], schema)
    return True


def cut_after(folder: Path, step: int, schema: pa.Schema) -> None:
    """Removes everything after `step`; of a bundle that goes on, the steps before stay. One that cannot be read stays too."""
    for part in find_parts(folder):
        if part.first > step:
            part.path.unlink()
        elif part.last > step:
            with contextlib.suppress(pa.ArrowInvalid):
                _merge(folder, [part], schema, last=step)


def _merge(folder: Path, parts: Iterable[Part], schema: pa.Schema, last: int | None = None) -> None:
    """Makes one bundle of the parts' steps up to `last`, then removes the parts."""
    files = [pq.ParquetFile(part.path) for part in parts]
    groups = [(step, file, i) for file in files for i, step in _steps(file) if last is None or step <= last]
    groups.sort(key=lambda group: group[0])

    def write(out: BinaryIO) -> None:
        with pq.ParquetWriter(out, schema, compression="zstd") as writer:
            for _, file, i in groups:
                writer.write_table(_fitted(file.read_row_group(i), schema))

    target = folder / f"steps-{groups[0][0]:06d}-{groups[-1][0]:06d}.parquet"
    write_whole(target, write)
    for part in parts:
        if part.path != target:
            part.path.unlink()


def _steps(file: pq.ParquetFile) -> list[tuple[int, int]]:
    """The place of each row group and its step, of which each holds a single one; without those that have no rows."""
    column = file.schema_arrow.get_field_index("step")
    groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    return [(i, group.column(column).statistics.min) for i, group in enumerate(groups) if group.num_rows]


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns of `schema`; those that it lacks, of an older recorder, are null."""
    held = set(table.column_names)
    columns = [table[f.name].cast(f.type) if f.name in held else pa.nulls(len(table), f.type) for f in schema]
    return pa.table(columns, schema=schema)
