"""The rows that `sv6d score` writes: streamed, by the ending jsonl or parquet; the file appears whole or not at all."""

import json
import os
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..families import COMPONENTS
from .rescore import Scored

SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),
        ("id", pa.string()),
        ("task", pa.string()),
        ("response", pa.string()),
        ("ground_truth", pa.string()),
        ("recorded", pa.float64()),
        *((name, pa.float64()) for name in COMPONENTS),
        ("problem", pa.string()),
    ]
)
"""`recorded` is the score that stood in the file, `problem` why a row could not be scored."""


class ScoredFile:
    """A context manager; on an error inside, what was there before stays."""

    def __init__(self, path: Path):
        self.path = path
        self._partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        self._parquet = path.suffix == ".parquet"

    def __enter__(self) -> "ScoredFile":
        if self._parquet:
            self._file = pq.ParquetWriter(self._partial, SCHEMA, compression="zstd")
        else:
            self._file = self._partial.open("w", encoding="utf-8")
        return self

    def write(self, rows: Sequence[Scored]) -> None:
        """Append scored rows."""
        if self._parquet:
            self._file.write_table(pa.Table.from_pylist([_record(row, _writable) for row in rows], schema=SCHEMA))
        else:
            self._file.writelines(json.dumps(_record(row, _or_null)) + "\n" for row in rows)

    def __exit__(self, kind, error, trace) -> None:
        self._file.close()
        if kind is None:
            os.replace(self._partial, self.path)
        else:
            self._partial.unlink()


def _record(scored: Scored, convert) -> dict[str, Any]:
    rollout = scored.rollout
    row = {name: getattr(rollout, name) for name in ("row", "id", "task", "response", "ground_truth", "recorded")}
    row |= {"file": str(rollout.file), "problem": scored.problem, **scored.components}
    return {name: convert(row[name]) for name in SCHEMA.names}


def _or_null(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and isnan(value) else value


def _writable(value: Any) -> Any:
    """Parquet is UTF-8, which has no lone surrogates."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
