"""The batch file of a run on Slurm: a header that says what the recipe needs, and `slurm.sh`, which starts Ray on every node of the
job, then the run, and hands on Slurm's warning before the time limit.
"""

import shlex
from importlib.resources import files
from typing import NamedTuple

from omegaconf import DictConfig

from .pools import logical_resources, nodes_needed, pools

WARNING_SECONDS = 600
"""Before the time limit: as long as a step and a checkpoint may take. A limit below it is a warning at once."""


class Settings(NamedTuple):
    """What a site decides.

    Attributes:
        time: of one attempt, as Slurm writes it.
        setup: shell lines that bring the environment of this project, on every node.
        folder: where the job starts, so that relative paths hold.
        attempts: how often a run that the time limit cut short is queued again; with 0 it is not even warned.
        extra: further options of sbatch, as `--partition=gpu`.
    """

    time: str
    setup: tuple[str, ...]
    folder: str
    attempts: int = 20
    extra: tuple[str, ...] = ()


def batch_file(config: DictConfig, command: list[str], settings: Settings) -> str:
    """Of a composed recipe and the command that runs it."""
    options = [*directives(config, settings), *settings.extra]
    return "\n".join(
        [
            "#!/bin/bash",
            "# Written by `sv6d launch slurm`; yours to edit. Queue it with sbatch.",
            *(f"#SBATCH {option}" for option in options),
            "",
            "# The environment; it must be at the same place on every node.",
            *settings.setup,
            "# What runs, on the first node, once Ray is up.",
            f"command=({shlex.join(command)})",
            "# Further options of `ray start` on each node; GPUs it finds itself.",
            f"ray_options=({shlex.join(ray_options(config))})",
            "# How often a run that the time limit cuts short goes on.",
            f"attempts={settings.attempts}",
            "",
            files(__package__).joinpath("slurm.sh").read_text(),
        ]
    )


def directives(config: DictConfig, settings: Settings) -> list[str]:
    """The options of sbatch that follow from the recipe."""
    gpus = max(pool.gpus for pool in pools(config))
    on_gpus = config.trainer.device == "cuda"
    return [
        f"--job-name=sv6d-{shlex.quote(str(config.sv6d.run_dir).rsplit('/', 1)[-1])}",
        f"--nodes={nodes_needed(config)}",
        "--ntasks-per-node=1",
        *([f"--gpus-per-node={gpus}", "--exclusive", "--mem=0"] if on_gpus else []),
        f"--time={settings.time}",
        *([f"--signal=B:TERM@{WARNING_SECONDS}", "--requeue"] if settings.attempts else ["--no-requeue"]),
        "--open-mode=append",
        f"--chdir={settings.folder}",
        "--output=sv6d-%j.log",
    ]


def ray_options(config: DictConfig) -> list[str]:
    return [f"--{name}={value}" for name, value in logical_resources(config).items()]
