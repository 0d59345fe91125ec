"""Best and worst answers of a run's last steps, task by task, with what they said against what is true.

Only rollouts whose text was recorded can be shown. What was matched with what, and where the points went, is read off the
rewards' own explanation (`rewards.rescoring.explain`); the scores are the recorded ones.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from ..rewards import COMPONENTS, RewardConfig, Score
from ..rewards.rescoring.explain import Explanation, explain
from ..rewards.rescoring.explain_segments import Loss, Segments
from ..rewards.rescoring.rollouts import Rollout
from ..schema import GroundTruthError, TaskError, Taxonomy
from .runs import Run

WINDOW = 0.25  # of the recorded steps, from the end
FEWEST_STEPS = 5
MOST_ROLLOUTS = 40_000
MOST_TEXT = 1200  # characters of a text that go on the page
MOST_SEGMENTS = 40
MOST_LOSSES = 6
CLOSE = 1e-3  # a recorded score that differs more from the explained one was earned under other weights


def examples(run: Run, tasks: list[str]) -> list[dict[str, Any]]:
    """The best and the worst answer of each task, as plain data; of equal ones the latest.

    Each holds task, kind (`best` or `worst`), step, uid, score, components, response, truth, and by family `shots` (pairs and
    segments without a counterpart), `edits` (of a transcription) or `judged` (answer and truth), `losses`, and `unread`: why
    nothing could be read, or empty.
    """
    told = _recorded_texts(run)
    if told.empty:
        return []
    taxonomy, config = Taxonomy.load(), RewardConfig()
    found = []
    for task in tasks:
        rows = told[told["task"] == task].sort_values("step", kind="stable")
        for kind, value in (("best", rows["score"].max()), ("worst", rows["score"].min()))[: len(rows)]:
            (row,) = rows[rows["score"] == value].iloc[-1:].to_dict("records")
            found.append({"kind": kind} | _example(row, taxonomy, config))
    return found


def _recorded_texts(run: Run) -> pd.DataFrame:
    """The last steps' rollouts whose text, truth and score are known."""
    if run.rollouts.empty:
        return pd.DataFrame()
    rollouts = run.rollouts["step"].value_counts().sort_index()
    few = int((rollouts[::-1].cumsum() <= MOST_ROLLOUTS).sum())  # whose texts are all recorded takes a while to read
    last = rollouts.index[-max(FEWEST_STEPS, min(math.ceil(WINDOW * len(rollouts)), few)) :]
    texts = run.texts(steps=last)
    texts = texts[texts["response"].notna() & texts["ground_truth"].notna()]
    rows = run.rollouts[run.rollouts["step"].isin(last) & run.rollouts["score"].notna()]
    return rows.merge(texts, on=["step", "uid"])


def _example(row: dict[str, Any], taxonomy: Taxonomy, config: RewardConfig) -> dict[str, Any]:
    components = {name: float(row.get(name, math.nan)) for name in COMPONENTS if name != "score"}
    example = {
        "task": row["task"],
        "step": int(row["step"]),
        "uid": row["uid"],
        "score": float(row["score"]),
        "components": {name: value for name, value in components.items() if not math.isnan(value)},
        "response": shortened(row["response"]),
        "truth": shortened(row["ground_truth"]),
        "shots": None,
        "edits": [],
        "judged": None,
        "losses": [],
        "unread": "",
    }
    score = Score(example["score"], components | {"score": example["score"]})
    source = Path(f"step {row['step']}")
    rollout = Rollout(source, 0, row["uid"], row["task"], row["response"], row["ground_truth"], score.value)
    try:
        return example | _explained(explain(rollout, score, taxonomy, config))
    except (TaskError, GroundTruthError):  # a task or a truth of another project's: its texts still say something
        return example


def _explained(found: Explanation) -> dict[str, Any]:
    return {
        "shots": found.segments and _shots(found.segments),
        "edits": [[edit.kind, shortened(edit.answer), shortened(edit.truth)] for edit in found.edits],
        "judged": found.judged and [shortened(text) for text in found.judged],
        "losses": [loss._asdict() for loss in _largest(found)],
        "unread": found.unread,
    }


def shortened(text: str) -> str:
    """The text, printable, and as much of it as the page holds."""
    shown = "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text[:MOST_TEXT]
    )
    return shown + (f" ... ({len(text) - MOST_TEXT} more characters)" if len(text) > MOST_TEXT else "")


def _shots(segments: Segments) -> dict[str, Any]:
    pairs = [pair._asdict() | {"tags": [tag._asdict() for tag in pair.tags]} for pair in segments.pairs]
    return {
        "pairs": sorted(pairs, key=lambda pair: pair["true"])[:MOST_SEGMENTS],
        "unmatched_predicted": [lone._asdict() for lone in segments.unmatched_predicted[:MOST_SEGMENTS]],
        "unmatched_true": [lone._asdict() for lone in segments.unmatched_true[:MOST_SEGMENTS]],
        "unusable": segments.unusable,
    }


def _largest(found: Explanation) -> list[Loss]:
    """The largest losses; none where the recorded score was earned under other weights than the default ones."""
    lost = math.fsum(loss.points for loss in found.losses)
    if abs(1.0 - lost - found.score.value) > CLOSE:
        return []
    return sorted(found.losses, key=lambda loss: -loss.points)[:MOST_LOSSES]
