"""Checkpoints as averaging needs them: the last ones of a run, each as a model folder, its tensors by name and in slices."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    import torch

STEP = re.compile(r"global_step_(\d+)$")
TRACKER = "latest_checkpointed_iteration.txt"
"""verl writes a step here once its checkpoint is whole."""


TORCH_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""safetensors' names of dtypes, and torch's."""


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
        AverageError: fewer than `count` checkpoints, or a folder that is one itself.
    """
    if model_folder(run) or shard_folder(run):
        raise AverageError(
            f"{run} is one checkpoint, and averaging needs two: give the run's folder, or several checkpoints"
        )
    run = run / "checkpoints" if (run / "checkpoints").is_dir() else run
    steps = {int(match.group(1)): path for path in run.iterdir() if (match := STEP.search(path.name))}
    if (run / TRACKER).is_file():  # what lies beyond it was cut short
        steps = {step: path for step, path in steps.items() if step <= int((run / TRACKER).read_text())}
    if len(steps) < count:
        found = ", ".join(f"global_step_{step}" for step in sorted(steps)) or "none"
        raise AverageError(f"{run} has {len(steps)} checkpoints ({found}) and {count} were asked for; see --last")
    return [steps[step] for step in sorted(steps)[-count:]]


def model_folder(checkpoint: Path) -> Path | None:
    """Where a checkpoint has its whole model; None where it has none."""
    folders = (checkpoint, checkpoint / "huggingface", checkpoint / "actor" / "huggingface")
    return next((folder for folder in folders if any(folder.glob("*.safetensors"))), None)


def shard_folder(checkpoint: Path) -> Path | None:
    """Where a checkpoint has its FSDP shards; None where it has none."""
    folders = (checkpoint, checkpoint / "actor")
    return next((folder for folder in folders if any(folder.glob("model_world_size_*_rank_*.pt"))), None)


def as_model_folder(checkpoint: Path, scratch: Path, say: Callable[[str], None] = lambda sentence: None) -> Path:
    """The Hugging Face folder of a checkpoint; made in `scratch` by verl's own merger where only FSDP shards were saved.

    Args:
        say: told of a merger, which takes minutes.

    Raises:
        AverageError: neither a model folder nor a checkpoint of verl, or the merger failed.
    """
    if whole := model_folder(checkpoint):
        return whole
    if shards := shard_folder(checkpoint):
        say(f"merging the shards of {checkpoint}")
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
    """The tensors of a model folder, wherever its shards keep them. A context manager: the files stay open meanwhile.

    Read with plain reads into one buffer, not mapped (as `safe_open` does): a mapped file's pages would count as memory of
    the process up to the file's whole size, and faulting them in is several times slower than reading.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.files = sorted(folder.glob("*.safetensors"))
        self.tensors: dict[str, TensorInfo] = {}
        self._place: dict[str, tuple[Path, int]] = {}
        for file in self.files:
            header, entries = read_header(file)
            for name, entry in entries.items():
                self.tensors[name] = TensorInfo(entry["dtype"], tuple(entry["shape"]))
                self._place[name] = file, len(header) + entry["data_offsets"][0]

    def __enter__(self) -> "Weights":
        with ExitStack() as stack:
            self._open = {file: stack.enter_context(file.open("rb", buffering=0)) for file in self.files}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.close()

    def slices(self, name: str, buffer: "torch.Tensor") -> Iterator["torch.Tensor"]:
        """A tensor's consecutive elements, flat, as many at a time as fit in `buffer`; each is valid until the next is asked for.

        Args:
            buffer: uint8 (n,), n a multiple of 8.
        """
        import torch

        info, (file, offset) = self.tensors[name], self._place[name]
        dtype = getattr(torch, TORCH_DTYPES[info.dtype])
        left = math.prod(info.shape) * dtype.itemsize
        source, view = self._open[file], memoryview(buffer.numpy())
        source.seek(offset)
        while left:
            size = min(left, len(view))
            if source.readinto(view[:size]) != size:
                raise AverageError(f"{file}: {name} cannot be read to its end; was the file changed meanwhile?")
            left -= size
            yield buffer[:size].view(dtype)


def read_header(file: Path) -> tuple[bytes, dict[str, dict[str, Any]]]:
    """A safetensors file's header: its bytes as they stand, and name -> dtype, shape, data_offsets (from the header's end).

    Raises:
        AverageError: the file is cut short, is no safetensors file, or holds a dtype that is not known here.
    """
    size = file.stat().st_size
    with file.open("rb") as source:
        length = source.read(8)
        text = source.read(min(int.from_bytes(length, "little"), size))
    try:
        entries = {name: entry for name, entry in json.loads(text).items() if name != "__metadata__"}
    except ValueError as error:
        raise AverageError(f"{file} is no whole safetensors file: {error}") from error
    described = 8 + len(text) + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if size != described:
        raise AverageError(f"{file} has {size:,} bytes and its header describes {described:,}; copy it anew")
    unknown = {entry["dtype"] for entry in entries.values()} - TORCH_DTYPES.keys()
    if unknown:
        raise AverageError(f"{file} holds {', '.join(sorted(unknown))}; known are {', '.join(TORCH_DTYPES)}")
    return length + text, entries
