"""What a reader is given and what it finds."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...schema import TaskError, validate_ground_truth
from ..rows import Example, RowError, to_rl_row


class BadRow(NamedTuple):
    """An annotation that cannot become a row."""

    file: str
    line: int | str
    """Line from 1, or where the file has no lines of its own, the entry's name."""
    reason: str


Found = Example | BadRow


class Source(NamedTuple):
    """Where a data set lies."""

    files: tuple[Path, ...]
    """Annotation files."""
    media: Path
    """The folder of its videos or images, named as the annotations name them."""
    made: Path
    """A folder for images that a reader makes: crops of words, drawn ink."""
    split: str = "train"
    subset: str | None = None
    """Only annotations of this subset, where the format has them (`training`, `validation`)."""
    durations: Path | None = None
    """A CSV of video names and lengths in seconds, for formats that do not say them; else the media file is asked."""
    need_media: bool = True
    """Whether an example whose media are missing is a bad row."""


class Reader(NamedTuple):
    """One annotation format."""

    about: str
    tasks: tuple[str, ...]
    """The task types that its rows are of."""
    files: str
    """What its files are called, and what a media file is called."""
    read: Callable[[Source], Iterator[Found]]


class Unusable(ValueError):
    """Raised while one annotation is read; the message is the reason in its `BadRow`."""


def guarded(
    source: Source,
    file: Path,
    entries: Iterable[tuple[int | str, Any]],
    make: Callable[[Any], Iterator[Example]],
) -> Iterator[Found]:
    """The examples of each entry of a file, checked. An entry that is not as its format says is a bad row, so is an example that
    is no row, and the rest goes on."""
    for line, entry in entries:
        try:
            examples = list(make(entry))
        except (Unusable, KeyError, ValueError, TypeError, IndexError, AttributeError, OSError) as error:
            reason = str(error) if isinstance(error, Unusable) else f"is not as the format says ({error!r})"
            yield BadRow(str(file), line, reason)
            continue
        for example in examples:
            fault = _fault(example, source.need_media)
            yield BadRow(str(file), line, fault) if fault else example


def _fault(example: Example, need_media: bool) -> str | None:
    """Why an example is no row: its form, tags that are not canonical, times outside the video, media that are not there."""
    try:
        to_rl_row(example, 0)
        validate_ground_truth(example.task, example.ground_truth, example.duration)
    except (RowError, TaskError, ValueError) as error:
        return str(error)
    missing = [path for path in example.media if need_media and not os.path.exists(path)]
    return f"{missing[0]} is missing" if missing else None


def lines_of(file: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank, without a byte order mark."""
    with file.open(encoding="utf-8-sig") as text:
        yield from ((number, line.rstrip("\n")) for number, line in enumerate(text, 1) if line.strip())


def json_lines(file: Path) -> Iterator[tuple[int, Any]]:
    """Numbered objects, one a line; a line that is no JSON is handed on as it is and fails there."""
    for number, line in lines_of(file):
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError:
            yield number, line


def json_file(file: Path) -> Any:
    """
    Raises:
        ValueError: the file is no JSON; with its name and the place.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: is not JSON: {error}") from error


def table_rows(file: Path, delimiter: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a table with a header, numbered as lines of the file."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text, delimiter=delimiter)
        for row in rows:
            yield rows.line_num, row


def read_durations(source: Source) -> dict[str, float]:
    """Video name -> seconds, from `source.durations`: the first column, and the first that is called duration or length."""
    if source.durations is None:
        return {}
    found = {}
    for number, row in table_rows(source.durations, ","):
        name, key = next(iter(row.values())), next((k for k in row if k and k.lower() in ("duration", "length")), None)
        try:
            found[str(name)] = float(row[key or ""])
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"{source.durations}, line {number}: give a name, and a column `duration` in seconds"
            ) from error
    return found


def encode_segments(segments: list[dict[str, Any]]) -> str:
    return json.dumps({"segments": segments})


def span(start: float, end: float, duration: float | None) -> dict[str, float]:
    """A true span inside the video: ends that pass it, as rounding makes them, are clamped.

    Raises:
        Unusable: the start lies at or behind the end, or the span behind the video.
    """
    start, end = max(float(start), 0.0), float(end)
    end = end if duration is None else min(end, duration)
    if not start < end:
        raise Unusable(f"from {start:g} to {end:g} s is no stretch of the video; its start must lie before its end")
    return {"start": round(start, 3), "end": round(end, 3)}
