"""A run that was resumed, as verl's own loggers and its V1 and V0 trainers' dumps leave it: `python verl_logs.py FOLDER`.

The first process validates at step 0, trains steps 1 to 4 and is killed; the second resumes after step 2, validates there and
goes on to step 5. Rewards are .1 s in the first and .1 s + .5 in the second.
"""

import os
import sys
from pathlib import Path

from sv6d.reports.recorder import set_aside
from sv6d.schema import TASKS
from sv6d.verl_plugin.recording.task_metrics import MEANS

FOLDER = Path(sys.argv[1])
os.environ |= {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_DIR": str(FOLDER / "wandb_here"),
    "TENSORBOARD_DIR": str(FOLDER / "tensorboard" / "sv6d" / "run"),
    "VERL_FILE_LOGGER_PATH": str(FOLDER / "file" / "metrics.jsonl"),
}
GROUPS = ("a", "b")


def metrics(step, reward):
    """What a step of ours logs: 13 tasks x 20 names, and what verl adds, in its types."""
    import numpy as np

    ours = {f"task/{task}/{name}": reward + i / 100 for task in TASKS for i, name in enumerate(MEANS)}
    return ours | {
        "critic/score/mean": np.float64(reward),
        "response_length/mean": np.float32(7.0),
        "training/global_step": step,
        "actor/entropy": np.float64(2.0 - reward),
        "actor/kl_loss": float("nan"),
    }


def log(steps, validated, reward):
    from verl.utils.tracking import Tracking

    tracking = Tracking("sv6d", "run", ["file", "tensorboard", "wandb"], config={"trainer": {"experiment_name": "run"}})
    tracking.log({"val-core/subject/reward/mean@1": reward(validated)}, step=validated)
    for step in steps:
        tracking.log(metrics(step, reward(step)), step=step)
    tracking.finish()


def dump(steps):
    from verl.trainer.ppo.ray_trainer import RayPPOTrainer
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    prompts = [f"what is {group}?" for group in GROUPS for _ in range(2)]
    texts = {"inputs": prompts, "outputs": ["yes", "no", "é", ""], "gts": ["yes", "yes", "e", "e"]}
    for step in steps:
        scores = [1.0, 0.0, 0.5, 0.25]
        keys = {"uid": [f"{group}{step}_{i}_0" for group in GROUPS for i in range(2)]}
        PPOTrainer._write_generations(**texts, scores=scores, reward_extra_infos_dict=keys, **at(step, "v1"))
        extra = {
            "iou": scores,
            "label": [float("nan")] * 4,
            "task": ["subject", "subject", "ocr_regular", "ocr_regular"],
        }
        RayPPOTrainer._write_generations(**texts, scores=scores, reward_extra_infos_dict=extra, **at(step, "v0"))
        PPOTrainer._write_generations(
            **texts, scores=scores, reward_extra_infos_dict={}, **at(step - 1, "dumps_of_validation")
        )


def at(step, folder):
    return {"dump_path": str(FOLDER / folder), "global_steps": step}


if __name__ == "__main__":
    (FOLDER / "file").mkdir(parents=True)
    (FOLDER / "wandb_here").mkdir()
    log([1, 2, 3, 4], validated=0, reward=lambda step: 0.1 * step)
    set_aside(FOLDER / "file" / "metrics.jsonl")
    log([3, 4, 5], validated=2, reward=lambda step: 0.1 * step + 0.5)
    dump([1, 2, 10])
