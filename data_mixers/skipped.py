"""Rows that training could not use: counted, logged once each and listed, never dropped in silence."""

import json
import logging
import os
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


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
        """Rows of the whole run that could not be used: those that any process listed; without a list, those of this one."""
        if self.path is None or not self.path.exists():
            return len(self)
        lines = (json.loads(line) for line in self.path.read_text().splitlines() if line.endswith("}"))
        return len({(line["task"], line["index"]) for line in lines})

    def add(self, key: tuple[str, int], row: dict[str, Any], reason: str) -> None:
        """Log and list a row, unless it is known already."""
        if key in self:
            return
        self._reasons[key] = reason
        task, index = key
        line = {"task": task, "index": index, "id": (row.get("extra_info") or {}).get("id"), "error": reason}
        logger.warning(
            "skipped row %d of %s (id %r): %s; another row of its task stands in", index, task, line["id"], reason
        )
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:  # one short write, so that lines of several workers do not mix
                file.write(json.dumps(line) + "\n")

    def reasons(self, task: str, most: int = 3) -> str:
        """The first reasons of a task, for a message."""
        return "; ".join([f"row {row}: {reason}" for (of, row), reason in self._reasons.items() if of == task][:most])
