"""A seeded, constructed run: what a training run of any size leaves in its folder, with dynamics like those of Figure 3.

Entropy falls, reward rises, length stays; some groups are dead, some rollouts fail or are truncated; held-out scores improve;
of every task one group a step has its texts recorded, and the scores of these are what the rewards give for them.
"""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sv6d.reports.recorder import part_name, schema
from sv6d.rewards import score
from sv6d.schema import TASKS as TABLE
from sv6d.schema import Taxonomy

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
KL_EVERY = 3


def build(
    directory, steps=12, prompts=2, group_size=4, seed=0, tasks=tuple(TASKS), validate_every=5, texts=2, failing=None
) -> Path:
    """Writes rollouts, metrics and about.json of a run of `steps` steps with `prompts` groups of every task a step.

    `texts` rollouts of each task and step have their response and truth recorded. `failing` maps task to the share of its
    rollouts whose scoring fails; 0.002 where it says nothing.
    """
    directory = Path(directory)
    (directory / "rollouts").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    lines = [{"step": 0, "data": validation(rng, tasks, 0.0)}]
    for step in range(1, steps + 1):
        lines.append(
            {"step": step, "data": add_step(directory, rng, step, steps, prompts, group_size, tasks, texts, failing)}
        )
        if step % validate_every == 0 or step == steps:
            lines[-1]["data"] |= validation(rng, tasks, step / steps) | {"timing_s/testing": 2.0}
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (directory / "about.json").write_text(json.dumps({"mixture": dict.fromkeys(tasks, 1)}))
    return directory


def add_step(directory, rng, step, steps, prompts=2, group_size=4, tasks=tuple(TASKS), texts=2, failing=None) -> dict:
    """Writes the step's part and returns its metrics."""
    rows = rollouts(rng, step, step / steps, prompts, group_size, tasks, failing)
    with_texts(rng, rows, step / steps, prompts * group_size, texts)
    table = pa.Table.from_pandas(rows, schema=schema(), preserve_index=False)
    pq.write_table(table, directory / "rollouts" / part_name(step))
    return step_metrics(rng, rows, step)


def rollouts(rng, step, progress, prompts, group_size, tasks, failing=None) -> pd.DataFrame:
    task = np.repeat(np.array(tasks), prompts * group_size)
    group = np.repeat([f"{step}-{i}" for i in range(len(tasks) * prompts)], group_size)
    rows = len(task)
    hardness = np.repeat(rng.normal(0.0, 0.08, len(tasks) * prompts), group_size)
    score = np.clip(0.3 + 0.4 * (1 - np.exp(-3 * progress)) + hardness + rng.normal(0, 0.1, rows), 0.0, 1.0)
    dead = np.repeat(rng.random(len(tasks) * prompts) < 0.05 + 0.1 * progress, group_size)
    score[dead] = 1.0
    failed = rng.random(rows) < np.array([(failing or {}).get(t, 0.002) for t in tasks]).repeat(prompts * group_size)
    score[failed] = 0.0
    length = np.maximum(rng.normal(60, 12, rows), 1).astype(int)
    judged = np.isin(task, [t for t in tasks if "judge" in TASKS.get(t, ())])
    judge_seconds = np.where(judged, rng.lognormal(-1.0, 0.5, rows), np.nan)
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
            "reward_seconds": np.nan_to_num(judge_seconds) + rng.lognormal(-7.0, 0.4, rows),
            "judge_seconds": judge_seconds,
            "judge_failed": judged & (rng.random(rows) < 0.03),
            "response": None,
            "ground_truth": None,
            "text_at_random": None,
        }
    )
    for name in schema().names:
        if name not in frame:
            has = np.array([name in TASKS.get(t, GROUNDING) for t in tasks]).repeat(prompts * group_size)
            frame[name] = np.where(has, np.clip(score + rng.normal(0, 0.05, rows), 0, 1), np.nan)
    return frame


def with_texts(rng, rows, progress, stride, texts) -> None:
    """Gives the first `texts` rollouts of every task an answer and a truth, and the scores that belong to them."""
    for start in range(0, len(rows), stride):
        task = rows.at[start, "task"]
        if task not in TABLE:
            continue
        truth, answer = answer_and_truth(rng, TABLE[task], progress)
        for row in range(start, start + min(texts, stride)):
            response = answer()
            scored = score(task, response, truth)
            rows.loc[row, ["response", "ground_truth", "score"]] = [response, truth, scored.value]
            for name, value in scored.components.items():
                if name != "score":
                    rows.loc[row, name] = value


def answer_and_truth(rng, task, progress):
    """A true answer as text, and what makes answers to it that come nearer with progress (0 to 1)."""
    if task.family == "ocr":
        truth = "structure is what the eye follows"
        return truth, lambda: "".join("x" if rng.random() > 0.6 + 0.4 * progress else c for c in truth)
    if task.family == "chain_of_thought":
        said = {True: "<think>The ball is red.</think><answer>red</answer>", False: "I think that it is red."}
        return "red", lambda: said[bool(rng.random() < 0.4 + 0.6 * progress)]
    times = [0.0, *np.sort(rng.uniform(1.0, 11.0, rng.integers(1, 4))).round(1).tolist(), 12.0]
    true = [_segment(rng, task, start, end) for start, end in pairwise(times)]

    def answer():
        jitter = 1.5 * (1.0 - progress)
        found = [dict(s, start=max(0.0, s["start"] + rng.normal(0, jitter))) for s in true]
        wrong = [_segment(rng, task, s["start"], s["end"]) if rng.random() > 0.3 + 0.6 * progress else s for s in found]
        kept = [s for s in wrong if rng.random() < 0.7 + 0.3 * progress]
        return json.dumps({"segments": [dict(s, start=round(min(s["start"], s["end"]), 1)) for s in kept]})

    return json.dumps(true), answer


def _segment(rng, task, start, end) -> dict:
    taxonomy, labels = Taxonomy.load(), {}
    for dimension, sub in task.labels:
        tags = taxonomy.sub_dimension(dimension, sub).labels
        labels.setdefault(dimension, {})[sub] = tags[rng.integers(len(tags))]
    return {"start": start, "end": end} | ({"labels": labels} if labels else {})


def validation(rng, tasks, progress) -> dict:
    scores = {task: 0.3 + 0.01 * i + 0.3 * progress + rng.normal(0, 0.02) for i, task in enumerate(tasks)}
    return {f"val-core/{task}/reward/mean@1": score for task, score in scores.items()} | {
        f"val-aux/{task}/score/mean@1": score for task, score in scores.items()
    }


def step_metrics(rng, rows, step) -> dict:
    phases = {"gen": 3.0, "reward": 0.2, "old_log_prob": 1.0, "adv": 0.1, "update_actor": 2.5, "update_weights": 0.3}
    phases = {f"timing_s/{name}": seconds * rng.uniform(0.9, 1.1) for name, seconds in phases.items()}
    return (
        phases
        | mixture_metrics(rng, rows["task"].value_counts(normalize=True).sort_index(), step)
        | {
            "timing_s/step": sum(phases.values()) + 0.4,
            "actor/entropy": float(rows["entropy"].mean()),
            "critic/score/mean": float(rows["score"].mean()),
            "response_length/mean": float(rows["response_length"].mean()),
            "training/rollout_probs_diff_max": float(rng.uniform(1e-1, 5e-1)),
            "training/rollout_actor_probs_pearson_corr": float(rng.uniform(0.995, 0.999)),
            "sv6d/fresh_rollout_probs_diff_max": float(rng.uniform(1e-4, 5e-4)),
            "judge/asked": int(rows["judge_seconds"].notna().sum()),
            "judge/failed": int(rows["judge_failed"].sum()),
            "judge/failure_rate": float(rows["judge_failed"].sum() / max(rows["judge_seconds"].notna().sum(), 1)),
            "actor/kl_loss": None,  # verl writes NaN as null
        }
        | ({} if step % KL_EVERY else {"sv6d/kl": 0.002 * step})
        | ({} if step % KL_EVERY else {f"task/{task}/kl": 0.002 * step for task in rows["task"].unique()})
    )


def mixture_metrics(rng, shares, step) -> dict:
    """Every seventh step the first task lacks a group, which it is owed until the step after."""
    first, late = shares.index[0], step % 7 == 0
    metrics = {
        "sv6d/refilled_groups": int(rng.random() < 0.2),
        "sv6d/repeated_groups": 0,
        "sv6d/skipped_groups": int(late),
    }
    for task, share in shares.items():
        short = 0.1 * share if late and task == first else 0.0
        metrics |= {f"mixture/{task}/requested": share, f"mixture/{task}/realised": share - short}
        metrics |= {f"mixture/{task}/debt": int(bool(short)), f"mixture/{task}/replaced": 0}
    return metrics | {"sv6d/balance_wait_seconds": float(late)}
