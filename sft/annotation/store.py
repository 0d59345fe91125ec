"""The answers of a run in one file that is only added to: what was asked once is not asked again, whatever ended the run."""

import json
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from .prefill import Answer
from .questions import VERSION

ANSWERS = "answers.jsonl"


class Told(NamedTuple):
    """One stored answer, with all that it depends on."""

    video: str
    """Its path below the folder of the videos."""
    fingerprint: str
    """Of the file; another file of that name is another video."""
    start: float
    end: float
    about: str
    model: str
    wording: int
    labels: dict[str, list[str]]
    confidence: dict[str, float | None]

    @property
    def answer(self) -> Answer:
        return Answer(self.labels, self.confidence)


def fingerprint(path: Path) -> str:
    """Size and time of change: cheap for films of gigabytes."""
    stat = path.stat()
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def load(out: Path, model: str, redo: Iterable[str]) -> dict[str, dict[tuple[str, float, float, str], Answer]]:
    """video -> (fingerprint, start, end, about) -> answer; those of another model or wording, or about what is asked anew
    (`redo`), are left out. A line that was cut short is left out as well."""
    found: dict[str, dict] = defaultdict(dict)
    path, redo = out / ANSWERS, set(redo)
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            told = Told(**json.loads(line))
        except (json.JSONDecodeError, TypeError):
            continue
        if (told.model, told.wording) == (model, VERSION) and told.about not in redo:
            found[told.video][told.fingerprint, told.start, told.end, told.about] = told.answer
    return dict(found)


def add(out: Path, answers: Iterable[Told]) -> None:
    """Added at once and on the disk before it returns."""
    lines = "".join(json.dumps(told._asdict()) + "\n" for told in answers)
    if lines:
        path = out / ANSWERS
        with path.open("a+b") as file:
            if file.tell() and not _ends_a_line(path):  # a run that was killed in the middle of one
                file.write(b"\n")
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """JSON lines, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
    partial.replace(path)
