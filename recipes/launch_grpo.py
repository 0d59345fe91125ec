"""`sv6d grpo`: compose a recipe, check what can be checked in a second, and train with verl's PPO trainer on Ray and vLLM (section 5.2)."""

import sys
from pathlib import Path

import click
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from . import supervise
from .compose import RecipeError, check_gpus, check_inputs, compose
from .stream import foretell


def describe_step(step: int, data: dict) -> str | None:
    """A training step's line: the three curves of Figure 3 and the time; None for an entry without them."""
    if "critic/score/mean" not in data:
        return None
    return (
        f"step {step:4d}   reward {data['critic/score/mean']:.3f}   entropy {data.get('actor/entropy', float('nan')):.3f}   "
        f"length {data['response_length/mean']:.1f}   {data['timing_s/step']:.1f} s"
    )


def check_batch(config: DictConfig) -> None:
    """Refuse a step whose sequences do not divide over the ranks (verl would pad them) or over the micro-batches (it would die).

    Raises:
        RecipeError: with the numbers, and sizes that work.
    """
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    sequences, ranks = config.data.train_batch_size * rollout.n, config.trainer.nnodes * config.trainer.n_gpus_per_node
    if sequences % ranks:
        raise RecipeError(
            f"a step has {config.data.train_batch_size} prompts x {rollout.n} rollouts = {sequences} sequences, which do not divide "
            f"over {ranks} ranks; verl would pad them. Take one of {divisors(sequences, below=2 * ranks)} ranks "
            f"(trainer.nnodes x trainer.n_gpus_per_node), or other sv6d.scale.prompts."
        )
    share = sequences // ranks
    for key, size, dynamic in (
        ("actor.ppo_micro_batch_size_per_gpu", actor.ppo_micro_batch_size_per_gpu, actor.use_dynamic_bsz),
        (
            "rollout.log_prob_micro_batch_size_per_gpu",
            rollout.log_prob_micro_batch_size_per_gpu,
            rollout.log_prob_use_dynamic_bsz,
        ),
    ):
        if not dynamic and (size is None or share % size):
            raise RecipeError(
                f"actor_rollout_ref.{key}={size} does not divide a rank's share of a step, {share} sequences. "
                f"Take one of {divisors(share, below=share)}, or a dynamic batch size."
            )


def divisors(number: int, below: int) -> str:
    """The largest few divisors of a number up to a bound, as text."""
    return ", ".join(map(str, [d for d in range(1, below + 1) if number % d == 0][-6:]))


def train(config: DictConfig, console: Console | None = None) -> None:
    """Train in a child process until the run is complete; an interrupted run continues from its last checkpoint.

    Leaves in `sv6d.run_dir` what `supervise.train` does, and `rollouts/` and `checkpoints/`.

    Raises:
        RecipeError: the model, the rows or the GPUs are not there, a step does not divide over them, or the mixture does
            not fit the rows.
        JobFailed: the training process failed; the message holds the end of its log.
    """
    console = console or Console()
    check_inputs("grpo", config)
    check_batch(config)
    if told := foretell(config):
        console.print(told, highlight=False)
    if config.trainer.nnodes == 1 and not config.ray_kwargs.ray_init.get("address"):
        check_gpus(config)
    for key in ("run_dir", "data", "model"):  # Ray's workers may stand in another folder
        if key == "run_dir" or Path(config.sv6d[key]).exists():  # a model may be a hub's name
            config.sv6d[key] = str(Path(config.sv6d[key]).absolute())
    job = [sys.executable, "-m", "sv6d.recipes.grpo_job"]
    done = supervise.steps_done(config, shards="actor")
    supervise.train(config, job, title="GRPO", done=done, describe=describe_step, console=console)


@click.command(name="grpo", short_help="Train with GRPO and asynchronous rollouts (section 5.2).")
@click.argument("recipe")
@click.argument("overrides", nargs=-1)
@click.option("--cfg", is_flag=True, help="Print the composed configuration and stop.")
def command(recipe: str, overrides: tuple[str, ...], cfg: bool):
    """Train with GRPO: RECIPE is a name from recipes/grpo (cpu_demo, leum_8b_1node) or a YAML of your own; OVERRIDES are Hydra's.

    \b
      sv6d grpo leum_8b_1node sv6d.data=data/rl sv6d.model=checkpoints/sft sv6d.run_dir=runs/leum
      sv6d grpo cpu_demo --cfg sv6d.data=D sv6d.model=M sv6d.run_dir=R

    The same command again continues an interrupted run from its last checkpoint.
    """
    config = compose("grpo", recipe, list(overrides))
    if cfg:
        click.echo(OmegaConf.to_yaml(config, resolve=True))
        return
    train(config)
