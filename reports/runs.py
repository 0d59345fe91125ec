"""Opens a run's folder: the recorder's rollouts and the metrics of verl's `file` logger, as two pandas tables.

`load_run` says what a folder lacks; `summary` gives the few numbers by which a run is judged (Figure 3's three curves,
first against last, and the held-out scores before and after).
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .recorder import ABOUT, METRICS, ROLLOUTS, TEXTS, part_step, read_dropped, schema

SKIPPED = "skipped_rows.jsonl"
ENDS = 5  # "first" and "last" are means over this many steps
OUTSIDE_STEP = ("timing_s/testing", "timing_s/sv6d_record")  # what verl and our trainers do between two steps
_HELDOUT = re.compile(r"val-(?:core|aux)/(?P<task>.+)/(?P<name>reward|score|acc)/mean@\d+")
_HELDOUT_ORDER = ("reward", "score", "acc")  # verl writes the reward always; the others stand in for foreign runs


class RunError(ValueError):
    """The folder holds nothing that can be reported. The message says where, what and how to mend it."""


@dataclass(frozen=True)
class Run:
    """What one training run left behind.

    Attributes:
        rollouts: one row a rollout, columns as in `recorder.schema()` (without `TEXTS`, see `texts`); sorted by step.
        metrics: one row a step (the index), one column a key of verl's metrics; numbers only.
        about: facts that the trainer gave the recorder, e.g. `{"mixture": {task: weight}}`.
        missing: sentences on what a whole run has and this one lacks.
        notes: sentences on what was mended or left out while reading.
        skipped: data rows whose media did not decode, as `skipped_rows.jsonl` lists them (task, index, id, error).
        dropped: rows that the recorder lost, and why last (`{"rows": 0, "last": ""}`).
    """

    path: Path
    rollouts: pd.DataFrame
    metrics: pd.DataFrame
    about: dict[str, Any]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    skipped: tuple[dict[str, Any], ...]
    dropped: dict[str, Any]

    @property
    def name(self) -> str:
        """The last two folders of the path: a run is often one of several parts of a folder."""
        return "/".join(self.path.resolve().parts[-2:])

    def texts(self, uids: Iterable[str] | None = None, steps: Iterable[int] | None = None) -> pd.DataFrame:
        """The recorded texts: `step`, `uid`, `response`, `ground_truth`; rollouts without text are left out.

        Args:
            uids: only those of these rollouts.
            steps: only those of these steps.
        """
        columns, wanted = ["step", "uid", *TEXTS], None if steps is None else set(steps)
        told = pc.field("response").is_valid()
        if uids is not None:
            told &= pc.is_in(pc.field("uid"), pa.array(list(uids), pa.string()))
        tables = [pa.table({name: pa.array([], schema().field(name).type) for name in columns})]
        for part in sorted((self.path / ROLLOUTS).glob("step-*.parquet")):
            if wanted is not None and part_step(part) not in wanted:
                continue
            with contextlib.suppress(pa.ArrowInvalid, OSError):  # load_run named it
                held = [name for name in pq.read_schema(part).names if name in columns]
                if "response" in held:
                    tables.append(pq.read_table(part, columns=held, filters=told))
        return pa.concat_tables(tables, promote_options="default").to_pandas()


def load_run(path: str | Path) -> Run:
    """Reads `<path>/rollouts/step-*.parquet`, `<path>/metrics*.jsonl` and `<path>/about.json`.

    Raises:
        RunError: the folder does not exist, or holds neither a readable rollout nor a readable metric.
    """
    path = Path(path)
    if not path.is_dir():
        raise RunError(f"{path}: no such folder. Give the run's folder, the one that holds {ROLLOUTS}/ and {METRICS}.")
    missing: list[str] = []
    notes: list[str] = []
    rollouts = _read_rollouts(path, missing)
    metrics = _read_metrics(path, missing, notes)
    if rollouts.empty and metrics.empty:
        raise RunError(f"{path}: nothing to report. " + " ".join(missing))
    _note_gaps(rollouts, metrics, notes)
    about = json.loads((path / ABOUT).read_text()) if (path / ABOUT).exists() else {}
    skipped = _skipped(path / SKIPPED)
    return Run(path, rollouts, metrics, about, tuple(missing), tuple(notes), skipped, read_dropped(path))


def summary(run: Run) -> dict[str, Any]:
    """The run in a few numbers; `first` and `last` are means over the first and last five steps (NaN: not measured).

    `heldout_before` and `heldout_after` map task to mean reward at the first and at the last validation; with a single
    validation `heldout_after` is empty. `seconds` is the time of all steps and validations.
    """
    curves = dynamics(run)
    heldout = heldout_scores(run)
    ends = {
        f"{name}_{end}": _mean(series)
        for name in curves
        for end, series in zip(("first", "last"), _ends(curves[name]), strict=True)
    }
    return {
        "steps": len(curves),
        "rollouts": len(run.rollouts),
        **ends,
        "heldout_before": _row(heldout, 0),
        "heldout_after": _row(heldout, -1) if len(heldout) > 1 else {},
        "seconds": _seconds(run.metrics),
    }


def dynamics(run: Run) -> pd.DataFrame:
    """Figure 3: columns `reward`, `entropy`, `length` by step, means over the rollouts.

    A column that the rollouts lack (a run without our recorder, or entropy that the trainer did not compute) comes from
    verl's own metrics.
    """
    fallback = {"reward": "critic/score/mean", "entropy": "actor/entropy", "length": "response_length/mean"}
    source = {"reward": "score", "entropy": "entropy", "length": "response_length"}
    columns = {}
    for name, key in fallback.items():
        column = None
        if not run.rollouts.empty and run.rollouts[source[name]].notna().any():
            column = run.rollouts.groupby("step")[source[name]].mean()
        elif key in run.metrics:
            column = run.metrics[key].dropna()
        columns[name] = pd.Series(dtype=float) if column is None else column
    return pd.DataFrame(columns).sort_index()


def heldout_scores(run: Run) -> pd.DataFrame:
    """Mean held-out reward: one row a validation (index: step), one column a task."""
    keys: dict[str, str] = {}
    for key in run.metrics.columns:
        if match := _HELDOUT.fullmatch(key):
            task, name = match["task"], match["name"]
            held = keys.get(task)
            if held is None or _HELDOUT_ORDER.index(name) < _HELDOUT_ORDER.index(_HELDOUT.fullmatch(held)["name"]):
                keys[task] = key
    table = run.metrics[list(keys.values())].set_axis(list(keys), axis=1)
    return table.dropna(how="all")


def _ends(series: pd.Series) -> tuple[pd.Series, pd.Series]:
    series = series.dropna()
    return series.iloc[:ENDS], series.iloc[-ENDS:]


def _mean(series: pd.Series) -> float:
    return float(series.mean()) if len(series) else float("nan")


def _row(table: pd.DataFrame, position: int) -> dict[str, float]:
    return {} if table.empty else table.iloc[position].dropna().to_dict()


def _seconds(metrics: pd.DataFrame) -> float:
    timed = [key for key in ("timing_s/step", *OUTSIDE_STEP) if key in metrics]
    return float(metrics[timed].sum().sum()) if timed else float("nan")


def _read_rollouts(path: Path, missing: list[str]) -> pd.DataFrame:
    parts = sorted(p for p in (path / ROLLOUTS).glob("step-*.parquet") if part_step(p) is not None)
    tables = []
    for part in parts:
        try:
            file = pq.ParquetFile(part)
            tables.append(file.read([name for name in file.schema_arrow.names if name not in TEXTS]))
        except (pa.ArrowInvalid, OSError) as error:
            reason = str(error).splitlines()[0]
            missing.append(f"{ROLLOUTS}/{part.name} cannot be read ({reason}) and is left out; delete it.")
    if not tables:
        missing.append(
            f"No rollouts ({ROLLOUTS}/step-*.parquet): train with one of the sv6d_* trainers, which record them."
        )
        return pd.DataFrame()
    table = pa.concat_tables(tables, promote_options="default")
    return table.to_pandas(categories=["task", "dataset", "group"], split_blocks=True, self_destruct=True)


def _read_metrics(path: Path, missing: list[str], notes: list[str]) -> pd.DataFrame:
    """Merges the files of a run that was resumed: a later file's first step ends what an earlier file said after it."""
    steps: dict[int, dict[str, float]] = {}
    for file in [*sorted(path.glob("metrics-*.jsonl")), path / METRICS]:
        lines = list(_lines(file, notes)) if file.exists() else []
        if lines:
            steps = {step: data for step, data in steps.items() if step <= lines[0][0]}
        for step, data in lines:
            steps.setdefault(step, {}).update(data)
    if not steps:
        missing.append(
            f"No metrics ({METRICS}): train with trainer.logger=[console,file] "
            f"and VERL_FILE_LOGGER_PATH={path / METRICS} in the environment."
        )
        return pd.DataFrame(index=pd.Index([], name="step", dtype=int))
    return pd.DataFrame.from_dict(steps, orient="index").rename_axis("step").sort_index().copy()


def _lines(file: Path, notes: list[str]) -> Iterator[tuple[int, dict[str, float]]]:
    """The file's (step, metrics). A line that is not whole (the process was killed in it) is left out and noted."""
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            entry = json.loads(line)
            step, data = int(entry["step"]), entry["data"].items()
        except (ValueError, TypeError, KeyError, AttributeError):
            notes.append(f"{file.name}, line {number}: not a whole line of verl's file logger, left out.")
            continue
        yield step, {key: float(value) for key, value in data if isinstance(value, (int, float))}


def _skipped(file: Path) -> tuple[dict[str, Any], ...]:
    """Data rows that the dataset left out; several workers may list the same row, a killed one half a line."""
    rows = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        with contextlib.suppress(ValueError):
            rows[line] = json.loads(line)
    return tuple(row for row in rows.values() if isinstance(row, dict))


def _note_gaps(rollouts: pd.DataFrame, metrics: pd.DataFrame, notes: list[str]) -> None:
    if rollouts.empty:
        return
    if rollouts["entropy"].isna().all() and "actor/entropy" not in metrics:
        notes.append("No entropy: this run's trainer did not compute it (rollout_correction.bypass_mode).")
    trained = {int(s) for s in metrics.index[metrics["timing_s/step"].notna()]} if "timing_s/step" in metrics else set()
    gaps = sorted(trained - set(np.unique(rollouts["step"]).tolist()))
    if gaps:
        shown = ", ".join(map(str, gaps[:10])) + (" ..." if len(gaps) > 10 else "")
        notes.append(f"{len(gaps)} trained step(s) have no recorded rollouts: {shown}")
