"""What recording takes of a training step: of one of the report's size (13 tasks x 30 prompts x 8), and of a run that was made.

    python benchmarks/recorder.py [RUN] [--tokens 400]

Target: at most 1 % of a step of the demo on the thread that trains. The rollouts are random; RUN is the folder of a run by one
of the sv6d trainers, which measure what they take of each step.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import click

REPEATS = 5


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--tokens", default=400, help="The mean length of a response.")
def main(run: Path | None, tokens: int) -> None:
    if run:
        of_run(run)
        return
    import torch
    import verl.trainer.ppo.v1  # noqa: F401 - first, because verl loads our plug-in
    from sv6d.reports.recorder import Recorder
    from sv6d.verl_plugin.recording.rollout_frame import fresh_difference, pick_texts, rollout_frame
    from sv6d.verl_plugin.recording.task_metrics import task_metrics
    from sv6d.verl_plugin.recording.trainer import TEXTS

    torch.set_num_threads(1)
    keys, tags, data = step_of(tokens)
    options = {"step": 1, "limits": [4 * tokens] * len(keys), "kl_of": {}}
    seconds: dict[str, list[float]] = {}

    def timed(name, work):
        start = time.perf_counter()
        result = work()
        seconds.setdefault(name, []).append(time.perf_counter() - start)
        return result

    with tempfile.TemporaryDirectory() as folder, Recorder(folder) as recorder:
        for step in range(1, REPEATS + 1):
            frame = timed("measured beside the update", lambda: rollout_frame(keys, tags, data, **options))
            timed("compared beside the update", lambda: fresh_difference(tags, data, step=1))
            kept = pick_texts(frame, TEXTS, step)
            frame["response"] = ["x" * 4 * tokens if row in kept else None for row in frame.index]
            metrics = timed("metrics by task, while training waits", lambda frame=frame: task_metrics(frame))
            timed("handed over, while training waits", lambda f=frame, step=step: recorder.write(f, step))
            timed("written by the recorder's thread", recorder.flush)
        size = sum(part.stat().st_size for part in recorder.parts.iterdir()) / REPEATS / 2**20
    print(
        f"{len(keys):,} rollouts of {tokens} tokens, {len(metrics)} metrics by task, {size:.2f} MB a step; medians of {REPEATS}:"
    )
    for name, times in seconds.items():
        print(f"  {1e3 * sorted(times)[REPEATS // 2]:8.1f} ms  {name}")
    logged(metrics)


def logged(metrics: dict[str, float]) -> None:
    """What verl's loggers take for the metrics by task, while training waits."""
    with tempfile.TemporaryDirectory() as folder:
        places = {"WANDB_DIR": folder, "TENSORBOARD_DIR": folder, "VERL_FILE_LOGGER_PATH": f"{folder}/metrics.jsonl"}
        os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"} | places
        from verl.utils.tracking import Tracking

        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            tracking = Tracking("benchmark", "recorder", ["console", "file", "tensorboard", "wandb"], config={})
            times = {name: [] for name in tracking.logger}
            for step in range(REPEATS):
                for name, logger in tracking.logger.items():
                    start = time.perf_counter()
                    logger.log(data=metrics, step=step)
                    times[name].append(time.perf_counter() - start)
            tracking.finish()
    for name, taken in times.items():
        print(f"  {1e3 * sorted(taken)[REPEATS // 2]:8.1f} ms  logged by {name}, while training waits")


def step_of(tokens: int):
    """3,120 rollouts as they lie in TransferQueue."""
    import numpy as np
    import torch
    from sv6d.rewards import COMPONENTS
    from sv6d.schema import TASKS

    rng = np.random.default_rng(0)
    tasks = np.repeat(list(TASKS), 30 * 8).tolist()
    lengths = rng.integers(tokens // 2, tokens * 3 // 2, len(tasks)).tolist()
    keys = [f"{i // 8}_{i % 8}_0" for i in range(len(tasks))]
    tags = [{"response_len": length, "min_global_steps": 0, "max_global_steps": 0} for length in lengths]
    names = (*COMPONENTS, "reward_seconds", "judge_seconds")
    data = {
        "data_source": tasks,
        "extra_info": [{"dataset": "random", "id": str(i // 8)} for i in range(len(tasks))],
        "extra_fields": [{"reward_extra_info": dict.fromkeys(names, rng.random())} for _ in tasks],
        "response_mask": ragged(lengths, lambda n: torch.ones(n, dtype=torch.int64)),
    }
    for name in ("rm_scores", "advantages", "entropy", "rollout_log_probs", "old_log_probs"):
        data[name] = ragged(lengths, torch.rand)
    return keys, tags, data


def ragged(lengths, make):
    import torch

    return torch.nested.as_nested_tensor([make(length) for length in lengths], layout=torch.jagged)


def of_run(path: Path) -> None:
    from sv6d.reports.runs import load_run

    run = load_run(path)
    metrics = run.metrics.dropna(subset=["timing_s/step"]).iloc[1:]  # the first step also warms everything up
    waited, step = metrics["timing_s/sv6d_record"], metrics["timing_s/step"]
    beside = metrics["sv6d/record_seconds_beside_update"]
    print(
        f"{path}: {len(metrics)} steps after the first, {len(run.rollouts):,} rollouts recorded, {run.dropped['rows']} lost"
    )
    print(f"  {1e3 * waited.median():8.1f} ms  of training a step, {waited.sum() / step.sum():.2%} of the steps' time")
    print(f"  {1e3 * beside.median():8.1f} ms  beside the update, on another thread")
    print(f"  {1e3 * step.median():8.1f} ms  a step")


if __name__ == "__main__":
    main()
