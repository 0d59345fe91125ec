"""A run whose curves are told: groups of four rollouts around given means, written by the recorder itself."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from sv6d.reports.recorder import Recorder
from sv6d.reports.runs import Run, load_run

GROUPS, SIZE = 3, 4
HEALTHY = {"score": lambda t: 0.3 + 0.2 * t, "entropy": lambda t: 1.2 - 0.5 * t, "response_length": lambda t: 40.0}
Curve = Callable[[float], float]


def told_run(
    path: Path,
    tasks: Mapping[str, Mapping[str, Curve]],
    steps: int = 30,
    metrics: Callable[[int], dict] = lambda step: {},
    mixture: Mapping[str, float] | None = None,
    texts: Callable[[str, int, int], tuple[str, str]] | None = None,
    text_at_random: Callable[[int], bool | None] = lambda i: True,
    noise: float = 0.01,
    absent: Callable[[str, int], bool] = lambda task, step: False,
    groups: int = GROUPS,
) -> Run:
    """Columns follow their curve over progress t in (0, 1]; what a task does not tell is HEALTHY's.

    Args:
        metrics: what verl logged at a step.
        texts: (task, step, i) -> the i-th response of the task in that step, and the true answer.
        text_at_random: i -> whether the lot kept that text, or its score.
        noise: of a rollout around the mean of its step; `raw` columns have none.
        absent: whether a task has no group in a step.
        groups: of a task and step.
    """
    rng = np.random.default_rng(0)
    with Recorder(path, about={"mixture": dict(mixture or dict.fromkeys(tasks, 1))}) as recorder:
        for step in range(1, steps + 1):
            rows = [
                row
                for task, told in tasks.items()
                if not absent(task, step)
                for row in _rows(
                    rng, task, {**HEALTHY, **told}, step, step / steps, noise, texts, text_at_random, groups
                )
            ]
            recorder.write(rows, step)
            recorder.flush()
    lines = [{"step": 0, "data": metrics(0)}, *({"step": s, "data": metrics(s)} for s in range(1, steps + 1))]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return load_run(path)


def _rows(rng, task, told, step, t, noise, texts, text_at_random, groups):
    for i in range(groups * SIZE):
        row = {name: float(curve(t)) for name, curve in told.items()}
        row["score"] += noise * rng.standard_normal()
        row["response_length"] = round(row["response_length"] + (i % SIZE))
        said = texts(task, step, i) if texts else (None, None)
        yield row | {
            "uid": f"{task}-{step}-{i}",
            "task": task,
            "group": f"{task}-{step}-{i // SIZE}",
            "prompt": f"{task}/{step * groups + i // SIZE}",
            "failed": row.get("failed", 0.0),
            "truncated": rng.random() < told["truncated"](t) if "truncated" in told else False,
            "version_start": step - 1,
            "version_end": step - 1,
            "response": said[0],
            "ground_truth": said[1],
            "text_at_random": text_at_random(i) if said[0] else None,
        }
