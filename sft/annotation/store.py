"""The answers of a run in one file that is only added to: what was asked once is not asked again, whatever ended the run."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .. import lines
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
    (`redo`), are left out."""
    found: dict[str, dict] = defaultdict(dict)
    redo = set(redo)
    for row in lines.read(out / ANSWERS):
        try:
            told = Told(**row)
        except TypeError:  # of another version
            continue
        if (told.model, told.wording) == (model, VERSION) and told.about not in redo:
            found[told.video][told.fingerprint, told.start, told.end, told.about] = told.answer
    return dict(found)


def add(out: Path, answers: Iterable[Told]) -> None:
    lines.append(out / ANSWERS, (told._asdict() for told in answers))
