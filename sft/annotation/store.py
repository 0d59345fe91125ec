"""What a run found out, in files that are only added to: a shot is sought once, a question asked once, whatever ended the run."""

from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from ...data_mixers import lines
from ...schema.clock import Span
from .prefill import Answer
from .shots import DETECTOR

ANSWERS, SHOTS = "answers.jsonl", "shots.jsonl"


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
    asked: str
    """Digest of the question."""
    labels: dict[str, list[str]]
    probabilities: dict[str, list[float | None]]
    """Of each tag."""


class Cut(NamedTuple):
    """The shots of one video."""

    video: str
    fingerprint: str
    detector: int
    edges: tuple[float, ...]
    """Seconds: where shots begin, and the video's end."""
    sudden: tuple[bool, ...]
    """For each edge between two shots, whether it is one from a frame to the next."""

    @property
    def spans(self) -> list[Span]:
        return [Span(start, end) for start, end in zip(self.edges, self.edges[1:], strict=False)]


class Known(NamedTuple):
    """What is known of one video."""

    cuts: dict[str, Cut]
    """By the file's fingerprint."""
    answers: dict[tuple[str, float, str], Answer]
    """By the file's fingerprint, the shot's start, the digest of the question."""


def fingerprint(path: Path) -> str:
    """Size and time of change: cheap for films of gigabytes."""
    stat = path.stat()
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def load(out: Path, model: str, redo: Iterable[str]) -> dict[str, Known]:
    """What is known, by video. Answers of another model, or about what is asked anew (`redo`), are left out."""
    found: dict[str, Known] = {}
    for row in lines.read(out / SHOTS):
        if row.keys() == {*Cut._fields} and row["detector"] == DETECTOR:
            cut = Cut(**{**row, "edges": tuple(row["edges"]), "sudden": tuple(row["sudden"])})
            found.setdefault(cut.video, Known({}, {})).cuts[cut.fingerprint] = cut
    redo = set(redo)
    for row in lines.read(out / ANSWERS):
        if row.keys() == {*Told._fields} and row["model"] == model and row["about"] not in redo:
            told = Told(**row)
            key = told.fingerprint, told.start, told.asked
            found.setdefault(told.video, Known({}, {})).answers[key] = Answer(told.labels, told.probabilities)
    return found


class Store:
    """Adds to the files of a folder; threads may share it."""

    def __init__(self, out: Path):
        self.out, self._writing = out, Lock()

    def add(self, found: Cut | Told) -> None:
        """On the disk before it returns."""
        with self._writing:
            lines.append(self.out / (SHOTS if isinstance(found, Cut) else ANSWERS), [found._asdict()])
