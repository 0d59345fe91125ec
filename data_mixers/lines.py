"""JSON lines that survive: files that are only added to, each line on the disk before the call returns, and files that are
written whole or not at all."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .whole import written_whole


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file, none where there is no file; a line that was cut short is passed over."""
    if not path.exists():
        return
    with path.open("rb") as file:  # a line may have been cut within a letter
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Added at once and on the disk before it returns; the file is one process's at a time."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if not lines:
        return
    with path.open("a+b") as file:
        if file.tell() and not _ends_a_line(path):  # a run that was killed in the middle of one
            file.write(b"\n")
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
