"""Rollouts that are already written, read as a stream: verl's dumps, the recorder's folders, any jsonl or parquet.

A row needs a task, a response and a ground truth.  verl's dump of a training step names no task and the recorder keeps no
ground truth: both are found again in the training rows that were asked (`AskedRows`).
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = {
    "task": ("task", "data_source"),
    "response": ("response", "output", "completion", "solution_str"),
    "ground_truth": ("ground_truth", "gts", "reward_model", "answer"),
    "id": ("id", "uid"),
}
"""What is read of a row, and the columns it may stand in: ours, then those of verl's rows and dumps and of other trainers."""

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


def read_batches(file: Path, task: str | None = None, asked: "AskedRows | None" = None) -> Iterator[Batch]:
    """The rows of a file in order; one that cannot be read or lacks a column carries its `problem`.

    Args:
        task: the task of every row, whatever the file says.
        asked: the training rows, where tasks or ground truths that a row lacks are looked up.
    """
    for raws, size in (_parquet_rows if file.suffix == ".parquet" else _json_lines)(file):
        yield Batch([_rollout(file, row, raw, task, asked) for row, raw in raws], size)


class AskedRows:
    """Training rows in verl's form, by their id and by their ground truth.

    Args:
        paths: parquet files, or folders of them.

    Raises:
        ValueError: a file that is no parquet of training rows.
    """

    def __init__(self, paths: Iterable[Path]):
        self._by_id: dict[tuple[str, str], tuple[str, str]] = {}
        self._by_truth: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for file in chain.from_iterable(sorted(p.glob("*.parquet")) if p.is_dir() else [p] for p in paths):
            for row in _training_rows(file):
                task, truth, info = row["data_source"], row["reward_model"]["ground_truth"], row.get("extra_info") or {}
                if info.get("id"):
                    self._by_id[str(info.get("dataset") or ""), str(info["id"])] = (task, truth)
                self._by_truth[truth].append((task, _question(row["prompt"])))

    def complete(self, raw: Mapping[str, Any], row: dict[str, Any]) -> None:
        """Fill in the task and ground truth of a row by its dataset and prompt id, or its task by ground truth and prompt."""
        found = self._by_id.get((str(raw.get("dataset") or ""), str(raw.get("prompt"))))
        if found:
            row["task"], row["ground_truth"] = row["task"] or found[0], row["ground_truth"] or found[1]
        elif row["task"] is None and isinstance(row["ground_truth"], str):
            candidates = self._by_truth.get(row["ground_truth"], ())
            prompt = " ".join(str(raw.get("input")).split())
            tasks = {task for task, _ in candidates}
            if len(tasks) > 1:
                tasks = {task for task, question in candidates if question in prompt}
            row["task"] = tasks.pop() if len(tasks) == 1 else None


def _rollout(file: Path, row: int, raw: Any, task: str | None, asked: AskedRows | None) -> Rollout:
    if isinstance(raw, str):
        return Rollout(file, row, None, task, "", "", None, raw)
    found = {name: next((raw[n] for n in names if raw.get(n) is not None), None) for name, names in COLUMNS.items()}
    if isinstance(found["ground_truth"], Mapping):
        found["ground_truth"] = found["ground_truth"].get("ground_truth")
    found["task"] = task or found["task"]
    if asked is not None:
        asked.complete(raw, found)
    problem = next(
        (_problem(name, found[name]) for name in ("task", "response", "ground_truth") if _wrong(found[name])), None
    )
    id = None if found["id"] is None else str(found["id"])
    recorded = raw.get("score")
    recorded = float(recorded) if isinstance(recorded, int | float) and not isinstance(recorded, bool) else None
    texts = [found[name] if isinstance(found[name], str) else "" for name in ("response", "ground_truth")]
    return Rollout(file, row, id, found["task"] if isinstance(found["task"], str) else None, *texts, recorded, problem)


def _wrong(value: Any) -> bool:
    return not isinstance(value, str)


def _problem(name: str, value: Any) -> str:
    columns = " or ".join(COLUMNS[name])
    if value is not None:
        return f"{name} is {value!r:.60}; write text"
    hint = {
        "task": " or give --task or --data",
        "ground_truth": " or give --data",
        "response": "; a run's recorder keeps it with sv6d.record_responses=True",
    }[name]
    return f"no {columns}; add that column{hint}"


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
            yield list(enumerate(rows, start=first)), size
            first += len(rows)
    except (OSError, pa.ArrowException) as error:
        yield [(first, f"cannot be read as parquet: {error}")], 0


def _batches(file: Path) -> Iterator[tuple[list[Any], int]]:
    with pq.ParquetFile(file) as table:
        asked = {name for names in COLUMNS.values() for name in names} | {"score", "prompt", "dataset", "input"}
        columns = [name for name in table.schema_arrow.names if name in asked]
        total = max(1, table.metadata.num_rows)
        for batch in table.iter_batches(BATCH, columns=columns):
            yield batch.to_pylist(), file.stat().st_size * len(batch) // total


def _training_rows(file: Path) -> Iterator[Mapping[str, Any]]:
    columns = ("data_source", "prompt", "reward_model", "extra_info")
    try:
        with pq.ParquetFile(file) as table:
            missing = [c for c in columns[:3] if c not in table.schema_arrow.names]
            if missing:
                raise ValueError(
                    f"{file}: has no {' and no '.join(missing)}; give the parquet files that verl trained on"
                )
            for batch in table.iter_batches(BATCH, columns=[c for c in columns if c in table.schema_arrow.names]):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{file}: cannot be read as parquet: {error}") from error


def _question(prompt: Sequence[Mapping[str, Any]]) -> str:
    """What the last message asks, without media and line breaks: it stands in the prompt of verl's dump."""
    return " ".join(re.sub(r"<(?:video|image|audio)>", "", str(prompt[-1]["content"])).split())


def _natural(path: Path) -> list[Any]:
    """verl names its dumps 1.jsonl, 2.jsonl, ... 10.jsonl."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
