"""Which files below a folder are whose: every format is found by the names of its files, wherever verl's settings put them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from . import file_logger, recorded, rollout_dumps, tensorboard_events, wandb_offline
from .source import ReaderError, Source

DEPTH = 4  # folders below the run's: TensorBoard's and W&B's own are two or three deep
PASSED_OVER = ("checkpoints", "global_step_*", "rollouts", "__pycache__")
METRICS = (file_logger, wandb_offline, tensorboard_events)
"""In the order in which they are believed: doubles, doubles, single precision."""


def read_sources(path: Path) -> tuple[list[Source], list[str]]:
    """What every format gives of the run in `path` (a folder or one file), and notes on what was left out.

    Raises:
        ReaderError: a library is missing, or there are several runs of a format.
    """
    files = [path] if path.is_file() else list(_walk(path, DEPTH))
    sources = [found] if path.is_dir() and (found := recorded.read(path)) else []
    for reader in METRICS:
        if claimed := [file for file in files if reader.find(file)]:
            sources.append(reader.read(_one_run(claimed, path, apart=reader is not wandb_offline)))
    notes, dumps = [], defaultdict(list)
    for file in files:
        if rollout_dumps.find(file):
            dumps[file.parent].append(file)
    for folder in [folder for folder in dumps if rollout_dumps.is_validation(dumps[folder])]:
        notes.append(f"{folder.name}/ holds dumps of validations, which are left out.")
        del dumps[folder]
    if dumps:
        sources.append(rollout_dumps.read(_one_run([file for found in dumps.values() for file in found], path)))
    return sources, notes


def _one_run(files: list[Path], path: Path, apart: bool = True) -> list[Path]:
    """The files of the folder nearest to `path`. With `apart`, two folders are two runs; else they may be one run's."""
    depth = min(len(file.parts) for file in files)
    nearest = [file for file in files if len(file.parts) == depth]
    folders = sorted({file.parent for file in nearest})
    if apart and len(folders) > 1:
        shown = ", ".join(str(folder.relative_to(path)) for folder in folders[:10])
        raise ReaderError(f"{len(folders)} runs are here; name one of {shown}.")
    return nearest


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_file():
                yield Path(entry.path)
            elif entry.is_dir() and depth and not _passed_over(entry.name):
                yield from _walk(Path(entry.path), depth - 1)


def _passed_over(name: str) -> bool:
    return name.startswith(".") or any(Path(name).match(pattern) for pattern in PASSED_OVER)
