"""SFT rows as a run names them: files in, rows by task out (docs/data.md has the format). No torch here."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..data_mixers.rows import SFT_SCHEMA, read_rows, resolve_media
from ..data_mixers.sources import row_files

Row = dict[str, Any]
Files = str | Sequence[str]
"""A folder of row files, a file, or a list of either."""


def count_rows(files: Files) -> int:
    """The number of rows in files; of parquet files, from their footers."""
    return sum(
        pq.read_metadata(file).num_rows if file.endswith(".parquet") else len(read_rows(file))
        for file in row_files(files)
    )


class TaskRows(Sequence):
    """The rows of a task, held as Arrow holds them: one becomes a dict when it is asked for. As dicts, 2.5 M small rows take 16 GB,
    in every rank, and once more in every worker that counts references in its copy.

    Args:
        tables: the folder and the content of each file.
        places: int64 (n, 2): of each row, the file and the row in it.
    """

    def __init__(self, tables: list[tuple[Path, pa.Table]], places: np.ndarray):
        self._tables, self._places = tables, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> Row:
        """A row, its media's paths absolute."""
        file, place = map(int, self._places[number])
        folder, table = self._tables[file]
        return resolve_media(table.slice(place, 1).to_pylist()[0], folder)

    def first(self, count: int) -> "TaskRows":
        """The first so many, or as many as there are."""
        return TaskRows(self._tables, self._places[:count])


def rows_by_task(files: Files) -> dict[str, TaskRows]:
    """All rows by task, tasks in the order in which the files bring them.

    Nothing is checked here: a run's launcher has looked at every row (`recipes.running.check_sft`), and its dataset looks at those that it
    draws.
    """
    tables: list[tuple[Path, pa.Table]] = []
    found = defaultdict(list)
    for file in map(Path, row_files(files)):
        table = pq.read_table(file) if file.suffix == ".parquet" else pa.Table.from_pylist(read_rows(file), SFT_SCHEMA)
        for task in pc.unique(table["data_source"]).to_pylist():
            own = np.flatnonzero(pc.equal(table["data_source"], task).to_numpy())
            found[task].append(np.stack([np.full_like(own, len(tables)), own], axis=1))
        tables.append((file.absolute().parent, table))
    return {task: TaskRows(tables, np.concatenate(places)) for task, places in found.items()}


def spread(rows: dict[str, TaskRows], samples: int) -> dict[str, TaskRows]:
    """`samples` rows in all, evenly over the tasks, at least one of each; every row when it is not positive."""
    if samples <= 0:
        return rows
    share = max(1, samples // len(rows))
    return {task: own.first(share) for task, own in rows.items()}
