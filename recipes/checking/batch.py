"""Batch arithmetic (Table 3: 390 prompts x 8 rollouts = 3,120 sequences in a single gradient step) over data-parallel ranks.

What verl 0.9.1 does in all three V1 trainers: a step's sequences are padded up to a multiple of lcm(ranks, mini-batch)
(`trainer_base.py`, `_get_required_batch_multiple`), one update is made for each mini-batch of the padded step, and an update
whose mini-batch does not divide over the ranks is an assertion in the worker (`engine_workers.py`, `train_mini_batch`).
Ranks are data-parallel ranks: GPUs of the trainer / `ulysses_sequence_parallel_size`. Rollouts' tensor parallelism, and how
far FSDP shards (`fsdp_size`), do not enter. The padding rows are 128 masked tokens each: they cost time, have no gradient,
and, as verl divides by the mini-batch as configured, make the others' smaller.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf

from ..cluster.pools import is_separate
from .finding import Finding, counted, error, note, warning
from .subject import Subject

COUNTS = {
    "trainer.total_training_steps": "sv6d.scale.steps or this key",
    "trainer.nnodes": "it",
    "trainer.n_gpus_per_node": "it",
    "data.train_batch_size": "sv6d.prompts_per_task or this key",
    "actor_rollout_ref.actor.ppo_mini_batch_size": "it",
    "actor_rollout_ref.rollout.n": "sv6d.group_size",
    "actor_rollout_ref.rollout.tensor_model_parallel_size": "it",
}
"""What there has to be one of at least, for a run and for the arithmetic of the checks; and what to set."""


class Batch(NamedTuple):
    """The sizes of a step. Prompts count groups, sequences are prompts x group.

    Attributes:
        prompts: of an update's batch (a step's share where a step updates several times between weight syncs).
        group: rollouts of a prompt, G.
        mini: prompts of a mini-batch.
        epochs: passes over the batch.
        gpus: of the trainer.
        parallel: GPUs that share a sequence (Ulysses).
    """

    prompts: int
    group: int
    mini: int
    epochs: int
    gpus: int
    parallel: int

    @property
    def ranks(self) -> int:
        return self.gpus // self.parallel

    @property
    def sequences(self) -> int:
        return self.prompts * self.group

    @property
    def padded(self) -> int:
        """Sequences after verl's padding."""
        return -(-self.sequences // self.multiple) * self.multiple

    @property
    def multiple(self) -> int:
        return math.lcm(self.ranks, self.mini * self.group)

    @property
    def updates(self) -> int:
        """Gradient steps on the batch."""
        return self.padded // (self.mini * self.group) * self.epochs

    @property
    def fits(self) -> bool:
        """Whether each update's mini-batch divides over the ranks: else verl's workers stop."""
        return self.mini * self.group % self.ranks == 0


def read_batch(config: DictConfig) -> Batch:
    """The sizes that a configuration asks for."""
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    return Batch(
        prompts=max(config.data.train_batch_size // syncs_of(config), 1),
        group=rollout.n,
        mini=actor.ppo_mini_batch_size,
        epochs=actor.ppo_epochs,
        gpus=config.trainer.nnodes * config.trainer.n_gpus_per_node,
        parallel=sequence_parallel(config),
    )


def sequence_parallel(config: DictConfig) -> int:
    """GPUs that share a sequence: verl takes the actor's (deprecated) key where it is above 1, else the engine's."""
    actor = config.actor_rollout_ref.actor
    engine = actor.get("fsdp_config", {}).get("ulysses_sequence_parallel_size", 1)
    old = actor.get("ulysses_sequence_parallel_size", 1)
    return old if old > 1 else engine


def syncs_of(config: DictConfig) -> int:
    """Updates between two weight syncs, of which each has a batch of its own."""
    return config.trainer.v1.separate_async.parameter_sync_step if is_separate(config) else 1


def signal(subject: Subject) -> Iterator[Finding]:
    """There are steps, prompts, and rollouts that differ within their group: else nothing is learned."""
    config, rollout = subject.config, subject.config.actor_rollout_ref.rollout
    for key, mend in COUNTS.items():
        count = OmegaConf.select(config, key)
        if count is None or (not isinstance(count, str) and count < 1):  # `keys.wrong_kinds` names words
            yield error(f"{key}={count}: of these a run has 1 at least; set {mend} to 1 or more")
    if rollout.n == 1 and str(config.algorithm.adv_estimator).startswith(("grpo", "gdpo", "rloo", "opo")):
        yield error(
            f"actor_rollout_ref.rollout.n={rollout.n}: a rollout that is alone in its group is compared with nothing; set "
            f"sv6d.group_size to 2 or more (Table 3: 8)"
        )
    if rollout.temperature == 0:
        yield error(
            "actor_rollout_ref.rollout.temperature=0: all rollouts of a prompt are then alike, and every advantage is 0; set it to 1"
        )


def step(subject: Subject) -> Iterator[Finding]:
    """A step's sequences over the data-parallel ranks, and how many gradient steps come of it."""
    config = subject.config
    batch = read_batch(config)
    if config.data.train_batch_size < 1 or (
        is_separate(config) and syncs_of(config) * batch.mini != config.data.train_batch_size
    ):
        return  # `signal` and `asynchrony.separate` say so
    if batch.gpus % batch.parallel:
        yield error(
            f"{batch.gpus} GPUs of the trainer do not divide by ulysses_sequence_parallel_size={batch.parallel}; take a "
            f"sequence parallelism of {_join(divisors(batch.gpus)[:6])}"
        )
        return
    if not batch.fits:
        yield error(f"{_numbers(batch)}, and {_consequence(batch)}. {_mends(config, batch)}")
    elif batch.padded > batch.sequences and batch.updates == 1:
        yield warning(
            f"{batch.sequences:,} sequences in mini-batches of {batch.mini * batch.group:,}: verl pads "
            f"{counted(batch.padded - batch.sequences, 'masked row')}, and makes one gradient step that is "
            f"{1 - batch.sequences / batch.padded:.1%} smaller"
        )
    elif batch.padded > batch.sequences:
        yield error(
            f"{_numbers(batch)}; verl pads them to {batch.padded:,} and makes {batch.updates} gradient steps of the one, "
            f"{_thinner(batch)}. Set actor_rollout_ref.actor.ppo_mini_batch_size={batch.prompts} for one gradient step, as in Table 3"
        )
    elif batch.updates > 1:
        yield warning(
            f"{batch.updates} gradient steps a batch, and Table 3 has one: "
            f"actor.ppo_mini_batch_size={batch.mini} of {batch.prompts} prompts, actor.ppo_epochs={batch.epochs}"
        )
    else:
        yield note(
            f"{batch.prompts} prompts x {batch.group} = {batch.sequences:,} sequences over {counted(batch.ranks, 'rank')}: "
            f"{batch.sequences // batch.ranks:,} each, one gradient step"
        )
    if batch.fits and not config.actor_rollout_ref.actor.use_dynamic_bsz and batch.sequences % batch.gpus:
        yield error(
            f"{batch.sequences:,} sequences do not divide over {batch.gpus} GPUs, which verl demands without dynamic batch sizes; "
            f"set actor_rollout_ref.actor.use_dynamic_bsz=true, or take {_join(near(divisors(batch.sequences), batch.gpus))} GPUs"
        )


def micro_batches(subject: Subject) -> Iterator[Finding]:
    """Micro-batches of a fixed size have to divide a rank's share: verl's workers assert it."""
    actor, rollout = subject.config.actor_rollout_ref.actor, subject.config.actor_rollout_ref.rollout
    batch = read_batch(subject.config)
    if batch.gpus % batch.parallel or not batch.fits:
        return
    update, whole = batch.mini * batch.group // batch.ranks, batch.padded // batch.ranks
    settings = [
        ("actor.ppo_micro_batch_size_per_gpu", actor.ppo_micro_batch_size_per_gpu, actor.use_dynamic_bsz, update),
        (
            "rollout.log_prob_micro_batch_size_per_gpu",
            rollout.log_prob_micro_batch_size_per_gpu,
            rollout.log_prob_use_dynamic_bsz,
            whole,
        ),
    ]
    for key, size, dynamic, share in settings:
        if dynamic:
            continue
        if size is None or share % size:
            wrong = f"={size} does not divide" if size is not None else " is not set, and has to divide"
            yield error(
                f"actor_rollout_ref.{key}{wrong} a rank's share of {share} sequences; "
                f"take one of {_join(divisors(share)[-6:])}, or a dynamic batch size"
            )


def fitting_mini_batch(prompts: int, group: int, ranks: int) -> int:
    """Prompts of the smallest mini-batch that has `prompts` or more, and whose sequences divide over the ranks."""
    step = ranks // math.gcd(ranks, group)
    return -(-prompts // step) * step


def divisors(number: int) -> list[int]:
    """All of them, ascending."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return small + [number // d for d in reversed(small) if d * d != number]


def near(numbers: list[int], wanted: int) -> list[int]:
    """The largest below `wanted` and the smallest above, of those that there are."""
    below, above = [n for n in numbers if n < wanted], [n for n in numbers if n > wanted]
    return below[-1:] + above[:1]


def _numbers(batch: Batch) -> str:
    over = f"{batch.gpus} GPUs / {batch.parallel} = {batch.ranks}" if batch.parallel > 1 else f"{batch.ranks}"
    return (
        f"a step has {batch.prompts} prompts x {batch.group} rollouts = {batch.sequences:,} sequences, which do not divide "
        f"over {over} data-parallel ranks in mini-batches of {batch.mini * batch.group:,}"
    )


def _consequence(batch: Batch) -> str:
    padding = ""
    if batch.padded > batch.sequences:
        padding = (
            f"verl pads them to {batch.padded:,} (lcm of {batch.ranks} and {batch.mini * batch.group:,}), which would make "
            f"{batch.updates} gradient steps of the one, {_thinner(batch)}; and "
        )
    return (
        f"{padding}its workers stop at the first update, because a mini-batch of {batch.mini * batch.group:,} "
        f"is not {batch.ranks} equal shares"
    )


def _thinner(batch: Batch) -> str:
    share = batch.sequences / batch.padded
    return f"with {batch.padded - batch.sequences:,} masked rows and {share:.0%} of the gradient each"


def _mends(config: DictConfig, batch: Batch) -> str:
    worlds = [ranks * batch.parallel for ranks in divisors(batch.mini * batch.group)]
    whole_nodes = [gpus for gpus in worlds if gpus % config.trainer.n_gpus_per_node == 0]
    choices = [
        f"take {_join(near(whole_nodes or worlds, batch.gpus), 'or')} GPUs (trainer.nnodes x trainer.n_gpus_per_node)"
    ]
    sv6d = config.get("sv6d", {})
    if sv6d.get("prompts_per_task") and sv6d.tasks * sv6d.prompts_per_task == batch.prompts:
        per_rank = batch.ranks // math.gcd(batch.ranks, sv6d.tasks * batch.group)
        fitting = [n for n in range(per_rank, 2 * sv6d.prompts_per_task + per_rank + 1, per_rank)]
        few = near(fitting, sv6d.prompts_per_task)
        choices.append(f"set sv6d.prompts_per_task={_join(few, 'or')} ({sv6d.tasks} x that x {batch.group} divides)")
    if not is_separate(config) and config.actor_rollout_ref.actor.use_dynamic_bsz and batch.mini == batch.prompts:
        mini = fitting_mini_batch(batch.prompts, batch.group, batch.ranks)
        choices.append(
            f"keep the prompts and set actor_rollout_ref.actor.ppo_mini_batch_size={mini}: verl then pads "
            f"{(mini - batch.prompts) * batch.group} masked rows and makes one gradient step, {1 - batch.prompts / mini:.1%} smaller"
        )
    return "Either " + "; or ".join(choices)


def _join(values, last: str = ",") -> str:
    return (f" {last} " if last != "," else ", ").join(map(str, values))
