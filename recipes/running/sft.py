"""`sv6d sft`: compose a recipe, look at it and at its rows, and train with verl's SFT trainer (section 5.1)."""

import os
import shlex
import socket
import sys
from functools import partial
from pathlib import Path

import click
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from ...reports.recorder import set_aside
from ...sft.rows import count_rows
from ...verl_plugin.surviving.checkpoint_folder import stop_file
from ..checking import line, refuse
from ..checking.inputs import model_folder, row_folder
from ..compose import SHOWN, compose, make_absolute, shown
from . import check_sft, restarts

JOB = ["-m", "sv6d.sft.train"]
SLURM_JOB = "SLURM_JOB_ID"
"""The variable by which Slurm tells that this runs in a job of it."""


def train(config: DictConfig, console: Console | None = None) -> None:
    """Train in child processes, one a rank, until the run is complete; an interrupted run continues from its last checkpoint.

    Several nodes are those of the Slurm job that this runs in; without one, `prepare_nodes` says what to start.

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
    if config.trainer.nnodes > 1 and SLURM_JOB not in os.environ:
        prepare_nodes(config, console)
        return
    job = job_command(config)
    restarts.train(config, job, title="SFT", shards="", describe=describe_step, console=console, by_file=True)


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
    with console.status("looking at every row") as status:

        def progress(what: str, done: int, total: int) -> None:
            status.update(f"looking at every row (file {done + 1} of {total})")

        found = [*check_sft.rows(config, progress), *check_sft.held_out(config), *check_sft.memory(config)]
    refuse(found)
    for finding in found:
        console.print(line(finding), highlight=False, markup=False, soft_wrap=True)


def prepare_nodes(config: DictConfig, console: Console) -> None:
    """Write the run's configuration and say what to start on each node: there is no Ray or Slurm that reaches them all.

    What a launcher does at its start is done here: metrics of an earlier attempt are set aside, since verl's logger empties its file,
    and an earlier stop counts no longer.
    """
    run_dir = Path(config.sv6d.run_dir).absolute()
    run_dir.mkdir(parents=True, exist_ok=True)
    set_aside(run_dir / "metrics.jsonl")
    stop_file(config).unlink(missing_ok=True)
    OmegaConf.save(config, run_dir / restarts.CONFIG, resolve=True)
    nodes = config.trainer.nnodes
    env = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in config.sv6d.env.items())
    line = f"{env} {torchrun(config, 'NODE', 'HOST', '29500')} {shlex.quote(str(run_dir / restarts.CONFIG))}"
    console.print(
        f"{run_dir / restarts.CONFIG} is ready for {nodes} nodes that share this folder. Start on each of them, with 0 to {nodes - 1} "
        f"for NODE and the address of node 0 for HOST. To continue after the last whole checkpoint: this command again, then the same "
        f"lines. `sv6d launch slurm --sft` does all of that on Slurm.",
        highlight=False,
    )
    console.print(line, highlight=False, soft_wrap=True, markup=False)


def job_command(config: DictConfig) -> list[str]:
    """The command that starts one training process a rank, on this machine or on each node of the Slurm job that this is the first
    node of; it wants the configuration's path."""
    ranks, nodes = config.trainer.n_gpus_per_node, config.trainer.nnodes
    if nodes == 1:
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", *JOB]
    address, port = meeting_place()
    # --overlap: beside whatever step this runs in. --cpu-bind: else a task, and with it all ranks of a node, may get a single core.
    step = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--overlap", "--cpu-bind=none"]
    ends = ["--kill-on-bad-exit=1", "--quit-on-interrupt"]
    return ["srun", *step, *ends, "bash", "-c", f'exec {torchrun(config, "$SLURM_NODEID", address, port)} "$1"', "sft"]


def torchrun(config: DictConfig, node: str, address: str, port: str) -> str:
    """What starts the ranks of one node of several; a rendezvous of torchrun's own (c10d) would fail on nodes that do not know each
    other's names."""
    where = f"--nnodes={config.trainer.nnodes} --node-rank={node} --master-addr={address} --master-port={port}"
    program = shlex.quote(sys.executable)
    return (
        f"{program} -m torch.distributed.run {where} --nproc-per-node={config.trainer.n_gpus_per_node} {' '.join(JOB)}"
    )


def meeting_place() -> tuple[str, str]:
    """Address and free port of this machine, for ranks elsewhere."""
    from ray.util import get_node_ip_address

    with socket.socket() as probe:
        probe.bind(("", 0))
        return get_node_ip_address(), str(probe.getsockname()[1])


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

    The same command again continues an interrupted run from its last checkpoint. SIGTERM, or the file checkpoints/stop in the run's
    folder, has it save and end (exit status 75). Several nodes: `sv6d launch slurm --sft`, or what this command then prints.
    """
    config = compose("sft", recipe, list(overrides))
    if cfg:
        click.echo(shown("sft", config, cfg))
        return
    train(config)
