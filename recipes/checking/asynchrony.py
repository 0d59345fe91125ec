"""Asynchrony (section 5.2.2): who writes rollouts and who trains on them, how far ahead, and how stale they may be.

Facts of verl 0.9.1: `separate_async` wants `train_batch_size = parameter_sync_step x ppo_mini_batch_size`, rollout nodes and a
checkpoint engine of its own; rollouts run `num_warmup_batches` ahead; a finished group whose prompt was sent out in step s is
stale in step k where k - s + 1 > `max_off_policy_threshold`.
"""

import importlib.util
import math
from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

from ..cluster.pools import is_separate, mode_of
from .batch import divisors, near
from .finding import Finding, counted, error, note, warning
from .memory import lora_rank
from .subject import Subject

MODES = ("sync", "colocate_async", "separate_async")
FAR = 8
"""Beyond 1:8 or 8:1 of GPUs that write to GPUs that train we warn: a rule of thumb around the 1:3 that `benchmarks/scale.py` finds
for Table 3, which is the tool for the ratio itself."""
ENGINES_WITH_CUPY = ("nccl", "nixl", "delta_sharded")


def has_balanced_buffer(config: DictConfig) -> bool:
    """Whether finished groups wait in `BalancedReplayBuffer`, the recipes' own."""
    return OmegaConf.select(config, "trainer.v1.sampler.custom_sampler.name") == "BalancedReplayBuffer"


def batches_ahead(config: DictConfig) -> float:
    """Batches of prompts that rollouts run ahead of the update."""
    return 0.0 if mode_of(config) == "sync" else float(config.trainer.v1[mode_of(config)].num_warmup_batches)


def trainer_mode(subject: Subject) -> Iterator[Finding]:
    """The mode exists, and what needs our trainer or dataset has it."""
    config = subject.config
    mode, ours = mode_of(config), config.trainer.v1.trainer_mode.startswith("sv6d_")
    if mode not in MODES:
        yield error(
            f"trainer.v1.trainer_mode={config.trainer.v1.trainer_mode} is none; take sv6d_{', sv6d_'.join(MODES)} or verl's own, "
            f"{', '.join(MODES)}"
        )
        return
    if not has_balanced_buffer(config):
        if not ours:
            yield from _of_ours(config)
        return
    if not ours:
        yield error(
            f"BalancedReplayBuffer needs to be told what is dispatched: set trainer.v1.trainer_mode=sv6d_{mode}, or leave "
            f"trainer.v1.sampler.custom_sampler unset"
        )
    if mode != "sync" and config.data.custom_cls.name != "MixtureDataset":
        yield error(
            "BalancedReplayBuffer replaces lost groups through MixtureDataset.refill: set data.custom_cls to MixtureDataset, "
            "or leave trainer.v1.sampler.custom_sampler unset"
        )


def _of_ours(config: DictConfig) -> Iterator[Finding]:
    """Of a trainer of verl's own: what the recipe asks for and would not get."""
    mode, asked = config.trainer.v1.trainer_mode, config.get("sv6d", {})
    wanted = {
        "sv6d.beyond.task_ema.decay": None,
        "sv6d.beyond.difficulty.stage": None,
        "sv6d.beyond.length.weight": 0,
        "sv6d.kl.every": 0,
    }
    idle = [key for key, off in wanted.items() if (OmegaConf.select(config, key) or off) != off]
    if idle:
        yield error(
            f"{', '.join(idle)}: nothing reads {'them' if len(idle) > 1 else 'it'} in verl's own trainer (trainer.v1.trainer_mode={mode}); "
            f"set trainer.v1.trainer_mode=sv6d_{mode}"
        )
    elif asked.get("record_dir"):
        yield warning(
            f"trainer.v1.trainer_mode={mode} is verl's own: no rollout is recorded by task and component, and what docs/surviving.md "
            f"says does not hold; sv6d_{mode} is the same with both"
        )


def separate(subject: Subject) -> Iterator[Finding]:
    """`separate_async`: its batch rule, its rollout nodes, its way to move weights."""
    config = subject.config
    if not is_separate(config):
        return
    settings, actor, rollout = (
        config.trainer.v1.separate_async,
        config.actor_rollout_ref.actor,
        config.actor_rollout_ref.rollout,
    )
    prompts, syncs, mini = config.data.train_batch_size, settings.parameter_sync_step, actor.ppo_mini_batch_size
    if prompts != syncs * mini:
        yield error(
            f"separate_async wants data.train_batch_size ({prompts}) = parameter_sync_step ({syncs}) x "
            f"actor.ppo_mini_batch_size ({mini}) = {syncs * mini}; for one gradient step a batch set "
            f"trainer.v1.separate_async.parameter_sync_step=1 and actor_rollout_ref.actor.ppo_mini_batch_size={prompts}"
        )
    elif syncs > 1:
        yield warning(
            f"parameter_sync_step={syncs}: {syncs} gradient steps of {mini} prompts between two weight syncs, and Table 3 has one "
            f"of {prompts}; set trainer.v1.separate_async.parameter_sync_step=1 and ppo_mini_batch_size={prompts}"
        )
    if rollout.nnodes < 1 or rollout.n_gpus_per_node < 1:
        yield error(
            f"separate_async has rollout nodes of its own, and rollout.nnodes={rollout.nnodes}, "
            f"rollout.n_gpus_per_node={rollout.n_gpus_per_node}; set both to 1 or more (actor_rollout_ref.rollout)"
        )
    backend = rollout.checkpoint_engine.backend
    if backend == "naive":
        yield error(
            "rollout.checkpoint_engine.backend=naive moves weights inside one process group only; separate_async needs nccl (GPUs, "
            "with cupy) or our gloo (through host memory)"
        )
    elif backend in ENGINES_WITH_CUPY and importlib.util.find_spec("cupy") is None:
        kind = error if subject.trains_here else warning
        yield kind(
            f"rollout.checkpoint_engine.backend={backend} needs cupy, which is not installed here: pip install cupy-cuda13x (the one "
            f"of your CUDA) on every node"
        )
    if lora_rank(config) and not (config.actor_rollout_ref.model.get("lora") or {}).get("merge"):
        yield error(
            "with LoRA, checkpoint engines send the base weights without adapters, so that rollouts would never change; set "
            "actor_rollout_ref.model.lora.merge=true"
        )


def replicas(subject: Subject) -> Iterator[Finding]:
    """Rollout replicas, and GPUs that write against GPUs that train."""
    config, rollout = subject.config, subject.config.actor_rollout_ref.rollout
    size = rollout.tensor_model_parallel_size * rollout.data_parallel_size * rollout.pipeline_model_parallel_size
    trainer = config.trainer.nnodes * config.trainer.n_gpus_per_node
    apart = is_separate(config)
    writers = rollout.nnodes * rollout.n_gpus_per_node if apart else trainer
    per_node = rollout.n_gpus_per_node if apart else config.trainer.n_gpus_per_node
    if not writers:
        return
    if writers % size or (per_node % size and size % per_node):
        fitting = [d for d in divisors(writers) if per_node % d == 0 or d % per_node == 0]
        yield error(
            f"{writers} GPUs for rollouts, {per_node} a node, do not divide into replicas of {size} (tensor x data x pipeline "
            f"parallel); take {' or '.join(map(str, near(fitting, size)))}"
        )
        return
    count, group = writers // size, rollout.n
    at_once = count * rollout.max_num_seqs
    sequences = config.data.train_batch_size * group
    written = f"up to {at_once:,} of the {sequences:,} sequences of a batch at a time"
    text = f"{counted(count, 'replica')} of {counted(size, 'GPU')} for rollouts: {written}"
    if not apart:
        yield note(text)
        return
    ratio = writers / trainer
    text = f"{counted(writers, 'GPU')} for rollouts and {trainer} for training ({ratio:.2g} : 1); {text}"
    if not 1 / FAR <= ratio <= FAR:
        idle = "the trainers wait for rollouts" if ratio < 1 else "the rollouts wait for the trainers"
        yield warning(
            f"{text}. So uneven, {idle}: move nodes between trainer.nnodes and actor_rollout_ref.rollout.nnodes; "
            f"`python benchmarks/scale.py` estimates which share leaves least idle"
        )
    else:
        yield note(text)


def staleness(subject: Subject) -> Iterator[Finding]:
    """How far rollouts run ahead, against how old they may be, and how many prompts the mixture has for them."""
    config, mode = subject.config, mode_of(subject.config)
    if mode not in MODES or mode == "sync":
        return
    ahead, sampler = batches_ahead(config), config.trainer.v1.sampler
    threshold, strategy = sampler.max_off_policy_threshold, sampler.max_off_policy_strategy
    key = f"trainer.v1.{mode}.num_warmup_batches"
    if strategy not in ("drop", "wait"):
        yield error(f"trainer.v1.sampler.max_off_policy_strategy={strategy} is none of drop and wait")
    prompts = math.floor(ahead * config.data.train_batch_size)
    if prompts == 0:
        yield warning(
            f"{key}={ahead:g} sends no prompt out ahead: each step waits for its own rollouts, as in sync mode; set it to 1"
        )
    # A group that is sent out when the update is `ahead` batches behind trains ceil(ahead) steps after; verl counts ages from 1.
    age = math.ceil(ahead) + 1
    if threshold is not None and strategy == "drop" and age > threshold:
        yield error(
            f"{key}={ahead:g} and max_off_policy_threshold={threshold}: groups are {age} steps old when they train, so every one is stale "
            f"when its turn comes, and rolled out again. Set trainer.v1.sampler.max_off_policy_threshold to {age + 1} or more, or {key} "
            f"to {threshold - 1} or less"
        )
    elif threshold is not None and strategy == "wait" and age >= threshold:
        yield warning(
            f"{key}={ahead:g}, max_off_policy_threshold={threshold} and max_off_policy_strategy=wait: a step waits for every rollout "
            f"that is {counted(threshold, 'step')} old, which is all of those ahead, so that the slowest sets the pace. Set the threshold "
            f"to {age + 1} or more"
        )
    else:
        yield note(
            f"rollouts run {counted(prompts, 'prompt')} ahead ({ahead:g} of a batch), so that groups train {counted(age - 1, 'step')} "
            f"after they were sent out; one that is {counted(threshold or 0, 'step')} late is stale ({strategy})"
        )
    if "mixture" not in config.data or not config.data.mixture.get("length"):
        return
    needed = math.ceil((config.trainer.total_training_steps + ahead) * config.data.train_batch_size)
    if config.data.mixture.length < needed:
        yield error(
            f"data.mixture.length={config.data.mixture.length:,} ends before the run: {config.trainer.total_training_steps} steps and "
            f"{ahead:g} batches ahead take {needed:,} prompts; set it to {needed:,} or more"
        )
