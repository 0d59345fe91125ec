"""Where a trainer's checkpoints lie: verl's folders, in which we keep what else a run needs to go on."""

from pathlib import Path

from ...sft.manifest import STOP


def saved_in(trainer) -> Path:
    """The folder of a checkpoint of the present step; made where it is not there yet."""
    folder = Path(trainer.config.trainer.default_local_dir, f"global_step_{trainer.global_steps}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def resumed_from(trainer) -> Path | None:
    """The folder of the checkpoint that verl has just loaded; None where the run starts afresh."""
    if trainer.global_steps == 0:
        return None
    if trainer.config.trainer.resume_mode == "resume_path":
        return Path(trainer.config.trainer.resume_from_path)
    return Path(trainer.config.trainer.default_local_dir, f"global_step_{trainer.global_steps}")


def stop_file(config) -> Path:
    """The file among a run's checkpoints that asks it to stop (`stopping.py`)."""
    return Path(config.trainer.default_local_dir, STOP)
