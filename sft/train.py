"""The training process of `sv6d sft`, one a rank: `torchrun ... -m sv6d.sft.train config.yaml` with a configuration of `sv6d sft`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch.distributed.elastic.multiprocessing.errors import record
from torch.utils.data import Dataset
from verl.trainer.sft_trainer import SFTTrainer
from verl.utils import tensordict_utils as tu
from verl.utils.device import auto_set_device, get_device_name
from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group

from ..data_mixers.torch_loader import PositionLoader
from . import manifest


class Stopped(Exception):
    """Leaves the training loop of a run that was asked to stop, its checkpoint sealed."""


class Share(Dataset):
    """A rank's part of a dataset that is indexed by position: of each step's rows every `ranks`-th one.

    Its state is the whole dataset's, so that it is the same on every rank.
    """

    def __init__(self, dataset, rank: int, ranks: int):
        self.dataset, self.rank, self.ranks = dataset, rank, ranks

    def __len__(self) -> int:
        return len(self.dataset) // self.ranks

    def __getitem__(self, position: int) -> dict[str, Any]:
        return self.dataset[position * self.ranks + self.rank]

    def state(self, position: int) -> dict[str, Any]:
        return self.dataset.state(position * self.ranks)

    def resume(self, state: Mapping[str, Any]) -> int:
        return self.dataset.resume(state) // self.ranks


class WarmStart(SFTTrainer):
    """verl's SFT trainer, in the order of the mixture: its sampler would shuffle the tasks' balance away."""

    _stopping = False

    def _build_dataloader(self):
        """A loader whose state is a position: torchdata's, which verl has, resumes with the same number of workers only."""
        super()._build_dataloader()
        rank, ranks = self.engine.get_data_parallel_rank(), self.engine.get_data_parallel_size()
        self.train_dataloader = PositionLoader(
            Share(self.train_dataset, rank, ranks),
            self.train_batch_size_per_dp,
            num_workers=self.config.data.num_workers,
            collate_fn=self.collate_fn,
        )

    def _build_engine(self):
        """What every rank measured alike (the components' rates) is logged as one number, not as a list of the ranks'."""
        super()._build_engine()
        train_batch = self.training_client.train_batch

        def measured(data):
            output = train_batch(data)
            if output is not None:
                metrics = tu.get(output, "metrics")
                rates = [key for key in metrics if key.endswith(("/lr", "/weight_decay"))]
                metrics.update({key: _first(metrics[key]) for key in rates})
            self._stopping = self._asked_to_stop()
            if self._stopping:
                self.save_freq = 1  # verl saves after this step
            return output

        self.training_client.train_batch = measured

    def _asked_to_stop(self) -> bool:
        """Whether there is the run's stop file: the first rank looks, lest ranks disagree."""
        found = self.rank == 0 and Path(self.config.trainer.default_local_dir, manifest.STOP).exists()
        told = torch.tensor([found], dtype=torch.int32, device=get_device_name())
        torch.distributed.broadcast(told, src=0)
        return bool(told.item())

    def _build_ckpt_handler(self):
        """Checkpoints count once they are sealed; verl's rotation, which forgets those of earlier attempts, is replaced."""
        super()._build_ckpt_handler()
        handler, folder = self.ckpt_handler, Path(self.config.trainer.default_local_dir)
        keep, handler.max_ckpt_to_keep = handler.max_ckpt_to_keep, None
        if self.config.trainer.nnodes > 1 and self.config.trainer.resume_mode == "auto":
            self._find_last_whole(folder)
        save = handler.save_checkpoint

        def save_whole(step):
            checkpoint = folder / f"global_step_{step}"
            if self.rank == 0:
                manifest.begin(checkpoint)
            torch.distributed.barrier()
            save(step)
            if self.rank == 0:
                manifest.seal(checkpoint)
                manifest.prune(folder, keep)
            if self._stopping:
                torch.distributed.barrier()  # no rank leaves, which would end the others, before the seal
                raise Stopped

        handler.save_checkpoint = save_whole

    def _find_last_whole(self, folder: Path) -> None:
        """What the launcher does where it starts the processes itself: verl would take the last checkpoint, whole or not."""
        if self.rank == 0:
            found = manifest.last_whole(folder)
            for sentence in found.rejected:
                print(f"{sentence}; the run continues from step {found.step}", flush=True)
            manifest.name_latest(folder, found.step)
        torch.distributed.barrier()


def _first(value):
    """The first number in lists of lists, one a rank and one a micro-batch."""
    return _first(value[0]) if isinstance(value, list) else value


@record  # else torchrun's report hides the error under its own trace
def main(path: str) -> None:
    config = OmegaConf.load(path)
    auto_set_device(config)
    initialize_global_process_group()
    try:
        WarmStart(config).fit()
    except Stopped:  # status 0, whatever torchrun and srun would make of another; the launcher knows that it asked
        print("asked to stop: saved", flush=True)
    destroy_global_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
