"""Run one training job as a child process: its output goes to a log, its metrics to the terminal, a line a step.

verl prints a kilobyte a step, among Ray's and vLLM's own lines. The log keeps all of it; the person at the terminal sees what
moves: reward, entropy, length, seconds. What happens when the job ends is `restarts.py`'s.
"""

import ctypes
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ...data_mixers.skipped import read_skipped
from ...reports.recorder import set_aside

POLL_SECONDS = 0.3
TAIL_LINES = 25
PR_SET_PDEATHSIG = 1
AT_ONCE = 2.0
"""Seconds within which a second SIGTERM is the first one's echo: `timeout` and others signal a process and then its group."""
SLOW_STEPS = 3
"""A job that has made steps counts as hung once the next one takes so many times the longest."""


class Job(NamedTuple):
    """What is run, and where it leaves what."""

    title: str
    command: list[str]
    environment: dict[str, str]
    """Added to this process's own."""
    log: Path
    metrics: Path
    """The file of verl's `file` logger, one `{"step", "data"}` a line."""
    total_steps: int
    describe: Callable[[int, dict], str | None]
    """(step, data) to the text of the step's line; None prints nothing."""
    stop: Path | None = None
    """A file that asks the job to save and end; None: SIGTERM does. torchrun answers SIGTERM by ending its ranks."""


class Limits(NamedTuple):
    """Seconds."""

    grace: float = 300.0
    """From SIGTERM to the job's end."""
    stalled_after: float | None = None
    """Without a step, until the job counts as hung."""

    def patience(self, longest: float) -> float | None:
        """Seconds without a step that are too many for a job whose longest took so many; None: none are."""
        return self.stalled_after and max(self.stalled_after, SLOW_STEPS * longest)


class End(NamedTuple):
    """How a job ended."""

    status: int
    """Below 0: by that signal."""
    step: int | None
    """The last step that it finished, None where none."""
    stalled: bool
    words: str
    """The end of what it printed."""


class JsonLines:
    """Follows a JSON-lines file that another process appends to. A line that is still being written is left for the next look,
    one that a full disk cut short is passed over: a job is not ended for what cannot be read of it. A null is a NaN or an infinity
    of verl's, whose logger writes both so, and is read as NaN."""

    def __init__(self, path: Path):
        self.path, self.offset = path, 0

    def new(self) -> Iterator[dict]:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                lines = file.readlines()
        except OSError:  # not there yet, or its file system is away for a moment
            return
        for line in lines:
            if not line.endswith(b"\n"):
                return
            self.offset += len(line)
            try:
                yield json.loads(line, object_hook=_nan_for_null)
            except ValueError:
                continue


def _nan_for_null(data: dict) -> dict:
    return {name: math.nan if value is None else value for name, value in data.items()}


class Lasting:
    """A stream that leads nowhere once its terminal is closed or its pipe's reader is gone: the log has all of it, and a job of
    days is not ended for that."""

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, act: Callable, *arguments) -> None:
        try:
            act(*arguments)
        except OSError:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


@contextmanager
def lasting(console: Console) -> Iterator[None]:
    """A context in which nobody needs to be there to read what is printed."""
    before, console.file = console.file, Lasting(console.file)
    try:
        yield
    finally:
        console.file = before


class StopRequest:
    """A context in which SIGTERM, as clusters send it, is noted rather than obeyed; a second one, `AT_ONCE` later or more,
    interrupts as Ctrl-C does."""

    def __init__(self):
        self.since: float | None = None

    def __enter__(self) -> "StopRequest":
        self._before = signal.getsignal(signal.SIGTERM)
        self.listen()
        return self

    def listen(self) -> None:
        """Once more, after others (Ray) have put a handler of their own on the signal."""
        signal.signal(signal.SIGTERM, self._note)

    def __exit__(self, *exception) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _note(self, signum, frame) -> None:
        now = time.monotonic()
        if self.since is None:
            self.since = now
        elif now - self.since >= AT_ONCE:
            raise KeyboardInterrupt


def run(job: Job, stop: StopRequest, limits: Limits, console: Console, keep_open: tuple[int, ...] = ()) -> End:
    """Run a job to its end, and show a line for each step that appears in its metrics; none of its processes outlives it.

    On SIGTERM the job is asked to stop, and has `limits.grace` seconds. On Ctrl-C, and where it makes no step for
    `limits.stalled_after` seconds and `SLOW_STEPS` times as long as its longest, it is ended.

    Args:
        keep_open: file descriptors that the job inherits.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    set_aside(job.metrics)
    follower, last = JsonLines(job.metrics), None
    printed_before = job.log.stat().st_size if job.log.exists() else 0
    with job.log.open("ab") as sink:
        child = subprocess.Popen(
            job.command,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, **job.environment},
            start_new_session=True,
            preexec_fn=partial(_end_with_parent, os.getpid()) if sys.platform == "linux" else None,
            pass_fds=keep_open,
        )
    moved, longest, told, stalled = time.monotonic(), 0.0, False, False
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(f"{job.title}: starting (log: {job.log})", total=job.total_steps)
            while True:
                status = child.poll()
                for entry in follower.new():
                    if last is not None:  # else it was the start
                        took = time.monotonic() - moved
                        if longest <= limits.grace < took:
                            bar.console.print(too_slow(took, limits.grace), highlight=False)
                        longest = max(longest, took)
                    moved, last = time.monotonic(), entry["step"]
                    line = described(job, last, entry["data"])
                    if line is not None:
                        bar.console.print(line, highlight=False)
                        bar.update(task, completed=last, description=job.title)
                    for notice in notices(entry["step"], entry["data"]):
                        bar.console.print(notice, highlight=False)
                if status is not None:
                    break
                now = time.monotonic()
                if stop.since is not None and not told:
                    told = True
                    ask_to_stop(job, child)
                    bar.console.print(
                        f"{job.title}: SIGTERM; the job has {limits.grace:g} s (sv6d.grace) to save and end",
                        highlight=False,
                    )
                patience = limits.patience(longest)
                stalled = patience is not None and now - moved > patience
                if stalled or (stop.since is not None and now - stop.since > limits.grace):
                    end(child)
                    status = child.returncode
                    break
                time.sleep(POLL_SECONDS)
    except BaseException:
        end(child)
        raise
    end_session(child.pid)
    return End(status, last, stalled, tail(job.log, since=printed_before))


def ask_to_stop(job: Job, child: subprocess.Popen) -> None:
    """Have a job save and end."""
    if job.stop is None:
        child.send_signal(signal.SIGTERM)
    else:
        job.stop.parent.mkdir(parents=True, exist_ok=True)
        job.stop.touch()


def described(job: Job, step: int, data: dict) -> str | None:
    """A step's line. Metrics that it cannot be written of are told in its place: a job is not ended for a line."""
    try:
        return job.describe(step, data)
    except Exception as error:  # whatever formatting makes of what a metric may hold
        return (
            f"step {step}: its line cannot be written ({type(error).__name__}: {error}); {job.metrics} has its numbers"
        )


def too_slow(took: float, grace: float) -> str:
    """What a step means that takes longer than the job has between SIGTERM and its end."""
    return (
        f"[yellow]a step took {took:.0f} s, and a job that is asked to stop has {grace:g} s (sv6d.grace)[/]: in the middle of an "
        f"update it will not come to save. Raise sv6d.grace where the cluster gives the time, or lower trainer.save_freq"
    )


def notices(step: int, data: dict) -> Iterator[str]:
    """What a step's metrics say about its checkpoint, about the steps before it and about what an earlier attempt left."""
    if data.get("sv6d/unlogged_steps"):
        yield (
            f"[red]step {step}: the metrics of {data['sv6d/unlogged_steps']:.0f} before it found no room on the disk[/], nor may a "
            f"checkpoint have; make room"
        )
    if data.get("sv6d/checkpoint_failed"):
        yield f"[red]step {step}: no checkpoint, it could not be saved[/] (the log says why); the last whole one stays"
    if "sv6d/restored_groups" in data:
        yield (
            f"step {step}: of the prompts that were in flight when the checkpoint was saved, {data['sv6d/restored_groups']:.0f} "
            f"had their rollouts, {data['sv6d/restarted_groups']:.0f} were rolled out again"
        )


def _end_with_parent(parent: int) -> None:
    """In the job, before it starts: should its launcher be killed, it gets the SIGTERM that the launcher can no longer send."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was killed before that
        os.kill(os.getpid(), signal.SIGTERM)


def end(child: subprocess.Popen, patience: float = 15.0) -> None:
    """End a job at once: as Ctrl-C does, then, after `patience` seconds or at another Ctrl-C, not so politely."""
    try:
        child.send_signal(signal.SIGINT)
        child.wait(timeout=patience)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()
        child.wait()
    finally:
        end_session(child.pid)


def end_session(session: int, patience: float = 15.0) -> None:
    """Kill what is left of a job's session: a Ray that lost its driver, engines that lost their Ray."""
    left = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session:
                process.kill()
                left.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    psutil.wait_procs(left, timeout=patience)


def tail(path: Path, lines: int = TAIL_LINES, since: int = 0) -> str:
    """The last lines of a log, from a byte on."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(since, path.stat().st_size - 65_536))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def report_skipped(run_dir: Path, console: Console, limit: int = 10) -> None:
    """Say how many rows of a run could not be used, by task, and list the first ones."""
    path = run_dir / "skipped_rows.jsonl"
    rows = {(row["task"], row["index"]): row for row in read_skipped(path)}
    if not rows:
        return
    by_task = Counter(task for task, _ in rows)
    counts = ", ".join(f"{count} of {task}" for task, count in by_task.most_common())
    console.print(f"[yellow]{len(rows)} rows were skipped[/] ({counts}); all of them: {path}", highlight=False)
    for row in list(rows.values())[:limit]:
        console.print(f"  {row['task']} row {row['index']} (id {row.get('id')!r}): {row.get('error')}", highlight=False)
