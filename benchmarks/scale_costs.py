"""What the simulation of `scale.py` takes work to cost: assumed for Leum-VL-8B, given on the command line, or measured by a run.

Nothing of it was measured on a GPU by us: the assumptions are arithmetic over public figures, each said where it comes from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from scale_sim import Costs, Outcome, Plan, Run, Writing
from sv6d.reports.runs import RunError, load_run
from sv6d.schema import TASKS

GROUPS, GROUP_SIZE = 390, 8  # Table 3: 13 tasks x 30 prompts, 8 responses each
LIMIT = 2048  # the recipes' data.max_response_length


class Assumption(NamedTuple):
    value: float
    unit: str
    source: str


ASSUMED = {
    "parameters": Assumption(8.2e9, "", "Qwen3-8B, the language model"),
    "vision_parameters": Assumption(0.6e9, "", "Qwen3-VL's vision tower; it sees 4 patches for a token"),
    "kv_bytes": Assumption(147456, "B a token", "Qwen3-8B's config: 36 layers x 8 heads x 128 x (K, V) x 2 bytes"),
    "peak": Assumption(989e12, "FLOP/s", "data sheet of an H100 SXM, dense bf16"),
    "bandwidth": Assumption(3.35e12, "B/s", "data sheet of an H100 SXM"),
    "mfu_train": Assumption(0.35, "", "a guess, in the range that reports of such runs give"),
    "mfu_prefill": Assumption(0.40, "", "a guess"),
    "bandwidth_share": Assumption(0.60, "", "a guess"),
    "kv_memory": Assumption(50e9, "B a GPU", "80 GB x 0.85 - 18 GB of weights and buffers"),
    "video_tokens": Assumption(12000, "a prompt", "a guess: half a minute at 4 fps (the limit is 50 K)"),
    "image_tokens": Assumption(1500, "a prompt", "a guess"),
    "fixed": Assumption(15, "s a step", "a guess: optimizer, advantages, records, the driver"),
    "sync": Assumption(20, "s a step", "a guess: 16 GB of weights to every engine, engines put to sleep and woken"),
}
MEDIAN_TOKENS = {"ocr": 40, "action_localization": 150, "chain_of_thought": 400, "temporal_grounding": 350}
SPREAD, STRAGGLERS = 0.6, 0.02
"""Guesses: responses are lognormal (a tenth is over twice the median), and of every fifty one runs into the limit."""


class Calibration(NamedTuple):
    costs: Costs
    writing: dict[str, Writing]
    groups: int
    group_size: int


def assumed(seed: int = 0) -> Calibration:
    """Leum-VL-8B on 80 GB GPUs, by arithmetic."""
    a = {name: assumption.value for name, assumption in ASSUMED.items()}
    prompts = {task: a["image_tokens" if kind.family == "ocr" else "video_tokens"] for task, kind in TASKS.items()}
    writing = {}
    for index, (task, kind) in enumerate(TASKS.items()):
        flops = 2 * prompts[task] * (a["parameters"] + 4 * a["vision_parameters"])
        lengths = responses(MEDIAN_TOKENS[kind.family], SPREAD, STRAGGLERS, seed + index)
        writing[task] = Writing(lengths, flops / (a["peak"] * a["mfu_prefill"]))
    prompt = float(np.mean(list(prompts.values())))
    tokens = prompt + float(np.mean([kind.lengths.mean() for kind in writing.values()]))
    reading = a["bandwidth"] * a["bandwidth_share"]
    forward = 2 * (a["parameters"] + 4 * a["vision_parameters"])
    # old log-probabilities are one forward pass; the update is one, its gradients two, and one again for checkpointing
    train = 5 * forward * tokens / (a["peak"] * a["mfu_train"])
    costs = Costs(
        decode_base=2 * a["parameters"] / reading,
        decode_each=prompt * a["kv_bytes"] / reading,
        slots=int(a["kv_memory"] / (prompt * a["kv_bytes"])),
        train=train,
        padding=train * 128 / tokens,  # verl's padding sequences have 128 tokens
        fixed=a["fixed"],
        sync=a["sync"],
    )
    return Calibration(costs, writing, GROUPS, GROUP_SIZE)


def responses(median: float, spread: float, stragglers: float, seed: int, limit: int = LIMIT) -> np.ndarray:
    """Lengths to draw from: lognormal around `median`, a share of them at the limit."""
    random = np.random.default_rng(seed)
    lengths = np.clip(np.round(median * random.lognormal(0, spread, 2000)), 1, limit)
    lengths[: round(stragglers * len(lengths))] = limit
    return lengths


def with_rate(costs: Costs, tokens_per_second: float) -> Costs:
    """An engine with all slots taken writes so many tokens a second."""
    each = 1 / tokens_per_second - costs.decode_base / costs.slots
    if each < 0:
        raise click.BadParameter(
            f"{tokens_per_second:,.0f} tokens a second need more than {costs.slots} sequences at a time; give --slots too"
        )
    return replace(costs, decode_each=each)


# A run's own times


@dataclass(frozen=True)
class Measured:
    """A run's plan, and what its steps took, in seconds; `staleness` is verl's worst of a trajectory, by step."""

    plan: Plan
    calibration: Calibration
    step: float
    wait: float
    staleness: float

    def predict(self, costs: Costs, *, steps: int, seed: int) -> Outcome:
        """The run's steps at these costs, its own or another's, with the lengths that its responses had."""
        _, writing, groups, size = self.calibration
        return Run(self.plan, costs, writing, groups, size, seed).steps(steps)


TRAINING = ("timing_s/old_log_prob", "timing_s/ref", "timing_s/update_actor")
STALENESS = "training/off_policy/trajectory_staleness_worst/mean"


def measure(path: Path) -> Measured:
    """Costs from the first half of a run's steps (without the first), and the second half to compare a prediction with.

    Raises:
        click.ClickException: the folder is no run of ours, is too short, or does not say how fast its engines are.
    """
    try:
        run = load_run(path)
    except RunError as error:
        raise click.ClickException(str(error)) from error
    if not (path / "config.yaml").exists():
        raise click.ClickException(
            f"{path} has no config.yaml, which says on how many GPUs the run ran; `sv6d grpo` writes it"
        )
    config = OmegaConf.load(path / "config.yaml")
    times = (
        run.metrics[run.metrics["timing_s/step"].notna()] if "timing_s/step" in run.metrics else run.metrics.iloc[:0]
    )
    times = times.iloc[1:].fillna({name: 0.0 for name in run.metrics.columns if name.startswith("timing_s/")})
    if len(times) < 4 or run.rollouts.empty:
        raise click.ClickException(
            f"{path} has {len(times)} steps after its first; 4 at least, with their rollouts, are needed"
        )
    plan = _plan(config)
    first, second = times.iloc[: len(times) // 2], times.iloc[len(times) // 2 :]
    if plan.mode == "separate_async" and times["timing_s/gen"].mean() < 0.05 * _step(times).mean():
        raise click.ClickException(
            f"the steps of {path} hardly wait for rollouts, so how fast its engines could write cannot be told; take a run in turns "
            f"(sync or colocate_async), or one with fewer rollout GPUs"
        )
    calibration = _calibration(config, plan, first, run.rollouts)
    return Measured(
        plan,
        calibration,
        _step(second).mean(),
        second["timing_s/gen"].mean(),
        second.get(STALENESS, pd.Series([0.0])).mean(),
    )


def _plan(config) -> Plan:
    mode = config.trainer.v1.trainer_mode.removeprefix("sv6d_")
    rollout = config.actor_rollout_ref.rollout
    ahead = OmegaConf.select(config, f"trainer.v1.{mode}.num_warmup_batches", default=0) or 0
    return Plan(
        mode, config.trainer.nnodes * config.trainer.n_gpus_per_node, rollout.nnodes * rollout.n_gpus_per_node, ahead
    )


def _step(times: pd.DataFrame) -> pd.Series:
    """Seconds from one step to the next; a checkpoint is no part of it."""
    return (
        times["timing_s/step"] + _seconds(times, "timing_s/sv6d_record") - _seconds(times, "timing_s/save_checkpoint")
    )


def _seconds(times: pd.DataFrame, *names: str) -> pd.Series:
    return sum((times[name] for name in names if name in times), pd.Series(0.0, index=times.index))


def _calibration(config, plan: Plan, times: pd.DataFrame, rollouts: pd.DataFrame) -> Calibration:
    """An engine is held to write all the time that a step waits for it (in `separate_async`: all the step)."""
    groups, size = config.data.train_batch_size, config.actor_rollout_ref.rollout.n
    lengths = {task: of_task.to_numpy(float) for task, of_task in rollouts.groupby("task").response_length}
    tokens = groups * size * float(np.mean([of_task.mean() for of_task in lengths.values()]))
    step, training = _step(times).mean(), _seconds(times, *TRAINING).mean()
    sync = _seconds(times, "timing_s/update_weights").mean()
    awake = step - sync if plan.mode == "separate_async" else times["timing_s/gen"].mean()
    engines = plan.rollouts if plan.mode == "separate_async" else plan.trainers
    slots = int(config.actor_rollout_ref.rollout.max_num_seqs)
    train = training * plan.trainers / (groups * size)
    fixed = max(step - times["timing_s/gen"].mean() - training - sync, 0.0)
    costs = Costs(0.0, awake * engines / tokens, slots, train, train * 0.05, fixed, sync)
    return Calibration(costs, {task: Writing(of_task, 0.0) for task, of_task in lengths.items()}, groups, size)


def full_scale(calibration: Calibration) -> Calibration:
    """The same costs with Table 3's batch."""
    return calibration._replace(groups=GROUPS, group_size=GROUP_SIZE)


def mean_tokens(writing: Mapping[str, Writing]) -> float:
    return float(np.mean([task.lengths.mean() for task in writing.values()]))
