"""`sv6d grpo`: compose a recipe, check what can be checked in a second, and train with verl's PPO trainer on Ray and vLLM (section 5.2)."""

import sys
from pathlib import Path

import click
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from . import supervise
from .compose import check_inputs, compose


def describe_step(step: int, data: dict) -> str | None:
    """A training step's line: the three curves of Figure 3 and the time; None for an entry without them."""
    if "critic/score/mean" not in data:
        return None
    return (
        f"step {step:4d}   reward {data['critic/score/mean']:.3f}   entropy {data.get('actor/entropy', float('nan')):.3f}   "
        f"length {data['response_length/mean']:.1f}   {data['timing_s/step']:.1f} s"
    )


def check_machine(config: DictConfig) -> None:
    """Refuse a single-machine run that asks for more GPUs than there are: Ray would wait for them for ever."""
    if config.trainer.device != "cuda" or config.trainer.nnodes > 1 or config.ray_kwargs.ray_init.get("address"):
        return
    import torch

    asked, found = config.trainer.n_gpus_per_node, torch.cuda.device_count()
    if asked > found:
        raise click.ClickException(
            f"the recipe asks for {asked} GPUs (trainer.n_gpus_per_node) and this machine has {found}. "
            f"Set trainer.n_gpus_per_node={found or 1}, or take a recipe for the CPU (cpu_demo)."
        )


def train(config: DictConfig, console: Console | None = None) -> None:
    """Train in a child process until the run is complete; an interrupted run continues from its last checkpoint.

    Leaves in `sv6d.run_dir`: `config.yaml` (everything resolved), `train.log`, `metrics.jsonl`, `rollouts/`, `checkpoints/`.
    """
    check_inputs("grpo", config)
    check_machine(config)
    for key in ("run_dir", "data", "model"):  # Ray's workers may stand in another folder
        if key == "run_dir" or Path(config.sv6d[key]).exists():  # a model may be a hub's name
            config.sv6d[key] = str(Path(config.sv6d[key]).absolute())
    run_dir = Path(config.sv6d.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, run_dir / "config.yaml", resolve=True)
    supervise.run(
        [sys.executable, "-m", "sv6d.recipes.grpo_job", str(run_dir / "config.yaml")],
        title="GRPO",
        environment=dict(config.sv6d.env),
        log=run_dir / "train.log",
        metrics=run_dir / "metrics.jsonl",
        total_steps=config.trainer.total_training_steps,
        describe=describe_step,
        console=console,
    )


@click.command(name="grpo", short_help="Train with GRPO and asynchronous rollouts (section 5.2).")
@click.argument("recipe")
@click.argument("overrides", nargs=-1)
@click.option("--cfg", is_flag=True, help="Print the composed configuration and stop.")
def command(recipe: str, overrides: tuple[str, ...], cfg: bool):
    """Train with GRPO: RECIPE is a name from recipes/grpo (cpu_demo, leum_8b) or a YAML of your own; OVERRIDES are Hydra's.

    \b
      sv6d grpo leum_8b sv6d.data=data/rl sv6d.model=checkpoints/sft sv6d.run_dir=runs/leum
      sv6d grpo cpu_demo --cfg sv6d.data=D sv6d.model=M sv6d.run_dir=R

    The same command again continues an interrupted run from its last checkpoint.
    """
    config = compose("grpo", recipe, list(overrides))
    if cfg:
        click.echo(OmegaConf.to_yaml(config, resolve=True))
        return
    train(config)
