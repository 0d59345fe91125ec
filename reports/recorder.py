"""Records every rollout of a run: one row each, one parquet part a step, written off the training step's path.

The rows feed the report (Figure 3 and what lies under it). Three promises: training never waits for the disk (rows that
cannot be written are dropped, counted and reported); a part is whole or absent, whatever kills the process; a step that
is written again after a resume replaces its part.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..rewards import COMPONENTS
from .parts import ROLLOUTS, bundle_oldest, cut_after, find_parts, part_name, write_whole

log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
ABOUT = "about.json"
DROPPED = "dropped.json"
TEXTS = ("response", "ground_truth", "text_at_random")
"""Columns that are only read on demand (`runs.Run.texts`): they are long, or few rows have them."""
NO_ROWS = ()  # in the queue: nothing to write, but rows were lost
QUEUED_STEPS = 16  # steps that may wait for the disk before rows are dropped


def schema() -> pa.Schema:
    """The columns of a part. One row is one rollout; a value that was not measured is null (or NaN in a component).

    `dataset` is the source that the prompt came from, `prompt` the id of the row that was asked, `group` that of its
    dispatch, whose G rollouts are compared, `entropy` the mean over the response's tokens (nats), `kl` likewise that to the
    reference policy (k3; null where it was not measured), `version_start` and
    `version_end` the policy versions (training steps) that wrote its first and last token: staleness is
    step - 1 - version_start. `reward_seconds` is how long scoring took, `judge_seconds` the judge's share of it (null or
    NaN where none was asked), `judge_failed` whether the judge gave no verdict. `response` and `ground_truth` are texts,
    null in rows whose text is not recorded; `text_at_random` says whether these were kept by lot, so that they tell of all
    answers, or for the row's score.
    """
    components = [(name, pa.float64()) for name in COMPONENTS if name != "score"]
    return pa.schema(
        [
            ("step", pa.int64()),
            ("uid", pa.string()),
            ("task", pa.string()),
            ("dataset", pa.string()),
            ("prompt", pa.string()),
            ("group", pa.string()),
            ("score", pa.float64()),
            *components,
            ("response_length", pa.int64()),
            ("truncated", pa.bool_()),
            ("entropy", pa.float64()),
            ("kl", pa.float64()),
            ("version_start", pa.int64()),
            ("version_end", pa.int64()),
            ("advantage", pa.float64()),
            ("reward_seconds", pa.float64()),
            ("judge_seconds", pa.float64()),
            ("judge_failed", pa.bool_()),
            ("response", pa.string()),
            ("ground_truth", pa.string()),
            ("text_at_random", pa.bool_()),
        ]
    )


def read_dropped(directory: Path) -> dict[str, Any]:
    """How many rows the recorder of this run lost, and why last: `{"rows": 0, "last": ""}` when none."""
    try:
        told = json.loads((directory / DROPPED).read_bytes())
        return {"rows": int(told["rows"]), "last": str(told["last"])}
    except FileNotFoundError:
        return {"rows": 0, "last": ""}
    except (ValueError, KeyError, TypeError):
        return {"rows": 0, "last": f"{DROPPED} cannot be read: how many rows were lost is not known"}


def set_aside(metrics: Path) -> None:
    """Moves an earlier attempt's `metrics.jsonl` to `metrics-001.jsonl`, ...: verl's file logger empties the one that it opens."""
    if _has_lines(metrics):
        metrics.rename(_numbered(metrics))


def set_run_aside(directory: Path) -> None:
    """Moves all that an earlier run recorded here, its metrics too, to `rollouts-001/`, ...

    Readers look for `rollouts/` and for the nearest metrics: they take no step of it for one of the run that begins anew.
    """
    told = [path for path in (directory / ABOUT, directory / DROPPED) if path.exists()]
    metrics = [path for path in (directory / METRICS, *directory.glob("metrics-*.jsonl")) if _has_lines(path)]
    if not metrics and not find_parts(directory / ROLLOUTS):
        for path in told:  # of a run that did not come to its first step
            path.unlink()
        return
    aside = _numbered(directory / ROLLOUTS)
    (directory / ROLLOUTS).rename(aside)
    (directory / ROLLOUTS).mkdir()
    for path in (*metrics, *told):
        path.rename(aside / path.name)


def _has_lines(metrics: Path) -> bool:
    """An empty one is left alone: a logger may have it open."""
    return metrics.exists() and metrics.stat().st_size > 0


def _numbered(path: Path) -> Path:
    """The next free name: `metrics-001.jsonl`, `rollouts-001`."""
    taken = (other.stem.removeprefix(f"{path.stem}-") for other in path.parent.glob(f"{path.stem}-*{path.suffix}"))
    last = max((int(number) for number in taken if number.isdigit()), default=0)
    return path.with_name(f"{path.stem}-{last + 1:03d}{path.suffix}")


class Recorder:
    """Writes `<directory>/rollouts/step-000012.parquet` from a background thread.

    Args:
        directory: the run's folder; made when missing.
        resume_step: the step that training continues after. Parts of later steps belong to work that is about to be done
            again and are removed; verl's `metrics.jsonl`, which its file logger empties at every start, is `set_aside`.
            0 begins a new run: what an earlier one left is moved out of its way (`set_run_aside`). None leaves everything where it is.
        about: facts of the run that the report shows and that no row holds, e.g. `{"mixture": {task: weight}}`; kept in
            `<directory>/about.json`.

    Raises:
        OSError: the folder cannot be made or written. Said before training starts; later failures only drop rows.
    """

    def __init__(self, directory: str | Path, resume_step: int | None = None, about: Mapping[str, Any] | None = None):
        self.directory = Path(directory)
        self.parts = self.directory / ROLLOUTS
        self.parts.mkdir(parents=True, exist_ok=True)
        self._schema = schema()
        self._clear(resume_step)
        self._dropped_before = read_dropped(self.directory)["rows"]
        self._reported = 0
        if about is not None:
            _write_text(self.directory / ABOUT, json.dumps(dict(about), indent=1))
        self.dropped = 0  # rows that were given to write() and are not on the disk
        self.last_error = ""
        self._unbundled = ""  # why parts could not be bundled, last
        self._lock = threading.Lock()
        self._queue: queue.Queue = queue.Queue(QUEUED_STEPS)
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="sv6d-recorder", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, rows: pd.DataFrame | Iterable[Mapping[str, Any]], step: int) -> None:
        """Hands one step's rows over and returns at once. A table is not copied: it is the recorder's from now on.

        The rows' own `step`, where they have one, gives way to `step`.

        Raises:
            ValueError: a row has a column that the schema lacks, or the recorder is closed: mistakes of the caller.
        """
        if not isinstance(rows, pd.DataFrame):
            rows = [dict(row) for row in rows]
        if self._closed:
            raise ValueError(f"the recorder of {self.directory} is closed; step {step} came after close()")
        columns = set(rows) if isinstance(rows, pd.DataFrame) else {name for row in rows for name in row}
        if unknown := columns - set(self._schema.names):
            raise ValueError(
                f"step {step}: unknown column(s) {', '.join(sorted(unknown))} in the rollout rows; "
                f"the recorder knows {', '.join(self._schema.names)}"
            )
        try:
            self._queue.put_nowait((step, rows))
        except queue.Full:
            self._drop(step, len(rows), f"{QUEUED_STEPS} steps are already waiting for the disk")

    def lose(self, step: int, count: int, reason: str) -> None:
        """Counts rows that were lost before they could be handed over, with those that the disk loses; returns at once."""
        self._drop(step, count, reason)
        with contextlib.suppress(queue.Full):  # then the steps that wait are reason enough to look at the count
            self._queue.put_nowait((step, NO_ROWS))

    def flush(self, timeout: float = 60.0) -> bool:
        """Waits until everything handed over is written or dropped; False when `timeout` seconds passed before that."""
        end = time.monotonic() + timeout
        with self._queue.all_tasks_done:
            while self._queue.unfinished_tasks:
                if not self._queue.all_tasks_done.wait(max(end - time.monotonic(), 0.0)) and time.monotonic() >= end:
                    return False
        return True

    def close(self, timeout: float = 60.0) -> None:
        """Flushes and ends the thread. A disk that hangs longer than `timeout` seconds costs the rows still waiting."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        if self.flush(timeout):
            self._queue.put(None)
            self._thread.join(timeout)
            return
        for step, rows in self._waiting():
            if rows is not NO_ROWS:
                self._drop(step, len(rows), f"the disk did not answer for {timeout:g} s")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _clear(self, resume_step: int | None) -> None:
        """Removes what a killed writer left half-written and what `resume_step` makes void; keeps verl's metrics."""
        for path in self.parts.glob("*.tmp"):
            path.unlink()
        if resume_step == 0:
            set_run_aside(self.directory)
        elif resume_step is not None:
            cut_after(self.parts, resume_step, self._schema)
            set_aside(self.directory / METRICS)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            step, rows = item
            if rows is not NO_ROWS:
                self._save(step, rows)
            self._report_dropped()
            self._bundle()
            self._queue.task_done()

    def _save(self, step: int, rows: Any) -> None:
        try:
            table = _table(rows, step, self._schema)
            write_whole(self.parts / part_name(step), lambda file: pq.write_table(table, file, compression="zstd"))
        except Exception as error:  # whatever the disk or a value does, it must not end a training run
            self._drop(step, len(rows), f"{type(error).__name__}: {error}")

    def _bundle(self) -> None:
        """Parts stay parts where they cannot be bundled: more files, and nothing lost."""
        try:
            bundle_oldest(self.parts, self._schema)
        except Exception as error:
            if str(error) != self._unbundled:
                self._unbundled = str(error)
                log.warning("recorder: old parts stay single files (%s: %s)", type(error).__name__, error)

    def _drop(self, step: int, count: int, reason: str) -> None:
        with self._lock:
            self.dropped += count
            self.last_error = f"step {step}: {reason}"
        log.warning("recorder: %d rollout rows of step %d are lost (%s); %d so far", count, step, reason, self.dropped)

    def _report_dropped(self) -> None:
        """Leaves the count beside the parts for the report. Only the writing thread does this: the disk may hang."""
        dropped = self.dropped
        if dropped != self._reported:
            text = json.dumps({"rows": self._dropped_before + dropped, "last": self.last_error})
            with contextlib.suppress(OSError):  # the disk that lost the rows: it is tried again after the next step
                _write_text(self.directory / DROPPED, text)
                self._reported = dropped

    def _waiting(self) -> list[tuple[int, Any]]:
        items = []
        while True:
            try:
                items.append(self._queue.get_nowait())
            except queue.Empty:
                return [item for item in items if item is not None]


def _table(rows: pd.DataFrame | list[dict[str, Any]], step: int, columns: pa.Schema) -> pa.Table:
    if not isinstance(rows, pd.DataFrame):
        return pa.Table.from_pylist([row | {"step": step} for row in rows], schema=columns)
    rows = rows.assign(step=step)
    arrays = [
        pa.array(rows[field.name], field.type, from_pandas=True)
        if field.name in rows
        else pa.nulls(len(rows), field.type)
        for field in columns
    ]
    return pa.Table.from_arrays(arrays, schema=columns)


def _write_text(path: Path, text: str) -> None:
    write_whole(path, lambda file: file.write(text.encode()))
