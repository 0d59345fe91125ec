"""`sv6d sft`: compose a recipe, check what can be checked in a second, and train with verl's SFT trainer (section 5.1)."""

import shlex
import sys
from functools import partial
from pathlib import Path

import click
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from ..sft.rows import count_rows
from . import check_sft, restarts
from .checking import line, refuse
from .checking.inputs import model_folder, row_folder
from .compose import SHOWN, compose, make_absolute, shown


def train(config: DictConfig, console: Console | None = None) -> None:
    """Train in child processes, one a rank, until the run is complete; an interrupted run continues from its last checkpoint.

    Leaves in `sv6d.run_dir` what `restarts.train` does, `skipped_rows.jsonl` (only if a row had to be skipped), and
    `checkpoints/global_step_<n>/huggingface`.

    Raises:
        RecipeError: the model, the rows or the GPUs are not there, many rows are broken, or a setting cannot be (`check_sft`).
        JobFailed: the training process failed for good; the message holds the end of its log.
        Preempted: the run was asked to stop, and did.
    """
    console = console or Console()
    make_absolute(config)
    check(config, console)
    plan_steps(config)
    if config.trainer.nnodes > 1:
        prepare_nodes(config, console)
        return
    restarts.train(config, job_command(config), title="SFT", shards="", describe=describe_step, console=console)


def plan_steps(config: DictConfig) -> None:
    """Fix the run's length as one long pass over the mixture, which resumes exactly at any step.

    verl's own epochs repeat one order and lose their place when a run is cut at an epoch's end. So `total_epochs` becomes
    steps here, as does a `save_freq` or `test_freq` of "after_each_epoch".
    """
    batch = config.data.train_batch_size
    epoch = max(1, count_rows(config.data.train_files) // batch)
    steps = config.trainer.total_training_steps or epoch * config.trainer.total_epochs
    config.data.mixture.length = steps * batch
    config.trainer.total_training_steps = steps
    config.trainer.total_epochs = 1
    for key in ("save_freq", "test_freq"):
        if config.trainer[key] == "after_each_epoch":
            config.trainer[key] = epoch


def check(config: DictConfig, console: Console) -> None:
    """Print what there is to say of the run before it starts.

    Raises:
        RecipeError: it would fail, or be another than the recipe says; every reason, a line each.
    """
    for look in (model_folder, partial(row_folder, "sft"), check_sft.settings, check_sft.machine):
        refuse(look(config))
    with console.status(f"looking at the rows of {config.data.train_files}"):
        found = [*check_sft.rows(config), *check_sft.held_out(config), *check_sft.memory(config)]
    refuse(found)
    for finding in found:
        console.print(line(finding), highlight=False, markup=False, soft_wrap=True)


def prepare_nodes(config: DictConfig, console: Console) -> None:
    """Write the run's configuration and say what to start on each node: there is no Ray that reaches them all."""
    run_dir = Path(config.sv6d.run_dir).absolute()
    run_dir.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, run_dir / restarts.CONFIG, resolve=True)
    env = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in config.sv6d.env.items())
    line = (
        f"{env} torchrun --nnodes={config.trainer.nnodes} --nproc-per-node={config.trainer.n_gpus_per_node} "
        f"--rdzv-backend=c10d --rdzv-endpoint=HOST:29500 -m sv6d.sft.train {shlex.quote(str(run_dir / restarts.CONFIG))}"
    )
    console.print(
        f"{run_dir / restarts.CONFIG} is ready for {config.trainer.nnodes} nodes that share this folder. Start on each of them, "
        f"with the first one's name for HOST; the same line again continues after the last whole checkpoint:",
        highlight=False,
    )
    console.print(line, highlight=False, soft_wrap=True, markup=False)


def job_command(config: DictConfig) -> list[str]:
    """The command that starts one training process a rank on this node; it wants the configuration's path."""
    ranks = config.trainer.n_gpus_per_node
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return [*torchrun, "-m", "sv6d.sft.train"]


def describe_step(step: int, data: dict) -> str | None:
    """A training step's line, or a validation's; None for an entry with neither."""
    if "val/loss" in data:
        return f"step {step:4d}   held-out loss {data['val/loss']:.4f}"
    if "train/loss" not in data:
        return None
    return (
        f"step {step:4d}   loss {data['train/loss']:.4f}   lr {data['train/lr']:.2e}   "
        f"gradient {data['train/grad_norm']:.2f}   tokens {data['train/global_tokens']:,.0f}"
    )


@click.command(name="sft", short_help="Supervised warm start (report, section 5.1).")
@click.argument("recipe")
@click.argument("overrides", nargs=-1)
@click.option(
    "--cfg",
    type=click.Choice(SHOWN),
    help="Print the configuration and stop: all of it (job), or what the recipe changes of verl's defaults (changes).",
)
def command(recipe: str, overrides: tuple[str, ...], cfg: str | None):
    """Warm up a model: RECIPE is a name from recipes/sft (cpu_demo, leum_8b) or a YAML of your own; OVERRIDES are Hydra's.

    \b
      sv6d sft leum_8b sv6d.data=data sv6d.model=Qwen/Qwen3-VL-8B-Instruct sv6d.run_dir=runs/leum_sft
      sv6d sft cpu_demo --cfg job sv6d.data=D sv6d.model=M sv6d.run_dir=R

    The same command again continues an interrupted run from its last checkpoint.
    """
    config = compose("sft", recipe, list(overrides))
    if cfg:
        click.echo(shown("sft", config, cfg))
        return
    train(config)
