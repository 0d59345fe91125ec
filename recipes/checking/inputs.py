"""What a run needs to be there before anything heavy starts: the model, the rows, the GPUs."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ...data_mixers.sources import row_files
from ..cluster.nodes import cluster_address
from ..compose import ROWS, Kind
from .finding import Finding, error, warning
from .subject import Subject, cached_model, gpus_here

OPENED = (
    "data.custom_cls.path",
    "reward.custom_reward_function.path",
    "reward.reward_manager.module.path",
    "trainer.v1.sampler.custom_sampler.path",
    "actor_rollout_ref.rollout.agent.agent_loop_config_path",
)
"""Keys of files of the run's own."""


def model_folder(config: DictConfig) -> Iterator[Finding]:
    """`sv6d.model` is a Hugging Face folder, or a name on the hub."""
    model, path = str(config.sv6d.model), Path(config.sv6d.model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            inside = sorted(str(p.parent) for p in path.glob("**/config.json"))[-3:]
            hint = f" It lies in {', '.join(inside)}." if inside else ""
            yield error(f"sv6d.model={model}: the folder has no config.json, so it is no Hugging Face model.{hint}")
            return
        try:
            json.loads((path / "config.json").read_text())
        except ValueError as wrong:
            yield error(f"{path / 'config.json'} is not JSON: {wrong}. Copy it anew from where the model was saved")
        return
    if cached_model(model):
        return
    on_the_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", model) and os.environ.get("HF_HUB_OFFLINE") not in {"1", "true"}
    if not on_the_hub or path.parent.is_dir():
        yield error(
            f"sv6d.model={model}: no such folder. Give a Hugging Face model folder (config.json, weights, processor)."
        )
    else:
        yield warning(
            f"sv6d.model={model} is no folder here, nor in the cache of the Hugging Face Hub: it is taken for a name there, and every node "
            f"downloads it. If it is a folder, give its whole path; if not, `hf download {model}` lets this check look at its files"
        )


def row_folder(kind: Kind, config: DictConfig) -> Iterator[Finding]:
    """`sv6d.data` has row files for this kind of run."""
    try:
        row_files(Path(config.sv6d.data) / ROWS[kind])
    except FileNotFoundError:
        yield _no_rows(config, ROWS[kind])


def _no_rows(config: DictConfig, part: str) -> Finding:
    return error(
        f"sv6d.data={config.sv6d.data}: there is no row file in {Path(config.sv6d.data) / part}. "
        f"Give a folder with {part}/<task>.parquet; `sv6d data demo --out {config.sv6d.data}` makes one to try."
    )


def present(subject: Subject) -> Iterator[Finding]:
    """Model, rows, held-out rows and files of a GRPO run."""
    yield from model_folder(subject.config)
    yield from _row_files(subject.config)
    yield from _named_files(subject.config)


def _row_files(config: DictConfig) -> Iterator[Finding]:
    for key, part in (("data.train_files", "rl"), ("data.val_files", "heldout")):
        files = OmegaConf.select(config, key)
        try:
            row_files(OmegaConf.to_container(files) if OmegaConf.is_config(files) else files or "")
        except FileNotFoundError as missing:
            if files == f"{config.sv6d.data}/{part}":
                yield _no_rows(config, part)
            else:
                yield error(f"{key}: {str(missing).removeprefix('data files: ')}")


def _named_files(config: DictConfig) -> Iterator[Finding]:
    """Files and folders that the run opens by a path in the recipe: before its first step, or at it."""
    paths = {key: OmegaConf.select(config, key) for key in OPENED}
    if config.trainer.resume_mode == "resume_path":
        paths["trainer.resume_from_path"] = config.trainer.resume_from_path or "nowhere"
    elif config.trainer.resume_mode not in ("auto", "disable"):
        yield error(f"trainer.resume_mode={config.trainer.resume_mode} is none of auto, disable and resume_path")
    for key, path in paths.items():
        if path and "://" not in path and not Path(path).exists():
            yield error(
                f"{key}={path} is not there; mend the path, which is taken from {Path.cwd()} where it is not absolute"
            )


def enough_gpus(config: DictConfig) -> Iterator[Finding]:
    """A run on this machine finds its GPUs here: Ray would wait for more for ever."""
    if config.trainer.device != "cuda" or ("ray_kwargs" in config and cluster_address(config)):
        return
    asked, found = config.trainer.n_gpus_per_node, gpus_here()
    if asked > found:
        mend = (
            f"Set trainer.n_gpus_per_node={found}"
            if found
            else "Run it where there are GPUs (`sv6d launch` starts it on a cluster), or take a recipe for the CPU (cpu_demo)"
        )
        yield error(f"the recipe asks for {asked} GPUs (trainer.n_gpus_per_node) and this machine has {found}. {mend}")


def gpus(subject: Subject) -> Iterator[Finding]:
    """As `enough_gpus`; a warning where this machine has none, as the run will be elsewhere."""
    for finding in enough_gpus(subject.config):
        if gpus_here():
            yield finding
        else:
            yield warning(
                f"this machine has no GPU, and the recipe asks for {subject.config.trainer.n_gpus_per_node} a node: look again "
                f"where the run will be"
            )
