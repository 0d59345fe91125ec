"""`sv6d average`: the uniform mean of a run's last checkpoints (stochastic weight averaging, section 5.1.2).

Tensor by tensor, slice by slice, summed in float32: memory stays at a few megabytes whatever the model's size. The output has the
last checkpoint's files, tensor names and dtypes, so whatever loads that one loads the average.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from .checkpoints import AverageError, Weights, as_model_folder, last_checkpoints, read_header

RECORD = "sv6d_average.json"
"""Written into the output: what it is the mean of. A folder that has it may be replaced by a new average."""
SLICE_BYTES = 1 << 18
"""Read at a time of each checkpoint; small, so that the sums stay in the processor's cache."""


def average(checkpoints: Sequence[str | Path], out: str | Path, advance: Callable[[int], None] | None = None) -> Path:
    """Write the uniform mean of checkpoints as a Hugging Face folder.

    Args:
        checkpoints: two or more model folders with safetensors, or `global_step_<n>` folders of verl (its FSDP shards are
            merged by verl's own merger where no whole model was saved). The last one gives all files but the weights.
        out: the new folder; appears whole or not at all. An earlier average there is replaced, anything else refused.
        advance: called with the number of bytes written since the last call.

    Raises:
        AverageError: fewer than two checkpoints, checkpoints whose tensors differ (listed), or an output in the way.
    """
    out = Path(out).absolute()
    if len(checkpoints) < 2:
        raise AverageError(
            f"averaging needs two checkpoints at least, got {len(checkpoints)}: {', '.join(map(str, checkpoints))}"
        )
    _check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        with ExitStack() as stack:
            folders = [as_model_folder(Path(checkpoint), work / "merged") for checkpoint in checkpoints]
            weights = [stack.enter_context(Weights(folder)) for folder in folders]
            _check_equal_layout(weights)
            result = work / "result"
            _copy_other_files(weights[-1], result)
            for file in weights[-1].files:
                _average_file(file, weights, result / file.name, advance or (lambda size: None))
        record = {"method": "uniform mean", "ingredients": [str(checkpoint) for checkpoint in checkpoints]}
        (result / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        if out.exists():
            out.rename(work / "replaced")
        result.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out


def _average_file(file: Path, weights: list[Weights], target: Path, advance: Callable[[int], None]) -> None:
    """One safetensors file: the last checkpoint's header as it is, then each tensor's mean at the place that the header gives."""
    header, entries = read_header(file)
    with target.open("wb", buffering=0) as sink:
        sink.write(header)
        for name in sorted(entries, key=lambda name: entries[name]["data_offsets"]):
            for mean in _means(name, weights):
                sink.write(mean)
                advance(len(mean))


def _means(name: str, weights: list[Weights]) -> Iterator[memoryview]:
    """The mean of one tensor, as bytes in the stored dtype, a slice after the other.

    Raises:
        AverageError: a tensor of whole numbers (a buffer) that is not the same everywhere.
    """
    import torch

    buffers = [torch.empty(SLICE_BYTES, dtype=torch.uint8) for _ in weights]
    for parts in zip(
        *(source.slices(name, buffer) for source, buffer in zip(weights, buffers, strict=True)), strict=True
    ):
        first = parts[0]
        if not first.is_floating_point():
            if not all(torch.equal(part, first) for part in parts):
                raise AverageError(
                    f"{name} holds {first.dtype} and differs between checkpoints; whole numbers have no mean"
                )
            mean = first
        else:
            total = first if first.dtype.itemsize >= 4 else first.float()
            for part in parts[1:]:
                total += part if part.dtype == total.dtype else part.float()
            mean = total.div_(len(parts)).to(first.dtype)
        yield memoryview(mean.view(torch.uint8).numpy())


def _check_equal_layout(weights: list[Weights], limit: int = 10) -> None:
    """Raises: AverageError: tensors that are missing, or have another shape or dtype, than in the last checkpoint."""
    reference = weights[-1]
    problems = []
    for other in weights[:-1]:
        for name in sorted(reference.tensors.keys() | other.tensors.keys()):
            mine, theirs = reference.tensors.get(name), other.tensors.get(name)
            if mine != theirs:
                describe = lambda tensor: f"{tensor.dtype}{list(tensor.shape)}" if tensor else "absent"  # noqa: E731
                problems.append(
                    f"  {name}: {describe(theirs)} in {other.folder}, {describe(mine)} in {reference.folder}"
                )
    if problems:
        more = f"\n  and {len(problems) - limit} more" if len(problems) > limit else ""
        raise AverageError("these checkpoints are not of one model:\n" + "\n".join(problems[:limit]) + more)


def _copy_other_files(weights: Weights, target: Path) -> None:
    """Everything of the model folder but its weights: configuration, tokenizer, processor, index."""
    shutil.copytree(weights.folder, target, ignore=lambda _, names: {f.name for f in weights.files} & set(names))


def _check_replaceable(out: Path) -> None:
    if out.is_dir() and ((out / RECORD).is_file() or not any(out.iterdir())):
        return
    if out.exists():
        raise AverageError(f"{out} exists and is no average of ours; remove it or choose another output")


@click.command(name="average", short_help="Average the last checkpoints of a run (SWA, section 5.1.2).")
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--last", default=3, show_default=True, help="How many of a run's checkpoints.")
def command(checkpoints: tuple[Path, ...], out: Path, last: int):
    """Average model checkpoints uniformly: the last ones of a run, or the ones given.

    \b
      sv6d average runs/leum_sft --last 4 -o runs/leum_sft/averaged
      sv6d average step_100 step_200 step_300 -o averaged
    """
    chosen = last_checkpoints(checkpoints[0], last) if len(checkpoints) == 1 else list(checkpoints)
    click.echo(f"averaging {len(chosen)} checkpoints: {', '.join(str(checkpoint) for checkpoint in chosen)}")
    columns = (TextColumn("averaging"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("averaging", total=None)
        average(chosen, out, lambda size: bar.advance(task, size))
    click.echo(f"wrote {out}")
