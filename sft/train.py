"""The training process of `sv6d sft`, one a rank: `torchrun ... -m sv6d.sft.train config.yaml` with a configuration of `sv6d sft`."""

import sys

from omegaconf import OmegaConf
from torch.distributed.elastic.multiprocessing.errors import record
from verl.trainer.sft_trainer import SFTTrainer
from verl.utils.device import auto_set_device
from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group


class WarmStart(SFTTrainer):
    """verl's SFT trainer, in the order of the mixture: its sampler would shuffle the tasks' balance away."""

    def _build_dataloader(self):
        super()._build_dataloader()
        self.train_sampler.shuffle = False


@record  # else torchrun's report hides the error under its own trace
def main(path: str) -> None:
    config = OmegaConf.load(path)
    auto_set_device(config)
    initialize_global_process_group()
    WarmStart(config).fit()
    destroy_global_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
