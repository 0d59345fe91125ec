"""The batch file of a run on Slurm: a header that says what the recipe needs; for GRPO `slurm_ray.sh`, which starts Ray on every node
of the job; and `slurm.sh`, which starts the run and hands on Slurm's warning before the time limit. A warm start has no Ray: its run
starts a process on each node itself (`running/sft.py`).
"""

import re
import shlex
from importlib.resources import files
from pathlib import PurePath
from typing import NamedTuple

from omegaconf import DictConfig

from ..cluster.pools import is_warm_start, logical_resources, nodes_needed, notice_seconds, pools
from ..compose import RecipeError


class Settings(NamedTuple):
    """What a site decides.

    Attributes:
        time: of one attempt, as Slurm writes it.
        setup: shell lines that bring the environment of this project, on every node.
        folder: where the job starts, so that relative paths hold.
        attempts: how often a run that the time limit cut short is queued again.
        warned: whether Slurm warns the run before the time limit, so that it saves; a dry run has nothing to save.
        extra: further options of sbatch, as `--partition=gpu`.
    """

    time: str
    setup: tuple[str, ...]
    folder: str
    attempts: int = 20
    warned: bool = True
    extra: tuple[str, ...] = ()


def batch_file(config: DictConfig, command: list[str], settings: Settings) -> str:
    """Of a composed recipe and the command that runs it.

    Raises:
        RecipeError: an option that `#SBATCH` cannot hold, or a time limit that ends before its warning.
    """
    options = [*map(quoted, directives(config, settings)), *settings.extra]
    return "\n".join(
        [
            "#!/bin/bash",
            "# Written by `sv6d launch slurm`; yours to edit. Queue it with sbatch.",
            *(f"#SBATCH {_one_line(option)}" for option in options),
            "",
            "# The environment; it must be at the same place on every node.",
            *settings.setup,
            "# What runs, on the first node.",
            f"command=({shlex.join(command)})",
            "# How often a run that the time limit cuts short goes on.",
            f"attempts={settings.attempts}",
            "",
            script(config),
        ]
    )


def script(config: DictConfig) -> str:
    """What the batch file does, below its settings."""
    here = files(__package__)
    if is_warm_start(config):
        before = ["bring_up() { :; }"]
    else:
        before = [
            "# Further options of `ray start` on each node; GPUs it finds itself.",
            f"ray_options=({shlex.join(ray_options(config))})",
            here.joinpath("slurm_ray.sh").read_text(),
        ]
    return "\n".join([*before, here.joinpath("slurm.sh").read_text()])


def directives(config: DictConfig, settings: Settings) -> list[str]:
    """The options of sbatch that follow from the recipe."""
    notice = notice_seconds(config)
    if settings.warned and 0 < seconds(settings.time) <= notice:
        raise RecipeError(
            f"--time {settings.time}: Slurm warns the run {notice} s before the limit (sv6d.grace and a minute), which here is at its "
            "start. Give it more time."
        )
    gpus = max(pool.gpus for pool in pools(config))
    on_gpus = config.trainer.device == "cuda"
    name = re.sub(r"[^\w.-]+", "-", PurePath(config.sv6d.run_dir).name)
    return [
        f"--job-name=sv6d-{name}",
        f"--nodes={nodes_needed(config)}",
        "--ntasks-per-node=1",
        *([f"--gpus-per-node={gpus}", "--exclusive", "--mem=0"] if on_gpus else []),
        f"--time={settings.time}",
        *([f"--signal=B:TERM@{notice}"] if settings.warned else []),
        "--requeue" if settings.attempts else "--no-requeue",
        "--open-mode=append",
        f"--chdir={settings.folder}",
        "--output=sv6d-%j.log",
    ]


def seconds(time: str) -> int:
    """A time limit as Slurm writes it: minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]].
    0 and UNLIMITED, which are none, are 0.

    Raises:
        RecipeError: it is written otherwise.
    """
    if time.upper() in {"UNLIMITED", "INFINITE"}:
        return 0
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if not found:
        raise RecipeError(f"--time {time!r} is no time limit: write minutes, hours:minutes:seconds or days-hours")
    days, *parts = (int(part) if part else 0 for part in found.groups())
    given = sum(part is not None for part in found.groups()[1:])
    if found.group(1) is None and given < 3:  # minutes[:seconds]
        return 60 * parts[0] + parts[1]
    return 86400 * days + 3600 * parts[0] + 60 * parts[1] + parts[2]


def quoted(option: str) -> str:
    """`--name=value` as a `#SBATCH` line has to spell it: there a space ends it, quotes vanish, and # begins a comment."""
    name, _, value = option.partition("=")
    if not re.search(r"[^\w.,:/@%+-]", value):
        return option
    inside = re.sub(r'(["\\])', r"\\\1", value)
    return f'{name}="{inside}"'


def _one_line(option: str) -> str:
    if not option.isprintable():
        raise RecipeError(f"{option!r}: a #SBATCH line cannot hold it; take out the line breaks and control characters")
    return option


def ray_options(config: DictConfig) -> list[str]:
    """Of `ray start`."""
    return [f"--{name}={value}" for name, value in logical_resources(config).items()]
