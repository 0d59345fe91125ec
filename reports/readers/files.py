"""Which files below a folder are whose: every format is found by the names of its files, wherever verl's settings put them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import NamedTuple

from . import file_logger, recorded, rollout_dumps, tensorboard_events, wandb_offline
from .source import ReaderError, Source

DEPTH = 4  # folders below the run's: TensorBoard's and W&B's own are two or three deep
PASSED_OVER = ("checkpoints", "global_step_*", "__pycache__")
READERS = (recorded, file_logger, wandb_offline, tensorboard_events, rollout_dumps)
"""In the order in which they are believed: rollouts with all their columns first, metrics as doubles before single precision."""


class Found(NamedTuple):
    """What all formats gave of a run."""

    sources: list[Source]
    refused: list[str]
    """Sentences on formats that are there and could not be read: a library is missing, or there are several runs."""
    notes: list[str]


def read_sources(path: Path) -> Found:
    """What is in `path`, a run's folder or a single file."""
    files = [path] if path.is_file() else list(_walk(path, DEPTH))
    found = Found([], [], [])
    files = _without_validations(files, found.notes)
    home = path  # the recorder's folder, once it is found; what lies in it goes before what lies beside it
    for reader in READERS:
        if claimed := [file for file in files if reader.find(file)]:
            try:
                claimed = [file for file in claimed if home in file.parents] or claimed
                found.sources.append(reader.read(_one_run(claimed, reader.run_of, path)))
                home = found.sources[-1].folder or home
            except ReaderError as error:
                found.refused.append(str(error))
    return found


def _one_run(files: list[Path], run_of: Callable[[Path], Hashable], path: Path) -> list[Path]:
    """The files of the one run nearest to `path`."""
    depth = min(len(file.parts) for file in files)
    nearest = [file for file in files if len(file.parts) == depth]
    runs = {run_of(file): file for file in nearest}
    if len(runs) > 1:
        shown = ", ".join(sorted(str(file.relative_to(path)) for file in runs.values())[:10])
        raise ReaderError(f"{len(runs)} runs are here, with {shown}; name the folder or the file of one.")
    return nearest


def _without_validations(files: list[Path], notes: list[str]) -> list[Path]:
    dumps: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        if rollout_dumps.find(file):
            dumps[file.parent].append(file)
    validations = {folder for folder in dumps if rollout_dumps.is_validation(dumps[folder])}
    notes += [f"{folder.name}/ holds dumps of validations, which are left out." for folder in sorted(validations)]
    return [file for file in files if file.parent not in validations or not rollout_dumps.find(file)]


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_file():
                yield Path(entry.path)
            elif entry.is_dir() and depth and not _passed_over(entry.name):
                yield from _walk(Path(entry.path), depth - 1)


def _passed_over(name: str) -> bool:
    return name.startswith(".") or any(Path(name).match(pattern) for pattern in PASSED_OVER)
