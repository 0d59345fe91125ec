"""Run one training job as a child process: its output goes to a log, its metrics to the terminal, a line a step.

verl prints a kilobyte a step, among Ray's and vLLM's own lines. The log keeps all of it; the person at the terminal sees what
moves: reward, entropy, length, seconds. A job that fails ends with the last lines of its log and where to find the rest.
"""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..reports.recorder import set_aside
from ..sft.checkpoints import TRACKER
from .compose import RecipeError

CONFIG = "config.yaml"
POLL_SECONDS = 0.3
TAIL_LINES = 25


class JobFailed(click.ClickException):
    """A training process that ended with a non-zero status."""


class JsonLines:
    """Follows a JSON-lines file that another process appends to; a line that is still being written is left for the next look."""

    def __init__(self, path: Path):
        self.path, self.offset = path, 0

    def new(self) -> Iterator[dict]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self.offset += len(line)
                yield json.loads(line)


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def steps_done(config: DictConfig, shards: str = "") -> int:
    """The step from which verl will continue: that of the last complete checkpoint, 0 for a new run.

    Args:
        shards: the folder in a checkpoint that holds the policy's shards.

    Raises:
        RecipeError: that checkpoint is in shards of another number of ranks.
    """
    folder, ranks = Path(config.trainer.default_local_dir), config.trainer.nnodes * config.trainer.n_gpus_per_node
    if config.trainer.resume_mode != "auto" or not (folder / TRACKER).is_file():
        return 0
    step = int((folder / TRACKER).read_text())
    saved = json.loads((folder / f"global_step_{step}" / shards / "fsdp_config.json").read_text())["world_size"]
    if saved != ranks:
        raise RecipeError(
            f"{folder}/global_step_{step} was saved by {saved} ranks and this run has {ranks} (trainer.nnodes x "
            f"trainer.n_gpus_per_node). Continue with {saved}, or start anew in another sv6d.run_dir from that checkpoint's model."
        )
    return step


def train(
    config: DictConfig,
    command: list[str],
    *,
    title: str,
    done: int,
    describe: Callable[[int, dict], str | None],
    console: Console,
) -> None:
    """Run the training process of a composed recipe from step `done` to its last; a run that is complete is left alone.

    Leaves in `sv6d.run_dir`: `config.yaml` (everything resolved; the process reads it), `train.log`, `metrics.jsonl`.
    """
    run_dir, steps = Path(config.sv6d.run_dir), config.trainer.total_training_steps
    if done >= steps:
        console.print(f"{title}: {run_dir} is complete, {done} of {steps} steps; nothing to do", highlight=False)
        return
    if done:
        console.print(f"{title}: continuing {run_dir} after step {done} of {steps}", highlight=False)
    run_dir.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, run_dir / CONFIG, resolve=True)
    run(
        [*command, str(run_dir / CONFIG)],
        title=title,
        environment=dict(config.sv6d.env),
        log=run_dir / "train.log",
        metrics=run_dir / "metrics.jsonl",
        total_steps=steps,
        describe=describe,
        console=console,
    )
    report_skipped(run_dir, console)


def run(
    command: list[str],
    *,
    title: str,
    environment: dict[str, str],
    log: Path,
    metrics: Path,
    total_steps: int,
    describe: Callable[[int, dict], str | None],
    console: Console | None = None,
) -> None:
    """Run `command` to its end and show a line for each step that appears in `metrics`.

    Args:
        environment: added to this process's own.
        metrics: the file of verl's `file` logger, one `{"step", "data"}` a line.
        describe: (step, data) to the text of the step's line; None prints nothing.

    Raises:
        JobFailed: the process ended with another status than 0; the message holds the end of the log.
    """
    console = console or Console()
    log.parent.mkdir(parents=True, exist_ok=True)
    set_aside(metrics)
    follower = JsonLines(metrics)
    with log.open("ab") as sink:
        child = subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, env={**os.environ, **environment}, start_new_session=True
        )
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    try:
        with bar, terminate_as_interrupt():
            task = bar.add_task(f"{title}: starting (log: {log})", total=total_steps)
            while True:
                status = child.poll()
                for entry in follower.new():
                    line = describe(entry["step"], entry["data"])
                    if line is not None:
                        bar.console.print(line, highlight=False)
                        bar.update(task, completed=entry["step"], description=title)
                if status is not None:
                    break
                time.sleep(POLL_SECONDS)
    except BaseException:
        stop(child)
        raise
    if status != 0:
        raise JobFailed(f"{title} ended with status {status}. The end of its log:\n\n{tail(log)}\n\nAll of it: {log}")


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM, as clusters send it, ends the job as Ctrl-C does; without this the job would outlive its supervisor."""

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stop(child: subprocess.Popen, patience: float = 15.0) -> None:
    """End a job and every process of its session: politely, then not."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, sent)
            child.wait(timeout=patience)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def report_skipped(run_dir: Path, console: Console, limit: int = 10) -> None:
    """Say how many rows of a run could not be used, by task, and list the first ones."""
    path = run_dir / "skipped_rows.jsonl"
    if not path.exists():
        return
    rows = {(row["task"], row["index"]): row for row in map(json.loads, path.read_text().splitlines())}
    by_task = Counter(task for task, _ in rows)
    counts = ", ".join(f"{count} of {task}" for task, count in by_task.most_common())
    console.print(f"[yellow]{len(rows)} rows were skipped[/] ({counts}); all of them: {path}", highlight=False)
    for row in list(rows.values())[:limit]:
        console.print(f"  {row['task']} row {row['index']} (id {row['id']!r}): {row['error']}", highlight=False)
