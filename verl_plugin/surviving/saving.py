"""The trainers' side of checkpoints that can be relied on: whole or not counted, never fewer than one, exact with the recorder.

verl names a checkpoint the latest before the step's metrics and rollouts are written, its rotation forgets what an earlier
attempt saved, and a save that fails ends the run. Here a checkpoint counts once it is sealed (`sft/manifest.py`), at the
beginning of the next step, when all that belongs to it is on the disk.
"""

import logging
import shutil
from collections import Counter
from pathlib import Path

import transfer_queue as tq
from omegaconf import open_dict
from verl.utils.debug import marked_timer

from ...sft import manifest
from .checkpoint_folder import resumed_from
from .settings import Survival, read_settings

logger = logging.getLogger(__name__)


class CheckpointNotSaved(RuntimeError):
    """A checkpoint could not be written; says of which step, why, and what is left to go on from."""


class SavingTrainer:
    """Mixin over a V1 trainer, outside those that put files of their own into a checkpoint."""

    _survival = Survival()
    _keep: int | None = None
    _unsealed: Path | None = None
    _about: dict = {}  # noqa: RUF012 (never changed in place): what the next manifest notes
    _restored: Counter | None = None
    _save_failed = False

    def __init__(self, config):
        self._survival = read_settings(config)
        trainer = config.trainer
        self._keep = 1 if trainer.get("remove_previous_ckpt_in_save") else trainer.get("max_actor_ckpt_to_keep")
        with open_dict(trainer):  # verl would remove the old one before the new one is whole
            trainer.remove_previous_ckpt_in_save = False
            trainer.max_actor_ckpt_to_keep = trainer.max_critic_ckpt_to_keep = None
        super().__init__(config)

    def _save_checkpoint(self):
        folder, keep = Path(self.config.trainer.default_local_dir, f"global_step_{self.global_steps}"), self._keep
        # A full disk is an OSError here, a RuntimeError of torch or TransferQueue there.
        try:
            manifest.prune(folder.parent, keep - 1 if keep and keep > 1 else keep)  # room for the new one
            manifest.begin(folder)
            super()._save_checkpoint()
        except (OSError, RuntimeError) as error:
            self._give_up(folder, error)
        else:
            self._unsealed = folder

    def _give_up(self, folder: Path, error: Exception) -> None:
        """Remove what was half saved, and go on or end as `sv6d.on_failed_save` says."""
        shutil.rmtree(folder, ignore_errors=True)
        self._unsealed, self._save_failed = None, True
        left = manifest.last_sealed(folder.parent)
        why = (str(error).strip() or type(error).__name__).splitlines()[-1]
        text = (
            f"{folder.name} could not be saved ({why}); what there was of it is removed; "
            f"{f'that of step {left} stays' if left else 'there is none before it'}"
        )
        if self._survival.on_failed_save == "stop":
            raise CheckpointNotSaved(text) from error
        logger.error("sv6d: %s; training goes on", text)

    def _seal(self) -> None:
        """The last save's checkpoint counts from now on, and what it replaces is removed."""
        folder, self._unsealed = self._unsealed, None
        if folder is None:
            return
        with marked_timer("seal_checkpoint", self.timing_raw):
            if getattr(self, "_recorder", None) is not None:
                self._recorder.flush()
            try:
                manifest.seal(folder, self._about)
            except OSError as error:
                self._give_up(folder, error)
            manifest.prune(folder.parent, self._keep)

    def on_step_begin(self):
        self._seal()
        super().on_step_begin()

    def fit(self, agent_loop_manager):
        super().fit(agent_loop_manager)
        self._seal()

    def _load_checkpoint(self):
        super()._load_checkpoint()
        folder = resumed_from(self)
        if folder is not None and self.trainer_mode != "sync":
            self._restored = forget_trained("train")

    def _compute_metrics(self, batch, metrics, timing_raw, global_steps, epoch):
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        metrics["sv6d/checkpoint_failed"] = float(self._save_failed)
        self._save_failed = False
        if self._restored is not None:
            metrics["sv6d/restored_groups"] = self._restored["finished"]
            metrics["sv6d/restarted_groups"] = self._restored["pending"] + self._restored["running"]
            self._restored = None


def forget_trained(partition: str) -> Counter:
    """Clear a restored TransferQueue of rollouts whose step was trained, which verl saves and would keep for good.

    Returns:
        The groups in flight, by status.
    """
    items = (tq.kv_list(partition) or {}).get(partition, {})
    groups = {key: tag["status"] for key, tag in items.items() if tag.get("is_prompt", False)}
    trained = [key for key, tag in items.items() if not tag.get("is_prompt", False) and key.split("_")[0] not in groups]
    if trained:
        tq.kv_clear(keys=trained, partition_id=partition)
    return Counter(groups.values())
