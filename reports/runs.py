"""Opens what a training run left behind, whoever recorded it, as two pandas tables: rollouts, and metrics by step.

`load_run` says what is there and what is missing (formats: `readers/`); `summary` gives the few numbers by which a run is
judged (Figure 3's three curves, first against last, and the held-out scores before and after).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data_mixers.skipped import read_skipped
from .means import mean
from .parts import ROLLOUTS, find_parts, part_of
from .readers import files
from .readers.source import Source
from .recorder import ABOUT, METRICS, TEXTS, read_dropped

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
        sources: what was read, by format: "sv6d's recorder: 12,480 rollouts of 40 steps".
    """

    path: Path
    rollouts: pd.DataFrame
    metrics: pd.DataFrame
    about: dict[str, Any]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    skipped: tuple[dict[str, Any], ...]
    dropped: dict[str, Any]
    sources: tuple[str, ...] = ()
    read_texts: Callable[[set[str] | None, set[int] | None], pd.DataFrame] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The last two folders of the path: a run is often one of several parts of a folder."""
        return "/".join(self.path.resolve().parts[-2:])

    def texts(self, uids: Iterable[str] | None = None, steps: Iterable[int] | None = None) -> pd.DataFrame:
        """The recorded texts: `step`, `uid` and `recorder.TEXTS`; rollouts without text are left out.

        A row of an older recorder, which kept texts by score alone or all of them, has no `text_at_random`.

        Args:
            uids: only those of these rollouts.
            steps: only those of these steps.
        """
        if self.read_texts is None:
            return pd.DataFrame(columns=["step", "uid", *TEXTS])
        return self.read_texts(None if uids is None else set(uids), None if steps is None else set(steps))


def load_run(path: str | Path) -> Run:
    """Reads what our recorder, verl's `file`, `tensorboard` and `wandb` loggers and its rollout dumps left in a folder.

    Metrics that several of them have are taken from the first in this order, and what it lacks from the next; rollouts
    from the recorder, else from the dumps. A single file of any of these formats is a run, too.

    Raises:
        RunError: there is no such folder, or it holds nothing that can be read, or several runs; or a library is missing.
    """
    path = Path(path)
    if not path.exists():
        raise RunError(f"{path}: no such folder. Give the run's folder, the one that holds {ROLLOUTS}/ and {METRICS}.")
    if path.name == ROLLOUTS and find_parts(path):
        path = path.parent
    if path.parent.name == ROLLOUTS and part_of(path):
        path = path.parent.parent
    sources, refused, notes = files.read_sources(path)
    missing = refused + [sentence for source in sources for sentence in source.damaged]
    notes += [sentence for source in sources for sentence in source.notes]
    told = next((source for source in sources if source.rollouts is not None), None)
    rollouts = pd.DataFrame() if told is None else told.rollouts
    metrics = _metrics(sources)
    missing += _missing(path, told, metrics)
    if rollouts.empty and metrics.empty:
        raise RunError(f"{path}: nothing to report. " + " ".join(missing))
    if told is not None and not told.lacks:
        _note_gaps(rollouts, metrics, notes)
    beside = (told and told.folder) or (path if path.is_dir() else path.parent)
    about = _about(beside / ABOUT, missing)
    return Run(
        path,
        rollouts,
        metrics,
        about,
        tuple(missing),
        tuple(notes),
        _skipped(beside / SKIPPED),
        read_dropped(beside),
        sources=tuple(_said(source) for source in sources if source.rollouts is not None or source.metrics is not None),
        read_texts=told and told.texts,
    )


def summary(run: Run) -> dict[str, Any]:
    """The run in a few numbers; `first` and `last` are means over the first and last five steps (NaN: not measured).

    `heldout_before` and `heldout_after` map task to mean reward at the first and at the last validation; with a single
    validation `heldout_after` is empty. `seconds` is the time of all steps and validations.
    """
    curves = dynamics(run)
    heldout = heldout_scores(run)
    ends = {
        f"{name}_{end}": mean(series)
        for name in curves
        for end, series in zip(("first", "last"), ends_of(curves[name]), strict=True)
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
    """Figure 3: columns `reward`, `entropy`, `length` by step, means over the rollouts; every step that was trained has a row.

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
    return pd.DataFrame(columns).reindex(_trained_steps(run))


def _trained_steps(run: Run) -> list[int]:
    """Those of which anything is known. A validation before the first step is none."""
    measured = run.metrics[[key for key in run.metrics if not key.startswith("val-")]].notna().any(axis=1)
    recorded = [] if run.rollouts.empty else run.rollouts["step"].unique()
    return sorted({int(step) for step in [*recorded, *measured.index[measured]]})


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


def is_supervised(metrics: pd.DataFrame) -> bool:
    """Whether they are of supervised fine-tuning, which rolls nothing out."""
    return "train/loss" in metrics


def ends_of(series: pd.Series) -> tuple[pd.Series, pd.Series]:
    """The first and the last five measured values."""
    series = series.dropna()
    return series.iloc[:ENDS], series.iloc[-ENDS:]


def _row(table: pd.DataFrame, position: int) -> dict[str, float]:
    return {} if table.empty else table.iloc[position].dropna().to_dict()


def _seconds(metrics: pd.DataFrame) -> float:
    timed = [key for key in ("timing_s/step", *OUTSIDE_STEP) if key in metrics]
    return float(metrics[timed].sum().sum()) if timed else float("nan")


def _metrics(sources: Iterable[Source]) -> pd.DataFrame:
    metrics = pd.DataFrame(index=pd.Index([], name="step", dtype=int))
    for source in sources:
        if source.metrics is not None:
            metrics = source.metrics if metrics.empty else metrics.combine_first(source.metrics)
    return metrics


def _missing(path: Path, told: Source | None, metrics: pd.DataFrame) -> list[str]:
    missing = []
    if told is None and not is_supervised(metrics):
        missing.append(
            f"No rollouts ({ROLLOUTS}/step-*.parquet): train with one of the sv6d_* trainers, which record them; "
            "trainer.rollout_data_dir=DIR makes any verl run dump scores and texts."
        )
    elif told is not None and told.lacks:
        missing.append(told.lacks)
    if metrics.empty:
        missing.append(
            f"No metrics ({METRICS}): train with trainer.logger=[console,file] "
            f"and VERL_FILE_LOGGER_PATH={path / METRICS} in the environment."
        )
    return missing


def _said(source: Source) -> str:
    said = []
    if source.rollouts is not None:
        said.append(f"{len(source.rollouts):,} rollouts of {source.rollouts['step'].nunique()} steps")
    if source.metrics is not None:
        said.append(f"{source.metrics.shape[1]} metrics of {len(source.metrics)} steps")
    return f"{source.name}: {' and '.join(said)}"


def _about(file: Path, missing: list[str]) -> dict[str, Any]:
    """What the trainer told the recorder of the run; without a mixture where it is none."""
    try:
        told = json.loads(file.read_bytes()) if file.exists() else {}
    except ValueError:
        told = None
    if isinstance(told, dict) and _is_mixture(told.get("mixture")):
        return told
    what = "its `mixture` is not {task: weight} with weights of 0 or more, one of them above 0, and"
    missing.append(
        f"{file.name} is not what our recorder writes: {what if isinstance(told, dict) else 'it'} is left out, "
        "so that the requested mixture is not known."
    )
    return {key: fact for key, fact in told.items() if key != "mixture"} if isinstance(told, dict) else {}


def _is_mixture(weights: Any) -> bool:
    """A run need not tell its mixture."""
    if weights is None:
        return True
    known = isinstance(weights, dict) and all(
        isinstance(w, int | float) and 0 <= w < math.inf for w in weights.values()
    )
    return known and sum(weights.values()) > 0


def _skipped(file: Path) -> tuple[dict[str, Any], ...]:
    """Data rows that the dataset left out; several workers may list the same row."""
    return tuple({json.dumps(row): row for row in read_skipped(file)}.values())


def _note_gaps(rollouts: pd.DataFrame, metrics: pd.DataFrame, notes: list[str]) -> None:
    if rollouts["entropy"].isna().all() and "actor/entropy" not in metrics:
        notes.append("No entropy: this run's trainer did not compute it (rollout_correction.bypass_mode).")
    trained = {int(s) for s in metrics.index[metrics["timing_s/step"].notna()]} if "timing_s/step" in metrics else set()
    gaps = sorted(trained - set(np.unique(rollouts["step"]).tolist()))
    if gaps:
        shown = ", ".join(map(str, gaps[:10])) + (" ..." if len(gaps) > 10 else "")
        notes.append(f"{len(gaps)} trained step(s) have no recorded rollouts: {shown}")
