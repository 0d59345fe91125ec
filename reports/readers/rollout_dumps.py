"""Rollouts that verl dumps (`trainer.rollout_data_dir`): `<step>.jsonl`, a line a rollout with input, output, gts and score.

V1 adds its key (`uid`), V0 what the reward manager gave beside the score, where our components are. Neither names the task,
unless a reward does; nor the length in tokens.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ...rewards import COMPONENTS
from ..recorder import TEXTS
from .source import CATEGORIES, Source

UNKNOWN = "unknown"
"""The task of rollouts whose dump names none."""
LACKS = (
    "The rollouts are verl's dumps, which lack task, length, truncation, entropy, advantage and policy versions: train with "
    "one of the sv6d_* trainers, which record them."
)
NUMBERS = (*(name for name in COMPONENTS if name != "score"), "reward_seconds", "judge_seconds")


def find(file: Path) -> bool:
    return file.suffix == ".jsonl" and file.stem.isdigit()


def run_of(file: Path) -> Path:
    return file.parent


def is_validation(files: Iterable[Path]) -> bool:
    """Whether a folder's dumps are `trainer.validation_data_dir`'s, which have the same form: there is a step 0, or the
    folder says so."""
    return any(int(file.stem) == 0 or file.parent.name.lower().startswith("val") for file in files)


def read(files: list[Path]) -> Source:
    """The dumps of one folder."""
    files = sorted(files, key=lambda file: int(file.stem))
    damaged: list[str] = []
    rows = [_row(step, uid, line) for file in files for step, uid, line in _lines(file, damaged)]
    rollouts = None
    if rows:
        rollouts = pd.DataFrame(rows)
        rollouts[list(CATEGORIES)] = rollouts[list(CATEGORIES)].astype("category")
    return Source(
        "verl's rollout dumps", rollouts=rollouts, damaged=tuple(damaged), lacks=LACKS, texts=partial(_texts, files)
    )


def _row(step: int, uid: str, line: Mapping[str, Any]) -> dict[str, Any]:
    prompt = _digest(line.get("input"))
    return {
        "step": step,
        "uid": uid,
        "task": str(line.get("task") or line.get("data_source") or UNKNOWN),
        "dataset": str(line.get("dataset") or ""),
        "prompt": prompt,
        # V1's uid is <group>_<session>_<index>; elsewhere a group is what answers the same prompt in a step
        "group": uid.rsplit("_", 2)[0] if uid.count("_") >= 2 else f"{step}-{prompt}",
        "score": _number(line.get("score")),
        **{name: _number(line.get(name)) for name in NUMBERS},
        "response_length": math.nan,
        "truncated": None,
        "entropy": math.nan,
        "version_start": math.nan,
        "version_end": math.nan,
        "advantage": math.nan,
        "judge_failed": None,
    }


def _lines(file: Path, damaged: list[str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """(step, uid, line) of each whole line."""
    broken = []
    with file.open("rb") as lines:
        for number, text in enumerate(lines, 1):
            try:
                line = json.loads(text)
                step = int(line.get("step", file.stem))
                uid = str(line.get("uid") or line.get("request_id") or f"{step}-{number}")
            except (ValueError, TypeError, AttributeError):
                broken.append(number)
                continue
            yield step, uid, line
    if broken:
        damaged.append(f"{file.name}: {len(broken)} line(s) are not whole and left out, the first is line {broken[0]}.")


def _texts(files: list[Path], uids: set[str] | None, steps: set[int] | None) -> pd.DataFrame:
    rows = [
        {"step": at, "uid": uid, "response": line.get("output"), "ground_truth": _truth(line.get("gts"))}
        | {"text_at_random": True}  # all of them are there
        for file in files
        if steps is None or int(file.stem) in steps
        for at, uid, line in _lines(file, [])
        if uids is None or uid in uids
    ]
    return pd.DataFrame(rows, columns=["step", "uid", *TEXTS])


def _truth(gts: Any) -> str | None:
    return gts if gts is None or isinstance(gts, str) else json.dumps(gts)


def _number(value: Any) -> float:
    """V0 writes numbers of numpy's types as text."""
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return math.nan


def _digest(prompt: Any) -> str:
    return hashlib.sha1(str(prompt).encode(), usedforsecurity=False).hexdigest()[:16]
