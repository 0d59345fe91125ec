"""The mean of a run's last checkpoints (stochastic weight averaging, section 5.1.2), uniform or weighted.

Tensor by tensor, slice by slice, summed in float32: memory stays at a few megabytes whatever the model's size. The output has the
last checkpoint's files, tensor names and dtypes, so whatever loads that one loads the average.
"""

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from .checkpoints import AverageError, Weights, as_model_folder, read_header

RECORD = "sv6d_average.json"
"""Written into the output: what it is the mean of. A folder that has it may be replaced by a new average."""
SLICE_BYTES = 1 << 18
"""Read at a time of each checkpoint; small, so that the sums stay in the processor's cache."""


def average(
    checkpoints: Sequence[str | Path],
    out: str | Path,
    advance: Callable[[int, int], None] = lambda written, total: None,
    weights: Sequence[float] | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Path:
    """Write the mean of checkpoints as a Hugging Face folder.

    Args:
        checkpoints: two or more model folders with safetensors, or `global_step_<n>` folders of verl (its FSDP shards are
            merged by verl's own merger where no whole model was saved). The last one gives all files but the weights.
        out: the new folder; appears whole or not at all. An earlier average there is replaced, anything else refused.
        advance: called with the bytes written since the last call, and the bytes of all.
        weights: of each checkpoint, from 0 up; they are divided by their sum. None: all alike.
        say: told what takes long before the first byte is written.

    Raises:
        AverageError: weights that do not fit, fewer than two checkpoints, checkpoints whose tensors differ (listed), or an
            output in the way.
    """
    out = Path(out).absolute()
    if len(checkpoints) < 2:
        raise AverageError(
            f"averaging needs two checkpoints at least, got {len(checkpoints)}: {', '.join(map(str, checkpoints))}"
        )
    shares = None if weights is None else _shares(weights, len(checkpoints))
    _check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        with ExitStack() as stack:
            folders = [as_model_folder(Path(checkpoint), work / "merged", say) for checkpoint in checkpoints]
            sources = [stack.enter_context(Weights(folder)) for folder in folders]
            _check_whole_models(sources)
            _check_equal_layout(sources)
            result = work / "result"
            _copy_other_files(sources[-1], result)
            total = sum(file.stat().st_size for file in sources[-1].files)
            for file in sources[-1].files:
                _average_file(file, sources, shares, result / file.name, lambda written: advance(written, total))
        record = {
            "ingredients": [str(checkpoint) for checkpoint in checkpoints],
            "shares": shares or [1 / len(checkpoints)] * len(checkpoints),
        }
        (result / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        if out.exists():
            out.rename(work / "replaced")
        result.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out


def exponential(count: int, decay: float) -> list[float]:
    """Weights of an exponential mean over `count` checkpoints, oldest first: each has `decay` times the weight of the next."""
    return [decay**age for age in reversed(range(count))]


def _shares(weights: Sequence[float], count: int) -> list[float]:
    """Weights as shares that sum to 1.

    Raises:
        AverageError: not one a checkpoint, a negative or infinite one, or all 0.
    """
    if len(weights) != count:
        raise AverageError(f"{count} checkpoints take {count} weights, got {len(weights)}: {list(weights)}")
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise AverageError(f"weights are numbers from 0 up, not all of them 0; got {list(weights)}")
    return [weight / math.fsum(weights) for weight in weights]


def _average_file(
    file: Path, sources: list[Weights], shares: list[float] | None, target: Path, advance: Callable[[int], None]
) -> None:
    """One safetensors file: the last checkpoint's header as it is, then each tensor's mean at the place that the header gives."""
    header, entries = read_header(file)
    with target.open("wb", buffering=0) as sink:
        sink.write(header)
        advance(len(header))
        for name in sorted(entries, key=lambda name: entries[name]["data_offsets"]):
            for mean in _means(name, sources, shares):
                sink.write(mean)
                advance(len(mean))


def _means(name: str, sources: list[Weights], shares: list[float] | None) -> Iterator[memoryview]:
    """The mean of one tensor, as bytes in the stored dtype, a slice after the other.

    Args:
        shares: of each source, summing to 1; None: a sum that is divided once, exact where the parts are equal.

    Raises:
        AverageError: a tensor of whole numbers (a buffer) that is not the same everywhere.
    """
    import torch

    buffers = [torch.empty(SLICE_BYTES, dtype=torch.uint8) for _ in sources]
    for parts in zip(
        *(source.slices(name, buffer) for source, buffer in zip(sources, buffers, strict=True)), strict=True
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
            if shares:
                total *= shares[0]
            for i, part in enumerate(parts[1:], start=1):
                total.add_(part if part.dtype == total.dtype else part.float(), alpha=shares[i] if shares else 1)
            mean = (total if shares else total.div_(len(parts))).to(first.dtype)
        yield memoryview(mean.view(torch.uint8).numpy())


def _check_whole_models(weights: list[Weights]) -> None:
    """Raises: AverageError: a checkpoint of LoRA. The mean of products is not the product of means, and no model loads such names."""
    for one in weights:
        adapted = [name for name in one.tensors if ".lora_" in name or ".base_layer." in name]
        if adapted:
            raise AverageError(
                f"{one.folder} holds LoRA's adapters beside the base weights ({adapted[0]}, {len(adapted)} tensors): it is no whole model. "
                f"Merge the adapters first (PEFT's merge_and_unload), or train without model.lora_rank"
            )


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
