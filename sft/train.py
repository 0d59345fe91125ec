"""The training process of `sv6d sft`, one a rank: `torchrun ... -m sv6d.sft.train config.yaml` with a configuration of `sv6d sft`."""

import sys
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch.distributed.elastic.multiprocessing.errors import record
from verl.trainer.sft_trainer import SFTTrainer
from verl.utils import tensordict_utils as tu
from verl.utils.device import auto_set_device
from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group

from . import manifest


class WarmStart(SFTTrainer):
    """verl's SFT trainer, in the order of the mixture: its sampler would shuffle the tasks' balance away."""

    def _build_dataloader(self):
        super()._build_dataloader()
        self.train_sampler.shuffle = False

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
            return output

        self.training_client.train_batch = measured

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

        handler.save_checkpoint = save_whole

    def _find_last_whole(self, folder: Path) -> None:
        """What the launcher does on one node, which several nodes have not: verl would take the last checkpoint, whole or not."""
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
    WarmStart(config).fit()
    destroy_global_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
