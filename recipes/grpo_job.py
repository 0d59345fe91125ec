"""The training process of `sv6d grpo`: hands a resolved configuration to verl. `python -m sv6d.recipes.grpo_job config.yaml`"""

import sys

from omegaconf import OmegaConf


def main(path: str) -> None:
    from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config
    from verl.utils.device import auto_set_device

    config = OmegaConf.load(path)
    auto_set_device(config)
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    run_ppo(config, task_runner_class=TaskRunnerV1)


if __name__ == "__main__":
    main(sys.argv[1])
