"""Metrics of verl's `wandb` logger, as W&B keeps them on the disk: `wandb/[offline-]run-<time>-<id>/run-<id>.wandb`.

The file is a log of LevelDB's form (blocks of 32 KiB, in them records of checksum, length, kind, data) that holds W&B's
protobuf records; W&B's own reader is not part of its Python package any more.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .source import Lines, ReaderError, Source, join_attempts, numbers_of

START = b":W&B\xe1\xbe\x00"
BLOCK, HEADER = 32768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def find(file: Path) -> bool:
    return file.suffix == ".wandb"


def run_of(_: Path) -> None:
    """Every process has a folder of its own, and the run's name is in the file (`read`)."""


def read(files: list[Path]) -> Source:
    """The files of one run, whose folders' names sort by the time of their start.

    Raises:
        ReaderError: wandb is not installed, or the files are of several runs.
    """
    damaged: list[str] = []
    attempts: dict[str, list[Lines]] = {}
    for file in sorted(files, key=lambda file: (file.parent.name.removeprefix("offline-"), file.name)):
        name, lines = _lines(file, damaged)
        attempts.setdefault(name, []).append(lines)
    if len(attempts) > 1:
        folders = ", ".join(file.parent.name for file in sorted(files)[:10])
        raise ReaderError(f"W&B has {len(attempts)} runs here, {', '.join(sorted(attempts))}; name one of {folders}.")
    metrics = join_attempts(next(iter(attempts.values())))
    return Source("W&B's offline files", metrics=metrics, damaged=tuple(damaged))


def _lines(file: Path, damaged: list[str]) -> tuple[str, Lines]:
    """The run's name, and its history. verl calls a run by `trainer.experiment_name`, through every resume."""
    try:
        from wandb.proto.wandb_internal_pb2 import Record
    except ImportError:
        raise ReaderError(f"{file}: W&B's offline files need wandb: pip install wandb") from None
    name, lines = "", []
    for data in _records(file, damaged):
        record = Record.FromString(data)
        if record.HasField("run"):
            name = record.run.display_name or name
        elif record.HasField("history"):
            values = {}
            for item in record.history.item:
                with suppress(ValueError):  # W&B writes what JSON has no word for; it is no number then
                    values[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
            step = int(values.pop("_step", record.history.step.num))
            own = ("_runtime", "_timestamp")
            numbers = numbers_of({key: value for key, value in values.items() if key not in own})
            lines.append((step, {key: value for key, value in numbers.items() if value == value}))
    return name, lines


def _records(file: Path, damaged: list[str]) -> Iterator[bytes]:
    """The file's records up to the first that is not whole."""
    content = file.read_bytes()
    if not content.startswith(START):
        damaged.append(f"{file.name} does not begin as W&B's files do; it is left out.")
        return
    at, parts = HEADER, []
    while at < len(content):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        head = content[at : at + HEADER]
        checksum, length, kind = struct.unpack("<IHB", head) if len(head) == HEADER else (0, 0, 0)
        data = content[at + HEADER : at + HEADER + length]
        if zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum or len(data) < length:
            size = len(content)
            damaged.append(f"{file.name} ends in a broken record: {size - at:,} of its {size:,} bytes are left out.")
            return
        at += HEADER + length
        parts = [data] if kind in (FULL, FIRST) else [*parts, data]
        if kind in (FULL, LAST):
            yield b"".join(parts)
