"""A seeded, constructed run: what a training run of any size leaves in its folder, with dynamics like those of Figure 3.

Entropy falls, reward rises, length stays; some groups are dead, some rollouts fail or are truncated; held-out scores improve.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sv6d.reports.recorder import part_name, schema

GROUNDING = ("format", "iou", "label", "r_prof", "r_comp", "r_form", "n_pred", "n_true")
TASKS = {
    "shot_framing": GROUNDING,
    "lens_and_focus": GROUNDING,
    "camera_movement": GROUNDING,
    "cut_point_detection": GROUNDING,
    "editing_logic": GROUNDING,
    "editing_effects_and_transitions": GROUNDING,
    "subject": GROUNDING,
    "lighting_and_color": GROUNDING,
    "composition_and_rhythm": GROUNDING,
    "ocr_regular": ("similarity",),
    "ocr_handwritten": ("similarity",),
    "temporal_action_localization": ("format", "iou", "r_form", "n_pred", "n_true"),
    "visual_reasoning": ("format", "judge"),
}


def build(directory, steps=12, prompts=2, group_size=4, seed=0, tasks=tuple(TASKS), validate_every=5) -> Path:
    """Writes rollouts, metrics and about.json of a run of `steps` steps with `prompts` groups of every task a step."""
    directory = Path(directory)
    (directory / "rollouts").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    metrics = [{"step": 0, "data": validation(rng, tasks, 0.0)}]
    for step in range(1, steps + 1):
        rows = rollouts(rng, step, step / steps, prompts, group_size, tasks)
        table = pa.Table.from_pandas(rows, schema=schema(), preserve_index=False)
        pq.write_table(table, directory / "rollouts" / part_name(step))
        data = step_metrics(rng, rows)
        if step % validate_every == 0 or step == steps:
            data |= validation(rng, tasks, step / steps) | {"timing_s/testing": 2.0}
        metrics.append({"step": step, "data": data})
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    (directory / "about.json").write_text(json.dumps({"mixture": dict.fromkeys(tasks, 1)}))
    return directory


def rollouts(rng, step, progress, prompts, group_size, tasks) -> pd.DataFrame:
    task = np.repeat(np.array(tasks), prompts * group_size)
    group = np.repeat([f"{step}-{i}" for i in range(len(tasks) * prompts)], group_size)
    rows = len(task)
    hardness = np.repeat(rng.normal(0.0, 0.08, len(tasks) * prompts), group_size)
    score = np.clip(0.3 + 0.4 * (1 - np.exp(-3 * progress)) + hardness + rng.normal(0, 0.1, rows), 0.0, 1.0)
    dead = np.repeat(rng.random(len(tasks) * prompts) < 0.05 + 0.1 * progress, group_size)
    score[dead] = 1.0
    failed = rng.random(rows) < 0.002
    score[failed] = 0.0
    length = np.maximum(rng.normal(60, 12, rows), 1).astype(int)
    frame = pd.DataFrame(
        {
            "step": step,
            "uid": [f"{g}_{i % group_size}_0" for i, g in enumerate(group)],
            "task": task,
            "dataset": "constructed",
            "group": group,
            "score": score,
            "failed": failed.astype(float),
            "response_length": length,
            "truncated": length >= 85,
            "entropy": 1.5 - 0.8 * progress + rng.normal(0, 0.1, rows),
            "version_start": np.maximum(step - 1 - rng.integers(0, 3, rows), 0),
            "version_end": step - 1,
            "advantage": rng.normal(0, 1, rows),
            "response": None,
        }
    )
    for name in schema().names:
        if name not in frame:
            has = np.array([name in TASKS.get(t, GROUNDING) for t in tasks]).repeat(prompts * group_size)
            frame[name] = np.where(has, np.clip(score + rng.normal(0, 0.05, rows), 0, 1), np.nan)
    return frame


def validation(rng, tasks, progress) -> dict:
    scores = {task: 0.3 + 0.01 * i + 0.3 * progress + rng.normal(0, 0.02) for i, task in enumerate(tasks)}
    return {f"val-core/{task}/reward/mean@1": score for task, score in scores.items()} | {
        f"val-aux/{task}/score/mean@1": score for task, score in scores.items()
    }


def step_metrics(rng, rows) -> dict:
    phases = {"gen": 3.0, "reward": 0.2, "old_log_prob": 1.0, "adv": 0.1, "update_actor": 2.5, "update_weights": 0.3}
    phases = {f"timing_s/{name}": seconds * rng.uniform(0.9, 1.1) for name, seconds in phases.items()}
    return phases | {
        "timing_s/step": sum(phases.values()) + 0.4,
        "actor/entropy": float(rows["entropy"].mean()),
        "critic/score/mean": float(rows["score"].mean()),
        "response_length/mean": float(rows["response_length"].mean()),
        "training/rollout_probs_diff_max": float(rng.uniform(1e-4, 5e-4)),
        "actor/kl_loss": None,  # verl writes NaN as null
    }
