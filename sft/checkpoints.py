"""Checkpoints as averaging needs them: the last ones of a run, each as a model folder, its tensors by name and in slices."""

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import click

STEP = re.compile(r"global_step_(\d+)$")
TRACKER = "latest_checkpointed_iteration.txt"
"""verl writes a step here once its checkpoint is whole."""


class AverageError(click.ClickException):
    """Checkpoints that cannot be averaged; the message says which, why, and what to do."""


class TensorInfo(NamedTuple):
    """A stored tensor's dtype (safetensors' name, as BF16) and shape."""

    dtype: str
    shape: tuple[int, ...]


def last_checkpoints(run: Path, count: int) -> list[Path]:
    """The last `count` complete checkpoints of a verl run, oldest first.

    Args:
        run: the folder that holds `global_step_<n>`, or the run folder of `sv6d sft` above it.

    Raises:
        AverageError: fewer than `count` checkpoints.
    """
    run = run / "checkpoints" if (run / "checkpoints").is_dir() else run
    steps = {int(match.group(1)): path for path in run.iterdir() if (match := STEP.search(path.name))}
    if (run / TRACKER).is_file():  # what lies beyond it was cut short
        steps = {step: path for step, path in steps.items() if step <= int((run / TRACKER).read_text())}
    if len(steps) < count:
        found = ", ".join(f"global_step_{step}" for step in sorted(steps)) or "none"
        raise AverageError(f"{run} has {len(steps)} checkpoints ({found}) and {count} were asked for; see --last")
    return [steps[step] for step in sorted(steps)[-count:]]


def as_model_folder(checkpoint: Path, scratch: Path) -> Path:
    """The Hugging Face folder of a checkpoint; made in `scratch` by verl's own merger where only FSDP shards were saved.

    Raises:
        AverageError: neither a model folder nor a checkpoint of verl, or the merger failed.
    """
    for folder in (checkpoint, checkpoint / "huggingface", checkpoint / "actor" / "huggingface"):
        if any(folder.glob("*.safetensors")):
            return folder
    for shards in (checkpoint, checkpoint / "actor"):
        if any(shards.glob("model_world_size_*_rank_*.pt")):
            return merge_shards(shards, scratch / f"{len(list(scratch.glob('*'))):03d}")
    raise AverageError(
        f"{checkpoint} holds no safetensors and no FSDP shards. Give a Hugging Face model folder, a global_step_<n> folder, "
        f"or a run; a run saves whole models with checkpoint.save_contents=[model,hf_model]"
    )


def merge_shards(shards: Path, target: Path) -> Path:
    """Merge verl's FSDP shards into a Hugging Face folder, with verl's model merger."""
    target.mkdir(parents=True)
    arguments = ["--backend", "fsdp", "--local_dir", str(shards), "--target_dir", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "verl.model_merger", "merge", *arguments],
        capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    if done.returncode != 0 or not any(target.glob("*.safetensors")):
        raise AverageError(f"verl's model merger could not merge {shards}:\n{(done.stdout + done.stderr)[-2000:]}")
    return target


class Weights:
    """The tensors of a model folder, wherever its shards keep them. A context manager: the files stay open meanwhile."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.files = sorted(folder.glob("*.safetensors"))
        self.tensors: dict[str, TensorInfo] = {}
        self._file_of: dict[str, Path] = {}
        for file in self.files:
            for name, entry in self.layout(file)[1].items():
                self.tensors[name] = TensorInfo(entry["dtype"], tuple(entry["shape"]))
                self._file_of[name] = file

    def __enter__(self) -> "Weights":
        from safetensors import safe_open

        with ExitStack() as stack:
            self._open = {file: stack.enter_context(safe_open(file, framework="pt")) for file in self.files}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.close()

    def layout(self, file: Path) -> tuple[bytes, dict[str, dict[str, Any]]]:
        """A safetensors file's header: its bytes as they stand, and name -> dtype, shape, data_offsets.

        Raises:
            AverageError: the file is cut short or is no safetensors file.
        """
        try:
            with file.open("rb") as source:
                length = source.read(8)
                text = source.read(struct.unpack("<Q", length)[0])
            entries = {name: entry for name, entry in json.loads(text).items() if name != "__metadata__"}
        except (struct.error, ValueError, MemoryError, OverflowError) as error:
            raise AverageError(f"{file} is no whole safetensors file: {error}") from error
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        if file.stat().st_size != 8 + len(text) + end:
            raise AverageError(
                f"{file} has {file.stat().st_size:,} bytes and its header describes {8 + len(text) + end:,}; copy it anew"
            )
        return length + text, entries

    def slices(self, name: str, size: int) -> Iterator:
        """A tensor's consecutive parts along its first axis, of about `size` bytes each; a scalar is its own part."""
        source = self._open[self._file_of[name]]
        shape = self.tensors[name].shape
        if len(shape) == 0 or shape[0] == 0:
            yield source.get_tensor(name)
            return
        view = source.get_slice(name)
        row = max(1, 4 * _product(shape[1:]))
        step = max(1, size // row)
        for start in range(0, shape[0], step):
            yield view[start : start + step]


def _product(numbers: tuple[int, ...]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result
