"""`sv6d grpo`: compose a recipe, check what can be checked in a second, and train with verl's PPO trainer on Ray and vLLM (section 5.2)."""

import shutil
import sys

import click
from omegaconf import DictConfig
from rich.console import Console

from .. import checking
from ..cluster import nodes
from ..compose import SHOWN, compose, make_absolute, shown
from . import restarts


def describe_step(step: int, data: dict) -> str | None:
    """A training step's line: the three curves of Figure 3 and the time; None for an entry without them."""
    if "critic/score/mean" not in data:
        return None
    return (
        f"step {step:4d}   reward {data['critic/score/mean']:.3f}   entropy {data.get('actor/entropy', float('nan')):.3f}   "
        f"length {data['response_length/mean']:.1f}   {data['timing_s/step']:.1f} s"
    )


def train(config: DictConfig, console: Console | None = None) -> None:
    """Train in a child process until the run is complete; an interrupted run continues from its last checkpoint.

    Leaves in `sv6d.run_dir` what `restarts.train` does, and `rollouts/` and `checkpoints/`.

    Raises:
        RecipeError: the run would fail, or be another than the recipe says (`checking.quick`).
        JobFailed: the training process failed for good; the message holds the end of its log.
        Preempted: the run was asked to stop, and did.
    """
    console = console or Console()
    make_absolute(config)
    for finding in checking.quick(config):
        console.print(checking.line(finding), highlight=False, markup=False, soft_wrap=True)
    nodes.settle_address(config)

    def ready() -> None:
        """On a cluster: every node that the recipe needs is there, or comes back, and is fit."""
        if nodes.cluster_address(config):
            nodes.require(config, console)

    ready()
    job = [sys.executable, "-m", "sv6d.recipes.running.grpo_job"]
    restarts.train(config, job, title="GRPO", shards="actor", describe=describe_step, console=console, ready=ready)


@click.command(name="grpo", short_help="Train with GRPO and asynchronous rollouts (section 5.2).")
@click.argument("recipe")
@click.argument("overrides", nargs=-1)
@click.option(
    "--cfg",
    type=click.Choice(SHOWN),
    help="Print the configuration and stop: all of it (job), or what the recipe changes of verl's defaults (changes).",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Do everything short of training: every check, Ray and each of its nodes, the prompts of the first step.",
)
def command(recipe: str, overrides: tuple[str, ...], cfg: str | None, dry_run: bool):
    """Train with GRPO: RECIPE is a name from recipes/grpo or a YAML of your own; OVERRIDES are Hydra's.

    \b
      cpu_demo        a tiny model on a CPU; the demo's
      cpu_separate    the same with rollouts of their own, as leum_8b_async has them
      leum_2b_1gpu    a 2B model on one 80 GB GPU
      leum_8b_1node   8B on eight 80 GB GPUs, which rollouts and training share
      leum_8b_lora    the same with LoRA
      leum_8b_sync    the same, synchronous: the run to compare with
      leum_8b_async   8B on four nodes: three train, one writes rollouts without pause

    \b
      sv6d grpo leum_8b_1node sv6d.data=data sv6d.model=checkpoints/sft sv6d.run_dir=runs/leum --dry-run
      sv6d grpo leum_8b_1node sv6d.data=data sv6d.model=checkpoints/sft sv6d.run_dir=runs/leum
      sv6d grpo leum_8b_async sv6d.data=D sv6d.model=M sv6d.run_dir=R --cfg changes

    The same command again continues an interrupted run from its last checkpoint. On a cluster, run it on the machine where Ray's
    head is, with RAY_ADDRESS set, or have it started: `sv6d launch --help`.
    """
    config = compose("grpo", recipe, list(overrides))
    if cfg:
        click.echo(shown("grpo", config, cfg))
    elif dry_run:
        from .rehearsal import rehearse  # it looks more closely than training needs to

        make_absolute(config)
        rehearse(recipe, config, Console(width=max(shutil.get_terminal_size((120, 24)).columns, 100)))
    else:
        train(config)
