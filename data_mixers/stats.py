"""What a folder of rows holds: counts by task, durations, balance of the tags, rows that come twice, media that leak into evaluation."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from scipy.stats import entropy

from .rows import media_paths, read_rows

UNNAMED = "(not named)"
"""The data set of rows that name none."""
LISTED = 20
"""Duplicates and leaks that are named; all are counted."""


@dataclass
class Stats:
    """Of the rows of some files."""

    rows: Counter = field(default_factory=Counter)
    """Rows by task."""
    datasets: Counter = field(default_factory=Counter)
    """Rows by the data set that they come from."""
    durations: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds of the videos, by task."""
    segments: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """True segments a row, by task."""
    tags: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    """`dimension.sub_dimension` -> how many rows' truths name each tag."""
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    """(row, the earlier row with the same task, media, prompt and truth)."""
    media: dict[str, str] = field(default_factory=dict)
    """Media file -> a row that shows it."""

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    def balance(self) -> dict[str, float]:
        """Entropy of each sub-dimension's tags over its greatest: 1 is even, 0 a single tag (of two at least)."""
        return {name: evenness(counts) for name, counts in sorted(self.tags.items())}

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "rows": dict(self.rows),
            "datasets": dict(self.datasets),
            "seconds": {task: _quartiles(values) for task, values in self.durations.items()},
            "segments": {task: _quartiles(values) for task, values in self.segments.items()},
            "tags": {name: dict(counts.most_common()) for name, counts in sorted(self.tags.items())},
            "balance": self.balance(),
            "duplicates": len(self.duplicates),
            "duplicates_listed": [list(pair) for pair in self.duplicates[:LISTED]],
        }


def count(files: Iterable[Path], advance: Callable[[], None] = lambda: None) -> Stats:
    """
    Args:
        files: row files.
        advance: called for each file.
    """
    stats, seen = Stats(), {}
    for file in files:
        for number, row in enumerate(read_rows(file)):
            _add(stats, row, f"{file.name} row {number}", seen)
        advance()
    return stats


def _add(stats: Stats, row: Mapping[str, Any], where: str, seen: dict[bytes, str]) -> None:
    task, info, truth = row["data_source"], row.get("extra_info") or {}, row["reward_model"]["ground_truth"]
    stats.rows[task] += 1
    stats.datasets[info.get("dataset") or UNNAMED] += 1
    if info.get("duration") is not None:
        stats.durations[task].append(float(info["duration"]))
    segments = true_segments(truth)
    if segments is not None:
        stats.segments[task].append(len(segments))
    for name, tag in row_tags(truth):
        stats.tags[name][tag] += 1
    for path in media_paths(row):
        stats.media.setdefault(path, where)
    asked = [message["content"] for message in row["prompt"]]
    key = hashlib.blake2b(repr((task, media_paths(row), asked, truth)).encode(), digest_size=16).digest()
    if key in seen:
        stats.duplicates.append((where, seen[key]))
    else:
        seen[key] = where


def true_segments(truth: str) -> list[dict] | None:
    """The segments of a ground truth as plain data; None for a text."""
    if not truth.startswith(("[", "{")):
        return None
    try:
        told = msgspec.json.decode(truth)
    except msgspec.DecodeError:
        return None
    told = told.get("segments") if isinstance(told, dict) else told
    return told if isinstance(told, list) and all(isinstance(item, dict) for item in told) else None


def row_tags(truth: str) -> set[tuple[str, str]]:
    """(`dimension.sub_dimension`, tag) that a ground truth names, each once."""
    return {
        (f"{dimension}.{sub}", tag)
        for segment in true_segments(truth) or []
        for dimension, subs in (segment.get("labels") or {}).items()
        for sub, tags in subs.items()
        for tag in ([tags] if isinstance(tags, str) else tags)
    }


def evenness(counts: Mapping[str, int]) -> float:
    """Entropy of the counts over the logarithm of their number; 0 for fewer than two."""
    if len(counts) < 2:
        return 0.0
    return float(entropy(list(counts.values()), base=len(counts)))


def leaks(train: Stats, evaluation: Stats) -> list[tuple[str, str]]:
    """(training row, evaluation row) that show the same media: the same content where both files are there, whatever they are
    called; else the same name, without folders and suffix."""
    by_size, by_name = defaultdict(list), {}
    for path, where in evaluation.media.items():
        if Path(path).is_file():
            by_size[Path(path).stat().st_size].append((path, where))
        by_name.setdefault(Path(path).stem, (path, where))
    found = []
    for path, where in train.media.items():
        here, (named, row) = Path(path).is_file(), by_name.get(Path(path).stem, ("", None))
        if here and Path(named).is_file():
            row = None
        if here:
            alike = by_size.get(Path(path).stat().st_size, [])
            row = next((other for name, other in alike if _digest(name) == _digest(path)), row)
        if row is not None:
            found.append((where, row))
    return found


@cache
def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _quartiles(values: list[float]) -> dict[str, float]:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {
        "min": float(min(values)),
        "low": float(low),
        "median": float(middle),
        "high": float(high),
        "max": float(max(values)),
    }
