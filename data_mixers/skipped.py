"""Rows that training could not use: counted, logged once each and listed, never dropped in silence."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from . import lines

logger = logging.getLogger(__name__)


def read_skipped(path: Path) -> list[dict[str, Any]]:
    """What a `skipped_rows.jsonl` lists, in its order; nothing where there is none.

    A line that is not whole, since its writer was killed or its disk full, is passed over.
    """
    return [row for row in lines.read(path) if {"task", "index"} <= row.keys()]


class SkippedRows:
    """The rows of this process that could not be used, by (task, row of the task), each with its reason.

    Args:
        folder: where to append a line for each to `skipped_rows.jsonl` (task, index, id, error), which the report reads;
            None only logs. Several workers, and a resumed run, may list the same row.
    """

    def __init__(self, folder: str | os.PathLike | None):
        self.path = Path(folder) / "skipped_rows.jsonl" if folder else None
        self._reasons: dict[tuple[str, int], str] = {}

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self._reasons

    def __len__(self) -> int:
        return len(self._reasons)

    def count(self) -> int:
        """Rows of the whole run that could not be used: those of this process, and those that any other listed."""
        listed = read_skipped(self.path) if self.path is not None else []
        return len(self._reasons.keys() | {(row["task"], row["index"]) for row in listed})

    def add(self, key: tuple[str, int], row: dict[str, Any], reason: str) -> None:
        """Log and list a row, unless it is known already. On a disk without room it is only logged."""
        if key in self:
            return
        self._reasons[key] = reason
        task, index = key
        line = {"task": task, "index": index, "id": (row.get("extra_info") or {}).get("id"), "error": reason}
        logger.warning(
            "skipped row %d of %s (id %r): %s; another row of its task stands in", index, task, line["id"], reason
        )
        if self.path is not None:
            try:
                self._list(json.dumps(line) + "\n")
            except OSError as error:
                logger.warning("row %d of %s is not in %s: %s", index, task, self.path, error)

    def _list(self, line: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:  # one short write, so that lines of several workers do not mix
            file.write(line)

    def reasons(self, task: str, most: int = 3) -> str:
        """The first reasons of a task, for a message."""
        return "; ".join([f"row {row}: {reason}" for (of, row), reason in self._reasons.items() if of == task][:most])
