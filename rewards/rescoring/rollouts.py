"""Rollouts that are already written, read as a stream: verl's dumps, the recorder's folders, any jsonl or parquet.

A row needs a task, a response and a ground truth.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ..completions import response_text
from .asked_rows import AskedRows

COLUMNS = {
    "task": ("task", "data_source"),
    "response": ("response", "output", "completion", "solution_str"),
    "ground_truth": ("ground_truth", "gts", "reward_model", "answer"),
    "id": ("id", "uid"),
    "recorded": ("score", "reward"),
}
"""What is read of a row, and the columns it may stand in: ours, then those of verl's rows and dumps and of verifiers' results."""

SUFFIXES = (".jsonl", ".parquet")
BATCH = 256
"""Rows that are read, scored and written at a time."""


class Rollout(NamedTuple):
    """One response and what it is scored against."""

    file: Path
    row: int
    """From 0, in its file; in a jsonl also the line, from 1, less 1."""
    id: str | None
    task: str | None
    response: str
    ground_truth: str
    recorded: float | None
    """The score that stands in the file."""
    problem: str | None = None
    """Why it cannot be scored."""


class Batch(NamedTuple):
    """Rows that follow each other in a file."""

    rollouts: list[Rollout]
    size: int
    """How many bytes of the file they take, about."""


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The files that `paths` name; of a folder, its jsonl and parquet files (of a run's folder: its `rollouts`), by number.

    Raises:
        ValueError: a file of another kind, or a folder without any; the message says what is read.
    """
    files = []
    for path in paths:
        if not path.is_dir():
            if path.suffix not in SUFFIXES:
                raise ValueError(f"{path}: give a .jsonl or .parquet file, or a folder of them")
            files.append(path)
            continue
        folder = path / "rollouts" if (path / "rollouts").is_dir() else path
        found = sorted((file for file in folder.iterdir() if file.suffix in SUFFIXES), key=_natural)
        if not found:
            raise ValueError(f"{folder}: holds no .jsonl and no .parquet")
        files += found
    return files


def read_batches(file: Path, task: str | None = None, asked: AskedRows | None = None) -> Iterator[Batch]:
    """The rows of a file in order; one that cannot be read or lacks a column carries its `problem`.

    Args:
        task: the task of every row, whatever the file says.
        asked: the training rows, where tasks or ground truths that a row lacks are looked up.
    """
    for raws, size in (_parquet_rows if file.suffix == ".parquet" else _json_lines)(file):
        yield Batch([_rollout(file, row, raw, task, asked) for row, raw in raws], size)


def _rollout(file: Path, row: int, raw: Any, task: str | None, asked: AskedRows | None) -> Rollout:
    if isinstance(raw, str):
        return Rollout(file, row, None, task, "", "", None, raw)
    found = {name: next((raw[n] for n in names if raw.get(n) is not None), None) for name, names in COLUMNS.items()}
    if isinstance(raw.get("info"), Mapping):  # verifiers names its environment in `task`
        found["task"] = raw["info"].get("task") or found["task"]
    if isinstance(found["ground_truth"], Mapping):
        found["ground_truth"] = found["ground_truth"].get("ground_truth")
    found["task"] = task or found["task"]
    if asked is not None:
        _look_up(asked, raw, found)
    problem = None
    if isinstance(found["response"], list):
        try:
            found["response"] = response_text(found["response"])
        except ValueError as error:
            problem = str(error)
    for name in ("task", "response", "ground_truth"):
        if not isinstance(found[name], str):
            problem = problem or _problem(name, found[name])
            found[name] = None if name == "task" else ""
    id = found.pop("id")
    id = None if id is None else str(id)
    return Rollout(file, row, id, recorded=_number(found.pop("recorded")), problem=problem, **found)


def _look_up(asked: AskedRows, raw: Mapping[str, Any], found: dict[str, Any]) -> None:
    """Fill in a row's task and ground truth from the row that was asked."""
    row = asked.by_id(raw.get("dataset"), raw.get("prompt"))
    if row:
        found["task"], found["ground_truth"] = found["task"] or row[0], found["ground_truth"] or row[1]
    elif found["task"] is None and isinstance(found["ground_truth"], str):
        found["task"] = asked.task_of(found["ground_truth"], raw.get("input"))


def _problem(name: str, value: Any) -> str:
    if value is not None:
        return f"{name} is {value!r:.60}; write text"
    hint = {"task": " or give --task or --data", "ground_truth": " or give --data", "response": ""}[name]
    return f"no {' or '.join(COLUMNS[name])}; add that column{hint}"


def _number(value: Any) -> float | None:
    """A recorded score; None for what is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if isfinite(value) else None
    except OverflowError:
        return None


def _json_lines(file: Path) -> Iterator[tuple[list[tuple[int, Any]], int]]:
    rows, size = [], 0
    with file.open("rb") as lines:
        for i, line in enumerate(lines):
            size += len(line)
            if line.strip():
                rows.append((i, _json_line(line, i)))
            if len(rows) >= BATCH:
                yield rows, size
                rows, size = [], 0
    if rows:
        yield rows, size


def _json_line(line: bytes, i: int) -> Any:
    """A row, or the text that says why it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"line {i + 1} is not JSON: {error}"
    return row if isinstance(row, dict) else f"line {i + 1} is no object"


def _parquet_rows(file: Path) -> Iterator[tuple[list[tuple[int, Any]], int]]:
    first = 0
    try:
        for rows, size in _batches(file):
            yield [(i, row) for i, row in enumerate(rows, start=first) if row is not None], size
            first += len(rows)
    except (OSError, pa.ArrowException) as error:
        yield [(first, f"cannot be read as parquet: {error}")], 0


def _batches(file: Path) -> Iterator[tuple[list[Any], int]]:
    """The rows; None for a rollout whose text our recorder did not keep: it keeps those of a few a step."""
    with pq.ParquetFile(file) as table:
        known = {name for names in COLUMNS.values() for name in names} | {"info", "prompt", "dataset", "input"}
        columns = [name for name in table.schema_arrow.names if name in known]
        total = max(1, table.metadata.num_rows)
        for batch in table.iter_batches(BATCH, columns=columns):
            rows = batch.to_pylist()
            if "version_start" in table.schema_arrow.names:  # the recorder's
                rows = [row if row.get("response") is not None else None for row in rows]
            yield rows, file.stat().st_size * len(batch) // total


def _natural(path: Path) -> list[Any]:
    """verl names its dumps 1.jsonl, 2.jsonl, ... 10.jsonl."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
