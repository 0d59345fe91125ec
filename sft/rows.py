"""SFT rows as a run names them: files in, rows by task out (docs/data.md has the format). No torch here."""

from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq

from ..data_mixers.rows import RowError, read_rows
from ..data_mixers.sources import load_rows, row_files

Row = dict[str, Any]
Files = str | Sequence[str]
"""A folder of row files, a file, or a list of either."""


def count_rows(files: Files) -> int:
    """The number of rows in files; of parquet files, from their footers."""
    return sum(
        pq.read_metadata(file).num_rows if file.endswith(".parquet") else len(read_rows(file))
        for file in row_files(files)
    )


def rows_by_task(files: Files) -> dict[str, list[Row]]:
    """All rows by task, media paths absolute, tasks in the order in which the files bring them.

    Raises:
        RowError: a broken row, or one without an assistant turn to learn; the message names the file and the row.
    """
    rows: dict[str, list[Row]] = {}
    for file in row_files(files):
        for number, row in enumerate(load_rows([file])):
            messages = row.get("messages")
            if not messages or messages[-1]["role"] != "assistant":
                raise RowError(
                    f"{file}, row {number}: `messages` does not end with an assistant turn; is it an RL file?"
                )
            rows.setdefault(row["data_source"], []).append(row)
    return rows


def spread(rows: dict[str, list[Row]], samples: int) -> dict[str, list[Row]]:
    """`samples` rows in all, evenly over the tasks, at least one of each; every row when it is not positive."""
    if samples <= 0:
        return rows
    share = max(1, samples // len(rows))
    return {task: own[:share] for task, own in rows.items()}
