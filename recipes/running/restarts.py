"""A training run from its composed recipe to its last step, over as many jobs as that takes (docs/surviving.md).

A job that dies is started again after the last whole checkpoint, up to `sv6d.restarts` times, where that may help: it made
steps, or it died of something that passes. Each restart says what was lost.
"""

import fcntl
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import pyarrow.parquet as pq
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from ...reports.parts import ROLLOUTS, find_parts
from ...sft.manifest import last_whole, name_latest
from ...verl_plugin.surviving.checkpoint_folder import stop_file
from ...verl_plugin.surviving.settings import Survival, read_settings
from ..compose import RecipeError
from .supervise import End, Job, Limits, StopRequest, lasting, report_skipped, run

CONFIG = "config.yaml"
LOCK = "lock"
PREEMPTED = 75
"""The exit status of a run that was asked to stop and is to be continued: EX_TEMPFAIL of sysexits.h."""
LONGEST_PAUSE = 300.0
SHORTEST_TRY = 1.0
"""Seconds between two tries at a disk that refuses."""
T = TypeVar("T")
PASSING = re.compile(
    r"ActorDiedError(?!.*creation task)|ActorUnavailableError|NodeDiedError|WorkerDied|EngineDeadError|NCCL|Xid|"
    r"Connection (reset|refused|timed out)|Address already in use|Stale file handle|Temporary failure in name resolution"
)
"""What a job may die of that another start need not meet again."""


class JobFailed(click.ClickException):
    """A run whose job failed, and was not, or not again, restarted."""


class Preempted(click.ClickException):
    """A run that was asked to stop, and did: the same command continues it."""

    exit_code = PREEMPTED


def train(
    config: DictConfig,
    command: list[str],
    *,
    title: str,
    shards: str,
    describe: Callable[[int, dict], str | None],
    console: Console,
    ready: Callable[[], None] = lambda: None,
    by_file: bool = False,
) -> None:
    """Train until the run is complete, from its last whole checkpoint on; a run that is complete is left alone.

    Leaves in `sv6d.run_dir`: `config.yaml` (everything resolved; the job reads it), `train.log`, `metrics.jsonl`.

    Args:
        command: starts the job, when the configuration's path is added.
        shards: the folder in a checkpoint that holds the policy's shards.
        ready: waits, before a restart, until there is again what a job needs: nodes, where one of them had died.
        by_file: whether the job is asked to stop by the run's stop file (`checkpoint_folder.stop_file`) instead of SIGTERM.

    Raises:
        JobFailed: a job failed, and a restart would not help or is not allowed; the message holds the end of its log.
        Preempted: SIGTERM, to this process or to the job.
        RecipeError: a setting of `Survival` is wrong, another process trains in the same folder, or the checkpoint is of another
            number of ranks.
    """
    run_dir, steps = Path(config.sv6d.run_dir), config.trainer.total_training_steps
    survival = settings_of(config)
    run_dir.mkdir(parents=True, exist_ok=True)
    by_hand = stop_file(config)
    job = Job(
        title=title,
        command=[*command, str(run_dir / CONFIG)],
        environment=dict(config.sv6d.env),
        log=run_dir / "train.log",
        metrics=run_dir / "metrics.jsonl",
        total_steps=steps,
        describe=describe,
        stop=by_hand if by_file else None,
    )
    limits = Limits(survival.grace, survival.stalled_after)
    restarts, failed_at = 0, None
    with lasting(console), only_one(run_dir, survival.grace, title, console) as lock, StopRequest() as stop:
        by_hand.unlink(missing_ok=True)  # of an earlier launcher's time; from now on it holds, over all jobs
        done = steps_done(config, shards, console)
        if done >= steps:
            console.print(f"{title}: {run_dir} is complete, {done} of {steps} steps; nothing to do", highlight=False)
            return
        if done == 0 and config.trainer.resume_mode == "auto":
            _tell_of_beginning_anew(run_dir, Path(config.trainer.default_local_dir), console)
        OmegaConf.save(config, run_dir / CONFIG, resolve=True)
        insist = partial(_insist, title=title, pause=survival.restart_pause, stop=stop, console=console)
        while True:
            if stop.since is not None or by_hand.exists():
                raise Preempted(_preempted(title, None, done, steps, run_dir))
            if done:
                console.print(f"{title}: continuing {run_dir} after step {done} of {steps}", highlight=False)
            end = insist(partial(run, job, stop, limits, console, keep_open=(lock,)))
            began, reached = done, end.step or done
            asked = stop.since is not None or by_hand.exists()
            if end.status == 0 and not end.stalled and (reached >= steps or not asked):
                break
            done = insist(partial(steps_done, config, shards, console))
            if done >= steps:
                console.print(f"{title} {in_words(end)} when all its steps were done and saved", highlight=False)
                break
            if end.status == PREEMPTED or asked:
                raise Preempted(_preempted(title, end, done, steps, run_dir))
            again = reached == failed_at
            why = _why_not(config, end, restarts, survival.restarts, made=reached - began, again=again)
            if why:
                told = f"{title} {in_words(end)}. {why}" if restarts or end.step else f"{title} {in_words(end)}."
                raise JobFailed(f"{told} The end of its log:\n\n{end.words}\n\nAll of it: {job.log}")
            failed_at, pause = reached, min(survival.restart_pause * 2**restarts, LONGEST_PAUSE)
            restarts += 1
            console.print(
                f"[yellow]{title} {in_words(end)}[/] after step {reached}{_last_words(end)}\n"
                f"  {lost(run_dir, done, reached)}\n"
                f"  restart {restarts} of {survival.restarts} in {pause:g} s",
                highlight=False,
            )
            _pause(pause, stop)
            if stop.since is None:
                ready()
                stop.listen()
    report_skipped(run_dir, console)


def settings_of(config: DictConfig) -> Survival:
    """
    Raises:
        RecipeError: one of them is wrong.
    """
    try:
        return read_settings(config)
    except ValueError as wrong:
        raise RecipeError(str(wrong)) from wrong


def steps_done(config: DictConfig, shards: str, console: Console) -> int:
    """The step from which verl will continue: that of the last whole checkpoint, 0 for a new run.

    verl itself would take the one that it named last, whole or not. It is told another where that is not, and so is the
    person at the terminal.

    Args:
        shards: the folder in a checkpoint that holds the policy's shards.

    Raises:
        RecipeError: that checkpoint is in shards of another number of ranks.
    """
    if config.trainer.resume_mode != "auto":
        return 0
    saved = Path(config.trainer.default_local_dir)
    with console.status(f"reading the last checkpoint in {saved}"):
        found = last_whole(saved)
    for sentence in found.rejected:
        instead = f"step {found.step}" if found.step else "the beginning"
        console.print(f"[yellow]{sentence}[/]; the run continues from {instead}", highlight=False)
    name_latest(saved, found.step)
    if found.folder is None:
        return 0
    ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node
    written_by = json.loads((found.folder / shards / "fsdp_config.json").read_text())["world_size"]
    if written_by != ranks:
        raise RecipeError(
            f"{found.folder} was saved by {written_by} ranks and this run has {ranks} (trainer.nnodes x "
            f"trainer.n_gpus_per_node). Continue with {written_by}, or start anew in another sv6d.run_dir from that checkpoint's model."
        )
    return found.step


def lost(run_dir: Path, done: int, reached: int) -> str:
    """What a job that ended after step `reached` takes with it, when the last whole checkpoint is that of step `done`."""
    parts = [part.path for part in find_parts(run_dir / ROLLOUTS) if part.last > done and part.first <= reached]
    steps = [step for path in parts for step in pq.read_table(path, columns=["step"])["step"].to_pylist()]
    rollouts = sum(done < step <= reached for step in steps)
    of_them = f" ({rollouts:,} rollouts)" if rollouts else ""
    if reached == done:
        trained = "no finished step is lost"
    elif reached == done + 1:
        trained = f"step {reached}{of_them} is trained again"
    else:
        trained = f"steps {done + 1} to {reached}{of_them} are trained again"
    return f"it continues after step {done}: {trained}, and what step {reached + 1} had begun is begun anew"


def in_words(end: End) -> str:
    """How a job ended, as a verb."""
    if end.stalled:
        return "made no step for longer than sv6d.stalled_after (raise it if its steps are that slow) and was ended"
    if end.status < 0:
        return f"was killed by {signal.Signals(-end.status).name}"
    return f"ended with status {end.status}"


@contextmanager
def only_one(run_dir: Path, patience: float, title: str, console: Console) -> Iterator[int]:
    """Hold a run's folder for this launcher and its jobs; yields a descriptor that they inherit, and with it the hold.

    A job that lost its launcher saves and ends; that is waited for.

    Where the file system knows no locks (Lustre without `-o flock`), it is said that nobody is kept out.

    Raises:
        RecipeError: another run is still there after `patience` seconds.
    """
    with (run_dir / LOCK).open("a") as lock:
        until, told = time.monotonic() + patience, False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    console.print(f"{title}: another job trains in {run_dir}; waiting for its end", highlight=False)
                    told = True
                if time.monotonic() > until:
                    raise RecipeError(
                        f"another job still trains in {run_dir} after {patience:g} s. End it first (its launcher with Ctrl-C or "
                        f"SIGTERM), or give this run another sv6d.run_dir."
                    ) from None
                time.sleep(0.5)
            except OSError as error:
                console.print(
                    f"[yellow]{run_dir / LOCK} cannot be locked ({error.strerror})[/]: see to it yourself that no second "
                    f"launcher trains in this folder",
                    highlight=False,
                )
                break
        yield lock.fileno()


def _tell_of_beginning_anew(run_dir: Path, saved: Path, console: Console) -> None:
    """A run that recorded steps and has no checkpoint, of a `trainer.save_freq` of -1 or since somebody removed it."""
    recorded = find_parts(run_dir / ROLLOUTS)
    if recorded:
        console.print(
            f"[yellow]no checkpoint in {saved}: steps {recorded[0].first} to {max(part.last for part in recorded)}, recorded in "
            f"{run_dir}, are begun anew[/]; their record is kept beside the new one, in {ROLLOUTS}-001 or the next free number",
            highlight=False,
        )


def _why_not(config: DictConfig, end: End, restarts: int, limit: int, *, made: int, again: bool) -> str:
    """Why a job is not started again; empty where it is."""
    if not end.stalled and made <= 0 and end.status > 0 and not PASSING.search(end.words):
        return "It made no step, so it is not started again."
    if config.trainer.resume_mode != "auto":
        return f"It is not started again: trainer.resume_mode={config.trainer.resume_mode}."
    if again:
        return "That is the second time at the same step without progress: it is not started again."
    if restarts >= limit:
        return f"It was started again {restarts} time{'s' * (restarts != 1)} already (sv6d.restarts)."
    return ""


def _last_words(end: End) -> str:
    """The line that says most of why a job died: its last error. One that a signal killed had no time to give a reason."""
    lines = [line.strip() for line in end.words.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\w(Error|Exception|Died|Exit)\b.*:", line)]
    told = errors or ([] if end.status < 0 else lines or ["it printed nothing"])
    return f": {told[-1][-300:]}" if told else ""


def _preempted(title: str, end: End | None, done: int, steps: int, run_dir: Path) -> str:
    """The message of a run that was asked to stop; `end` None: while no job ran."""
    beyond = end is not None and end.step is not None and end.step > done
    if end is None:
        saved = "began no other job"
    elif end.status not in (0, PREEMPTED):
        saved = f"{in_words(end)} before it could save"
    else:
        saved = "ended, but could not save (the log says why)" if beyond else "saved and ended"
    more = f" {lost(run_dir, done, end.step).capitalize()}." if beyond else ""
    return (
        f"{title} was asked to stop and {saved}: {done} of {steps} steps are kept in {run_dir}.{more} The same command "
        f"continues (exit status {PREEMPTED})."
    )


def _insist(act: Callable[[], T], *, title: str, pause: float, stop: StopRequest, console: Console) -> T:
    """What `act` gives once the disk lets it: one that is full, or away for a moment, is waited for.

    Raises:
        Preempted: the run is asked to stop meanwhile.
    """
    pause, told = max(pause, SHORTEST_TRY), ""
    while True:
        try:
            return act()
        except OSError as error:
            if stop.since is not None:
                raise Preempted(
                    f"{title} was asked to stop while it waited for the disk ({error}). The same command continues (exit status "
                    f"{PREEMPTED})."
                ) from error
            if str(error) != told:
                told = str(error)
                console.print(f"[yellow]{title}: {error}[/]; tried again every {pause:g} s", highlight=False)
            _pause(pause, stop)


def _pause(seconds: float, stop: StopRequest) -> None:
    until = time.monotonic() + seconds
    while stop.since is None and time.monotonic() < until:
        time.sleep(min(0.2, seconds))
