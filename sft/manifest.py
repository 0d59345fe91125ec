"""Which checkpoints of verl are whole: each gets a manifest of its files, written last; without it, or against it, none is gone on from.

verl names a checkpoint the latest while nothing has checked it, and its own rotation counts only what one process saved.
"""

import json
import os
import shutil
import time
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from .checkpoints import STEP, TRACKER

MANIFEST = "manifest.json"
UNFINISHED = "unfinished"
"""A file in a checkpoint that is being saved, or that was found damaged: it is rubbish, and goes with the next rotation."""
STOP = "stop"
"""A file among a run's checkpoints that asks the run to save and end."""
BLOCK = 1 << 22
PAUSES = (1.0, 5.0, 20.0)
"""Seconds between tries to read a file: a network's file system may be away for a moment, and what counts as damaged is removed."""


class Found(NamedTuple):
    """The last whole checkpoint, and what lies beyond it."""

    step: int
    """0 where there is none."""
    folder: Path | None
    rejected: list[str]
    """A sentence for each later checkpoint that is not whole."""


def steps_saved(folder: Path) -> dict[int, Path]:
    """The checkpoints in a run's folder, whole or not, by step, the last one first."""
    found = {int(match[1]): path for path in folder.glob("global_step_*") if (match := STEP.search(path.name))}
    return dict(sorted(found.items(), reverse=True))


def begin(checkpoint: Path) -> None:
    """Make room for a checkpoint that is about to be saved.

    Raises:
        OSError: the disk.
    """
    _remove(checkpoint)  # of an attempt that was cut short
    checkpoint.mkdir(parents=True)
    (checkpoint / UNFINISHED).touch()


def seal(checkpoint: Path, about: Mapping[str, Any] | None = None) -> None:
    """Declare a checkpoint whole: its files are brought to the disk, read back and written down with size and checksum.

    Args:
        about: goes into the manifest as it stands; plain JSON.

    Raises:
        OSError: the disk.
    """
    files = _files(checkpoint)
    with ThreadPoolExecutor() as pool:  # crc32 and reads release the interpreter's lock
        sums = list(pool.map(_measure, files))
    listed = {
        str(path.relative_to(checkpoint)): {"bytes": size, "crc32": crc}
        for path, (size, crc) in zip(files, sums, strict=True)
    }
    _replace(checkpoint / MANIFEST, json.dumps({"about": dict(about or {}), "files": listed}, indent=1))
    (checkpoint / UNFINISHED).unlink(missing_ok=True)  # last: what is killed before is still known as rubbish


def is_sealed(checkpoint: Path) -> bool:
    """Whether its saving came to its end; what happened to its files afterwards is `faults`'."""
    return (checkpoint / MANIFEST).is_file()


def noted(checkpoint: Path) -> dict[str, Any]:
    """What the trainer noted in a checkpoint's manifest; nothing where it has none."""
    return json.loads((checkpoint / MANIFEST).read_text())["about"] if is_sealed(checkpoint) else {}


def last_sealed(folder: Path) -> int:
    """The step of the last sealed checkpoint, its files unread; 0 where there is none."""
    return next((step for step, checkpoint in steps_saved(folder).items() if is_sealed(checkpoint)), 0)


def faults(checkpoint: Path) -> list[str]:
    """What is wrong with a checkpoint, as sentences; empty when every file is as it was saved."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_text())["files"]
    except FileNotFoundError:
        return [_why_unfinished(checkpoint)]
    except (ValueError, KeyError, TypeError):
        return [f"its {MANIFEST} is not readable"]
    with ThreadPoolExecutor() as pool:
        told = pool.map(lambda item: _fault(checkpoint / item[0], item[0], item[1]), sorted(files.items()))
        return [sentence for sentence in told if sentence]


def last_whole(folder: Path) -> Found:
    """The last checkpoint of a run that is whole, every byte of it read; those beyond it are rejected."""
    rejected = []
    for step, checkpoint in steps_saved(folder).items():
        wrong = faults(checkpoint)
        if not wrong:
            return Found(step, checkpoint, rejected)
        why = wrong[0] + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")
        if is_sealed(checkpoint):
            reject(checkpoint, why)
        rejected.append(f"{checkpoint} is not whole: {why}")
    return Found(0, None, rejected)


def reject(checkpoint: Path, why: str) -> None:
    """A checkpoint that is not whole counts no longer, lest it be kept in the place of one that is."""
    with suppress(OSError):  # on a full disk the file stays empty, which will do
        (checkpoint / UNFINISHED).write_text(why)
    (checkpoint / MANIFEST).unlink(missing_ok=True)


def name_latest(folder: Path, step: int) -> None:
    """Have verl go on from this step's checkpoint; 0: from none."""
    if step:
        _replace(folder / TRACKER, str(step))
    else:
        (folder / TRACKER).unlink(missing_ok=True)


def prune(folder: Path, keep: int | None) -> None:
    """Remove all but the last `keep` sealed checkpoints, None keeps all; and what is unfinished.

    A checkpoint that is neither, of plain verl say, stays.
    """
    saved = steps_saved(folder).values()
    old = [checkpoint for checkpoint in saved if is_sealed(checkpoint)][keep:] if keep else []
    unfinished = [path for path in saved if (path / UNFINISHED).exists() and not is_sealed(path)]
    for checkpoint in [*old, *unfinished]:
        _remove(checkpoint)


def _why_unfinished(checkpoint: Path) -> str:
    noted = checkpoint / UNFINISHED
    return (noted.read_text() if noted.exists() else "") or f"it has no {MANIFEST}: its saving was cut short"


def _remove(checkpoint: Path) -> None:
    """Unsealed first: what is killed in the middle of this leaves rubbish, not a checkpoint that lacks files."""
    if is_sealed(checkpoint):
        reject(checkpoint, "its removal was cut short")
    shutil.rmtree(checkpoint, ignore_errors=True)


def _files(checkpoint: Path) -> list[Path]:
    ours = {checkpoint / MANIFEST, checkpoint / UNFINISHED}
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and path not in ours)


def _measure(path: Path) -> tuple[int, str]:
    """A file's size and checksum, once its bytes are on the disk."""
    size = crc = 0
    with path.open("rb", buffering=0) as file:
        os.fsync(file.fileno())
        while block := file.read(BLOCK):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return size, f"{crc:08x}"


def _fault(path: Path, name: str, told: Mapping[str, Any], pauses: tuple[float, ...] = PAUSES) -> str | None:
    try:
        if (size := path.stat().st_size) != told["bytes"]:
            return f"{name} has {size:,} bytes of {told['bytes']:,}"
        if _measure(path)[1] != told["crc32"]:
            return f"{name} is not what was saved (its checksum differs)"
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        if not pauses:
            return f"{name} cannot be read: {error}"
        time.sleep(pauses[0])
        return _fault(path, name, told, pauses[1:])
    return None


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    scratch = path.with_name(path.name + ".tmp")
    with scratch.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)
