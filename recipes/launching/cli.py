"""`sv6d launch`: a recipe on Slurm; a GRPO recipe on a Ray cluster that is up, or on Kubernetes."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click
import yaml
from omegaconf import DictConfig

from ..checking import CHECKS, line, refuse
from ..checking.subject import Subject
from ..checking.table import run
from ..cluster.pools import ASSUMED_NODE, describe, pools
from ..compose import Kind, RecipeError, compose, find_recipe
from ..running import check_sft
from . import kubernetes, ray_job, slurm

_RECIPE = [click.argument("recipe"), click.argument("overrides", nargs=-1)]
_DRY_RUN = click.option(
    "--dry-run", is_flag=True, help="Launch `sv6d grpo --dry-run`: all but the training, in minutes."
)
_OUT = click.option("-o", "--out", type=click.Path(dir_okay=False), help="Write here; without it, print.")


def _with_recipe(command):
    for decorate in reversed([*_RECIPE, _DRY_RUN]):
        command = decorate(command)
    return command


@click.group(name="launch", short_help="Start a recipe on Slurm, Ray or Kubernetes.")
def command():
    """Start `sv6d grpo RECIPE [OVERRIDES]` on a cluster: the same command, the same recipe, the same run.

    \b
      one machine      sv6d grpo leum_8b_1node sv6d.data=... sv6d.model=... sv6d.run_dir=...
      Slurm            sv6d launch slurm RECIPE ... -o run.sbatch      then: sbatch run.sbatch
                       sv6d launch slurm --sft RECIPE ...              the same for `sv6d sft`
      a Ray cluster    sv6d launch ray RECIPE ... --address http://HEAD:8265
      Kubernetes       sv6d launch kubernetes RECIPE ... --image IMAGE -o run.yaml      then: kubectl apply -f run.yaml

    How many nodes and GPUs is the recipe's business (trainer.nnodes, trainer.n_gpus_per_node; for rollouts of their own
    actor_rollout_ref.rollout.nnodes). Data, model and sv6d.run_dir must be at the same place on every node. Before training, the run
    asks each node whether the plug-in, the versions, the environment, the folders and the GPUs are as they should be. Launch with
    --dry-run first: that does everything but train.
    """


@command.command("slurm", short_help="Write a batch file for sbatch.")
@_with_recipe
@click.option("--sft", is_flag=True, help="RECIPE is one of `sv6d sft`.")
@_OUT
@click.option("--time", default="24:00:00", show_default=True, help="Limit of one attempt, as Slurm writes it.")
@click.option("--partition", help="Where it is queued.")
@click.option("--account", help="Who pays.")
@click.option(
    "--sbatch", "extra", multiple=True, help="A further option of sbatch, such as --qos=high. May be repeated."
)
@click.option(
    "--setup",
    multiple=True,
    help="A shell line that brings the environment on a node. [default: this environment, activated]",
)
@click.option(
    "--attempts", default=20, show_default=True, help="How often a run that the time limit cuts short goes on."
)
def slurm_command(recipe, overrides, dry_run, sft, out, time, partition, account, extra, setup, attempts):
    """Write the batch file of RECIPE: for GRPO Ray on every node of the job, the run on the first.

    \b
      sv6d launch slurm leum_8b_async sv6d.data=D sv6d.model=M sv6d.run_dir=R --partition gpu -o run.sbatch
      sv6d launch slurm --sft leum_8b trainer.nnodes=4 sv6d.data=D sv6d.model=M sv6d.run_dir=R -o run.sbatch
      sbatch run.sbatch

    Before the time limit (sv6d.grace and a minute) Slurm warns the run, which saves, ends, and is queued again, until it is complete.
    The file is short and yours to edit.
    """
    if sft and dry_run:
        raise click.BadParameter("`sv6d sft` has no dry run; leave --dry-run out", param_hint="--dry-run")
    config = composed_sft(recipe, overrides) if sft else composed(recipe, overrides)
    command = run_command("sft" if sft else "grpo", recipe, overrides, dry_run)
    chosen = {"partition": partition, "account": account}
    settings = slurm.Settings(
        time=time,
        setup=setup or _this_environment(),
        folder=str(Path.cwd()),
        attempts=0 if dry_run else attempts,
        warned=not dry_run,
        extra=(*(f"--{name}={value}" for name, value in chosen.items() if value), *extra),
    )
    text = slurm.batch_file(config, command, settings)
    _write(text, out, config, "sbatch {}")


@command.command("ray", short_help="Submit to a Ray cluster that is up.")
@_with_recipe
@click.option(
    "--address", required=True, envvar="RAY_DASHBOARD", help="Of the dashboard, http://HEAD:8265. [env: RAY_DASHBOARD]"
)
@click.option("--follow/--no-follow", default=True, show_default=True, help="Show what the run prints, until it ends.")
def ray_command(recipe, overrides, dry_run, address, follow):
    """Submit RECIPE as a job to a Ray cluster. It runs on the head and goes on when this terminal is closed.

    \b
      sv6d launch ray leum_8b_async sv6d.data=/mnt/D sv6d.model=/mnt/M sv6d.run_dir=/mnt/R --address http://HEAD:8265
      ray job stop ID --address http://HEAD:8265      # the run saves and ends; the same command again continues it
    """
    config = composed(recipe, overrides)
    _need_absolute(config, "the job does not start in this folder")
    job = ray_job.submit(address, config, run_command("grpo", recipe, overrides, dry_run))
    click.echo(f"submitted as {job}: {describe(pools(config))}", err=True)
    click.echo(f"stop it with: ray job stop {job} --address {address}", err=True)
    if follow and not ray_job.follow(address, job, lambda text: click.echo(text, nl=False)):
        raise click.ClickException(
            f"the job {job} did not succeed; all that it printed: ray job logs {job} --address {address}"
        )


@command.command("kubernetes", short_help="Write a RayJob manifest for KubeRay.")
@_with_recipe
@_OUT
@click.option("--image", required=True, help="With this project, verl and vLLM (the extra gpu) in it.")
@click.option(
    "--volume", required=True, metavar="CLAIM:MOUNT", help="The shared volume that data, model and run are on."
)
@click.option("--name", default="sv6d-grpo", show_default=True, help="Of the RayJob.")
@click.option("--namespace", help="[default: that of kubectl's context]")
@click.option("--gpu", default="nvidia.com/gpu", show_default=True, help="The name of the GPU resource.")
@click.option("--cpus", default=64, show_default=True, help="Of a pod.")
@click.option("--memory", help=f"Of a pod. [default: sv6d.node_gb, or {ASSUMED_NODE}G]")
@click.option("--attempts", default=3, show_default=True, help="How often a run that fails is started again.")
def kubernetes_command(recipe, overrides, dry_run, out, volume, **chosen):
    """Write the manifest of RECIPE: a Ray cluster that comes up for the run and goes after it. Needs the KubeRay operator.

    \b
      sv6d launch kubernetes leum_8b_async sv6d.data=/mnt/D sv6d.model=/mnt/M sv6d.run_dir=/mnt/R \\
          --image registry/sv6d:1 --volume training:/mnt -o run.yaml
      kubectl apply -f run.yaml
      kubectl logs -f job/sv6d-grpo

    A pod that is taken away gives the run time to save (sv6d.grace and a minute); the next attempt goes on from there.
    """
    config = composed(recipe, overrides)
    _need_absolute(config, "pods have folders of their own")
    claim, colon, mount = volume.partition(":")
    if not (claim and colon and mount.startswith("/")):
        raise click.BadParameter(f"{volume!r} is not CLAIM:/MOUNT", param_hint="--volume")
    _need_on_volume(config, mount)
    kubernetes.require_name(chosen["name"])
    if dry_run:
        chosen["attempts"] = 0
    settings = kubernetes.Settings(claim=claim, mount=mount, **chosen)
    _write(
        _yaml(kubernetes.manifest(config, run_command("grpo", recipe, overrides, dry_run), settings)),
        out,
        config,
        "kubectl apply -f {}",
    )


def composed(recipe: str, overrides: tuple[str, ...]) -> DictConfig:
    """The recipe, checked in all that holds wherever it runs: data and model may be seen from the cluster alone.

    Raises:
        RecipeError: it would wait in a queue only to fail.
    """
    config = compose("grpo", recipe, list(overrides))
    subject = Subject(config, here=False)
    found = [finding for one in CHECKS if one.quick and one.name != "inputs" for finding in run(one, subject)]
    refuse(found)
    address = config.ray_kwargs.ray_init.get("address")
    if address not in (None, "auto"):
        raise RecipeError(
            f"ray_kwargs.ray_init.address={address}: the run would leave the cluster that is brought up for it unused. Add "
            "ray_kwargs.ray_init.address=null"
        )
    for finding in found:
        if finding.level == "warning":
            click.echo(line(finding), err=True)
    return config


def composed_sft(recipe: str, overrides: tuple[str, ...]) -> DictConfig:
    """As `composed`, of a recipe of `sv6d sft`."""
    config = compose("sft", recipe, list(overrides))
    refuse(check_sft.settings(config))
    return config


def run_command(kind: Kind, recipe: str, overrides: tuple[str, ...], dry_run: bool) -> list[str]:
    """The command that the cluster runs; a recipe that is a file is named by its whole path."""
    path = find_recipe(kind, recipe)
    name = recipe if recipe == path.stem else str(path)
    return ["sv6d", kind, name, *overrides, *(["--dry-run"] if dry_run else [])]


def _this_environment() -> tuple[str, ...]:
    """The line that activates the environment of this process; its path must be the same on the nodes."""
    activate = Path(sys.prefix) / "bin" / "activate"
    if activate.exists():
        return (f"source {shlex.quote(str(activate))}",)
    return (f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",)


def _need_absolute(config: DictConfig, why: str) -> None:
    paths = {key: Path(config.sv6d[key]) for key in ("data", "model", "run_dir")}
    relative = [
        f"sv6d.{key}={path}"
        for key, path in paths.items()
        if not path.is_absolute() and (key != "model" or path.exists())  # a model may be a hub's name
    ]
    if relative:
        raise RecipeError(f"{', '.join(relative)}: give whole paths, as they are on the cluster; {why}.")


def _need_on_volume(config: DictConfig, mount: str) -> None:
    outside = kubernetes.places_outside(config, mount)
    if model := outside.pop("sv6d.model", None):
        click.echo(
            f"warning: sv6d.model={model} is not below {mount}: every pod needs it there, from the image say", err=True
        )
    if outside:
        told = ", ".join(f"{key}={path}" for key, path in outside.items())
        raise RecipeError(
            f"{told}: not below {mount}, where the volume is mounted, so that it goes when the pod goes. Give a path below {mount}, or "
            f"mount the volume elsewhere (--volume)"
        )


def _yaml(manifest: dict[str, Any]) -> str:
    class Plain(yaml.SafeDumper):
        ignore_aliases = lambda *_: True  # noqa: E731 - limits equal to requests are written twice

    return yaml.dump(manifest, Dumper=Plain, sort_keys=False, width=120)


def _write(text: str, out: str | None, config: DictConfig, then: str) -> None:
    if out is None:
        click.echo(text)
        return
    try:
        Path(out).write_text(text)
    except OSError as error:
        raise RecipeError(f"{out} cannot be written: {error.strerror}") from error
    click.echo(f"{out}: {describe(pools(config))}. Next: {then.format(shlex.quote(out))}", err=True)
