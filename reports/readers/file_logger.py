"""Metrics of verl's `file` logger (`trainer.logger=[file]`): one JSON line a step, `{"step": 3, "data": {...}}`.

verl empties the file at every start; earlier processes' lines are in `metrics-001.jsonl`, ... (`recorder.set_aside`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from .source import Lines, Source, join_attempts, numbers_of

_ATTEMPT = re.compile(r"-\d{3,}$")


def find(file: Path) -> bool:
    """Whether this is such a file, by its first line: verl names it `<project>/<experiment>.jsonl` where nobody else does."""
    if file.suffix != ".jsonl" or file.stem.isdigit():
        return False
    if file.stem.startswith("metrics"):
        return True
    with file.open("rb") as lines:
        return lines.readline(40).replace(b" ", b"").startswith(b'{"step":')


def run_of(file: Path) -> Path:
    """What an attempt that was set aside shares with the later ones: the name without its number."""
    return file.with_name(_ATTEMPT.sub("", file.stem))


def read(files: list[Path]) -> Source:
    """The files of one run: attempts that were set aside first, each in its order."""
    notes: list[str] = []
    attempts = [
        list(_lines(file, notes)) for file in sorted(files, key=lambda file: (file.stem == run_of(file).name, file))
    ]
    return Source("verl's file logger", metrics=join_attempts(attempts), notes=tuple(notes))


def _lines(file: Path, notes: list[str]) -> Iterator[Lines]:
    """The file's (step, metrics). A line that is not whole (the process was killed in it) is left out and noted."""
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            entry = json.loads(line)
            step, data = int(entry["step"]), numbers_of(entry["data"])
        except (ValueError, TypeError, KeyError, AttributeError):
            notes.append(f"{file.name}, line {number}: not a whole line of verl's file logger, left out.")
            continue
        yield step, data
