"""Rollouts of our recorder: `rollouts/step-*.parquet` and `rollouts/steps-*.parquet`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..parts import ROLLOUTS, Part, part_of, valid_parts
from ..recorder import TEXTS, schema
from .source import CATEGORIES, Source

LOOKS = 3  # a run that goes on may bundle its parts between two looks


def find(file: Path) -> bool:
    return file.parent.name == ROLLOUTS and part_of(file) is not None


def run_of(file: Path) -> Path:
    return file.parent.parent


def read(files: list[Path]) -> Source:
    """The rollouts of the run that these files belong to, whatever became of the files since they were found."""
    run = run_of(files[0])
    columns = [name for name in schema().names if name not in TEXTS]
    table, damaged = _read_all(run / ROLLOUTS, lambda part, steps: _read(part, steps, columns))
    rollouts = None
    if table is not None:
        held = [name for name in CATEGORIES if name in table.column_names]
        rollouts = table.to_pandas(categories=held, split_blocks=True, self_destruct=True)
    return Source(
        "sv6d's recorder", rollouts=rollouts, damaged=damaged, texts=partial(_texts, run / ROLLOUTS), folder=run
    )


def _texts(folder: Path, uids: set[str] | None, steps: set[int] | None) -> pd.DataFrame:
    asked = pc.field("response").is_valid()
    if uids is not None:
        asked &= pc.field("uid").isin(pa.array(sorted(uids), pa.string()))
    if steps is not None:
        asked &= pc.field("step").isin(pa.array(sorted(steps), pa.int64()))
    columns = ["step", "uid", *TEXTS]

    def texts(part: Part, elsewhere: set[int]) -> pa.Table | None:
        if steps is not None and not any(part.first <= step <= part.last for step in steps):
            return None
        table = _read(part, elsewhere, columns)
        return table.filter(asked) if "response" in table.column_names else None

    table, _ = _read_all(folder, texts)  # what is damaged was said when the run was opened
    found = pd.DataFrame(columns=columns) if table is None else table.to_pandas()
    return found.reindex(columns=columns)


def _read_all(
    folder: Path, read: Callable[[Part, set[int]], pa.Table | None]
) -> tuple[pa.Table | None, tuple[str, ...]]:
    """What `read` (a part, steps of it that stand elsewhere) makes of every file, in the order of steps."""
    for look in range(LOOKS):
        parts = valid_parts(folder)
        single = {part.first for part in parts if not part.bundled}
        tables, damaged = [], []
        try:
            for part in parts:
                try:
                    tables.append(read(part, single if part.bundled else set()))
                except FileNotFoundError:
                    raise
                except (pa.ArrowException, OSError) as error:
                    reason = str(error).splitlines()[0]
                    damaged.append(f"{ROLLOUTS}/{part.path.name} cannot be read ({reason}) and is left out; delete it.")
            break
        except FileNotFoundError:
            if look == LOOKS - 1:
                raise
    tables = [table for table in tables if table is not None]
    if not tables:
        return None, tuple(damaged)
    table = pa.concat_tables(tables, promote_options="default")
    # They are out of order where steps were written again after they had been bundled.
    in_order = bool((np.diff(table["step"].to_numpy()) >= 0).all())
    return table if in_order else table.sort_by("step"), tuple(damaged)


def _read(part: Part, elsewhere: set[int], columns: list[str]) -> pa.Table:
    with pq.ParquetFile(part.path) as file:
        table = file.read([name for name in file.schema_arrow.names if name in columns])
    twice = [step for step in elsewhere if part.first <= step <= part.last]
    return table.filter(~pc.field("step").isin(pa.array(twice, pa.int64()))) if twice else table
