"""Room for the checkpoints, before the first one fills the disk after some hours."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from .finding import Finding, error, note, warning
from .memory import BYTES, GB, require_fsdp, trained_parameters
from .model_size import ModelSize
from .subject import Subject


def checkpoint_bytes(config: DictConfig, model: ModelSize) -> float:
    """One checkpoint on all ranks together: what `actor.checkpoint.save_contents` names."""
    size = BYTES[str(config.actor_rollout_ref.actor.fsdp_config.get("model_dtype") or "fp32")]
    contents = config.actor_rollout_ref.actor.checkpoint.save_contents
    parts = {
        "model": size * model.parameters,
        "optimizer": 2 * size * trained_parameters(config, model),
        "hf_model": 2 * model.parameters,
    }
    return sum(parts.get(content, 0) for content in contents)


def kept(config: DictConfig) -> int:
    """The most checkpoints that lie on the disk at a time."""
    trainer = config.trainer
    saves = -(-trainer.total_training_steps // trainer.save_freq) if trainer.save_freq > 0 else 0
    most = trainer.max_actor_ckpt_to_keep
    # With one to keep, verl writes the new one before it deletes the old; with more it deletes first.
    return min(saves, max(most, 2)) if most and most > 0 else saves


def free_disk(subject: Subject) -> Iterator[Finding]:
    """Bytes of the checkpoints to come against what is free where `trainer.default_local_dir` will be."""
    config = subject.config
    if config.trainer.save_freq <= 0:
        yield warning(
            f"trainer.save_freq={config.trainer.save_freq} saves no checkpoint: a run that dies is begun anew, and one that ends "
            f"leaves no model. Set it to how many steps a failure may cost"
        )
    folder = Path(config.trainer.default_local_dir).absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(there, os.W_OK):
        yield error(
            f"trainer.default_local_dir={folder}: nothing may be written in {there}. Set sv6d.run_dir to a folder of your own"
        )
        return
    require_fsdp(config)
    each, count = checkpoint_bytes(config, subject.model), kept(config)
    written = sum(path.stat().st_size for path in folder.glob("global_step_*/**/*") if path.is_file())
    free = shutil.disk_usage(there).free
    text = f"{count} checkpoints of about {each / GB:,.2f} GB = {count * each / GB:,.1f} GB in {folder}, where {free / GB:,.1f} GB are free"
    if count * each <= free + written:
        yield note(text)
        return
    kind = error if subject.trains_here else warning
    yield kind(
        f"{text}. Put sv6d.run_dir on a larger disk, lower trainer.max_actor_ckpt_to_keep "
        f"(now {config.trainer.max_actor_ckpt_to_keep}), or raise trainer.save_freq (now {config.trainer.save_freq})"
        + ("" if subject.trains_here else "; this machine has no GPU, so look again where the run will be")
    )
