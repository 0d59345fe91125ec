"""Metrics of verl's `tensorboard` logger: event files, one a process (`pip install tensorboard`)."""

from __future__ import annotations

import math
from pathlib import Path

from .source import Lines, ReaderError, Source, join_attempts

FRAME = 16  # bytes around each record: its length and two checksums


def find(file: Path) -> bool:
    return ".tfevents." in file.name


def run_of(file: Path) -> Path:
    return file.parent


def read(files: list[Path]) -> Source:
    """The event files of one folder, whose names sort by the time of their start.

    Raises:
        ReaderError: tensorboard is not installed.
    """
    damaged: list[str] = []
    metrics = join_attempts(_lines(file, damaged) for file in sorted(files))
    return Source("TensorBoard", metrics=metrics, damaged=tuple(damaged))


def _lines(file: Path, damaged: list[str]) -> Lines:
    """The file's scalars by step. tensorboard's reader stops, in silence, at the first record whose checksum is wrong."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
        from tensorboard.compat.proto.event_pb2 import Event
    except ImportError:
        raise ReaderError(f"{file}: TensorBoard's event files need tensorboard: pip install tensorboard") from None
    size = file.stat().st_size  # before reading: a run that goes on adds to it
    steps: dict[int, dict[str, float]] = {}
    used = 0
    for record in RawEventFileLoader(str(file)).Load():
        used += len(record) + FRAME
        event = Event.FromString(record)
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value" and not math.isnan(value.simple_value):
                steps.setdefault(event.step, {})[value.tag] = value.simple_value
    if used < size:
        damaged.append(f"{file.name} ends in a broken record: {size - used:,} of its {size:,} bytes are left out.")
    return list(steps.items())
