"""Stopping a run so that it can go on: a file asks for it, the trainer saves and leaves.

A cluster that takes its machines back sends SIGTERM; the training process answers it with the file
(`checkpoint_folder.stop_file`), and whoever may write there can ask by hand. A step that still waits for rollouts is given
up, with nothing trained of it; one that is past that is finished first.
"""

import logging
import time
from pathlib import Path

from ...data_mixers.torch_loader import PositionLoader
from ...sft import manifest
from ..replay_buffer import Balanced
from .checkpoint_folder import resumed_from, stop_file

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
DISPATCHED = "dispatched"
"""In a manifest: the prompts of the step after the checkpoint are among those in flight already."""


class Stop(Exception):
    """Leaves the training loop. `given_up`: in the middle of a step, which waits for rollouts."""

    def __init__(self, given_up: bool):
        super().__init__("asked to stop")
        self.given_up = given_up


class StoppableTrainer:
    """Mixin over `SavingTrainer`."""

    _dispatched = False
    _before_step = None
    _looked = 0.0

    def _build_replay_buffer(self):
        buffer = super()._build_replay_buffer()
        if isinstance(buffer, Balanced):
            buffer.while_waiting = self._look_up
        return buffer

    def _look_up(self, partition: str) -> None:
        """What the trainer does, once a second, while it waits for rollouts."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        self.look_after(partition)

    def look_after(self, partition: str) -> None:
        """
        Raises:
            Stop: the run is asked to stop.
        """
        if (
            partition == "train"
            and self.local_trigger_step == 0
            and self._can_undo()
            and stop_file(self.config).exists()
        ):
            raise Stop(given_up=True)

    def _can_undo(self) -> bool:
        """Whether the prompts of a step that is given up will be asked again."""
        return self.trainer_mode != "sync" or isinstance(self.train_dataloader, PositionLoader)

    def on_step_begin(self):
        super().on_step_begin()
        if stop_file(self.config).exists():
            raise Stop(given_up=False)
        if self.trainer_mode == "sync" and self._can_undo():
            self._before_step = self.train_dataloader.state_dict()

    def _add_batch_to_generate(self):
        if self._dispatched:  # before the run was stopped
            self._dispatched = False
            return
        super()._add_batch_to_generate()

    def fit(self, agent_loop_manager):
        try:
            super().fit(agent_loop_manager)
        except Stop as stop:
            self._leave(stop.given_up)

    def _leave(self, given_up: bool) -> None:
        """Save as of the last finished step."""
        self.global_steps -= 1
        folder = Path(self.config.trainer.default_local_dir)
        done, saved = self.global_steps, manifest.last_sealed(folder)
        if given_up:
            logger.warning("sv6d: asked to stop: step %d, which waits for rollouts, is given up", done + 1)
        if done and saved != done:
            self._rest()
            if given_up and self.trainer_mode == "sync":
                self.train_dataloader.load_state_dict(self._before_step)
            self._about = {DISPATCHED: given_up and self.trainer_mode != "sync"}
            self._save_checkpoint()
            self._seal()
            saved = manifest.last_sealed(folder)
        logger.warning("sv6d: stopped after step %d; the same command continues after step %d", done, saved)
        self._shutdown_dump_executor()

    def _rest(self) -> None:
        """Rollouts stop and give the memory that they share with the trainer back, as between sampling and training."""
        if self.trainer_mode != "separate_async":
            self.on_sample_end()
        elif self.current_mode.name == "ROLLOUT":
            self.switch_to_trainer()

    def _load_checkpoint(self):
        super()._load_checkpoint()
        folder = resumed_from(self)
        self._dispatched = folder is not None and bool(manifest.noted(folder).get(DISPATCHED))
