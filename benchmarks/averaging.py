"""Averaging against plain copies: wall time and memory of `average` on checkpoints of a given size.

    python benchmarks/averaging.py                                # 4 checkpoints of 1 GB in float32
    python benchmarks/averaging.py --gigabytes 0.2 --folder /dev/shm

The baseline reads every input and writes one output with plain reads and writes, in the same run, turn about; the best of
the repeats counts. Bounds: time at most 2 x the copies', memory at most 2 x the largest tensor + 200 MB.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

MEASURE = """
import json, re, sys, time
from pathlib import Path
import torch
from sv6d.sft.average import average
torch.set_num_threads(1)
*inputs, out = map(Path, sys.argv[2:])

def copies():
    out.mkdir()
    buffer = bytearray(1 << 20)
    with (out / "x").open("wb", buffering=0) as sink:
        for folder in inputs:
            with (folder / "model.safetensors").open("rb", buffering=0) as source:
                while size := source.readinto(buffer):
                    if folder == inputs[-1]:
                        sink.write(memoryview(buffer)[:size])

def peak():  # of this process alone: getrusage also counts the parent's before exec
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

before = peak()
start = time.perf_counter()
copies() if sys.argv[1] == "copies" else average(inputs, out)
seconds = time.perf_counter() - start
print(json.dumps([seconds, peak() - before]))
"""


def make_checkpoint(folder: Path, size: float, dtype: str, seed: int) -> int:
    """Write a checkpoint of about `size` bytes: an embedding of an eighth of it, and layers. Returns its largest tensor's bytes."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    kind = getattr(torch, dtype)
    layer = int(size / 64 / kind.itemsize)
    tensors = {f"layer.{i}": torch.randn(layer, dtype=kind) for i in range(56)}
    tensors["embedding"] = torch.randn(8 * layer, dtype=kind)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text("{}")
    return 8 * layer * kind.itemsize


def measure(kind: str, inputs: list[Path], out: Path) -> tuple[float, int]:
    """Seconds and bytes of additional peak memory of one way, in a process of its own."""
    os.sync()  # what was written before would slow the writes down
    arguments = [sys.executable, "-c", MEASURE, kind, *map(str, inputs), str(out)]
    seconds, memory = json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
    subprocess.run(["rm", "-r", str(out)], check=True)
    return seconds, memory


@click.command()
@click.option("--gigabytes", default=1.0, show_default=True, help="Size of a checkpoint.")
@click.option("--checkpoints", default=4, show_default=True)
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "bfloat16"]))
@click.option("--repeats", default=3, show_default=True)
@click.option("--folder", help="Where to make the checkpoints; /dev/shm leaves the disk out.")
def main(gigabytes: float, checkpoints: int, dtype: str, repeats: int, folder: str | None):
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        inputs = [Path(scratch) / str(number) for number in range(checkpoints)]
        largest = max(make_checkpoint(folder, gigabytes * 1e9, dtype, seed) for seed, folder in enumerate(inputs))
        runs = {"copies": [], "average": []}
        for _ in range(repeats):
            for kind, done in runs.items():
                done.append(measure(kind, inputs, Path(scratch) / "out"))
    table = Table("", "seconds (best)", "all repeats", "additional peak memory")
    for kind, done in runs.items():
        memory = max(memory for _, memory in done)
        times = ", ".join(f"{seconds:.2f}" for seconds, _ in done)
        table.add_row(kind, f"{min(done)[0]:.2f}", times, f"{memory / 1e6:.0f} MB")
    Console().print(table)
    ratio = min(runs["average"])[0] / min(runs["copies"])[0]
    memory, bound = max(memory for _, memory in runs["average"]), 2 * largest + 200e6
    print(f"{checkpoints} checkpoints of {gigabytes:g} GB, {dtype}: time {ratio:.2f} x copies (bound 2), ", end="")
    print(f"memory {memory / 1e6:.0f} MB (bound {bound / 1e6:.0f} MB)")
    sys.exit(ratio > 2 or memory > bound)


if __name__ == "__main__":
    main()
