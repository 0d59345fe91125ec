"""Run one training job as a child process: its output goes to a log, its metrics to the terminal, a line a step.

verl prints a kilobyte a step, among Ray's and vLLM's own lines. The log keeps all of it; the person at the terminal sees what
moves: reward, entropy, length, seconds. What happens when the job ends is `restarts.py`'s.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..reports.recorder import set_aside

POLL_SECONDS = 0.3
TAIL_LINES = 25
PR_SET_PDEATHSIG = 1


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


class Limits(NamedTuple):
    """Seconds."""

    grace: float = 300.0
    """From SIGTERM to the job's end."""
    stalled_after: float | None = None
    """Without a step, until the job counts as hung."""


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


class StopRequest:
    """A context in which SIGTERM, as clusters send it, is noted rather than obeyed; a second one interrupts as Ctrl-C does."""

    def __init__(self):
        self.since: float | None = None

    def __enter__(self) -> "StopRequest":
        self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *exception) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _note(self, signum, frame) -> None:
        if self.since is not None:
            raise KeyboardInterrupt
        self.since = time.monotonic()


def run(job: Job, stop: StopRequest, limits: Limits, console: Console, keep_open: tuple[int, ...] = ()) -> End:
    """Run a job to its end, and show a line for each step that appears in its metrics; none of its processes outlives it.

    On SIGTERM the job is sent one too, and has `limits.grace` seconds. On Ctrl-C, and where it does nothing for
    `limits.stalled_after` seconds, it is ended.

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
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            pass_fds=keep_open,
        )
    moved, told, stalled = time.monotonic(), False, False
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
                    moved, last = time.monotonic(), entry["step"]
                    line = job.describe(last, entry["data"])
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
                    child.send_signal(signal.SIGTERM)
                    bar.console.print(
                        f"{job.title}: SIGTERM; the job has {limits.grace:g} s (sv6d.grace) to save and end",
                        highlight=False,
                    )
                stalled = limits.stalled_after is not None and now - moved > limits.stalled_after
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


def notices(step: int, data: dict) -> Iterator[str]:
    """What a step's metrics say about its checkpoint and about what an earlier attempt left."""
    if data.get("sv6d/checkpoint_failed"):
        yield f"[red]step {step}: no checkpoint, it could not be saved[/] (the log says why); the last whole one stays"
    if "sv6d/restored_groups" in data:
        yield (
            f"step {step}: of the prompts that were in flight when the checkpoint was saved, {data['sv6d/restored_groups']:.0f} "
            f"had their rollouts, {data['sv6d/restarted_groups']:.0f} were rolled out again"
        )


def _end_with_parent() -> None:
    """In the job, before it starts: should its launcher be killed, it gets the SIGTERM that the launcher can no longer send."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end(child: subprocess.Popen, patience: float = 15.0) -> None:
    """End a job at once: as Ctrl-C does, then not so politely."""
    child.send_signal(signal.SIGINT)
    try:
        child.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
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
    if not path.exists():
        return
    rows = {(row["task"], row["index"]): row for row in map(json.loads, path.read_text().splitlines())}
    by_task = Counter(task for task, _ in rows)
    counts = ", ".join(f"{count} of {task}" for task, count in by_task.most_common())
    console.print(f"[yellow]{len(rows)} rows were skipped[/] ({counts}); all of them: {path}", highlight=False)
    for row in list(rows.values())[:limit]:
        console.print(f"  {row['task']} row {row['index']} (id {row['id']!r}): {row['error']}", highlight=False)
