"""The training process of `sv6d grpo`: hands a resolved configuration to verl. `python -m sv6d.recipes.running.grpo_job config.yaml`

On SIGTERM it asks the trainer to stop, which saves and ends (`verl_plugin/surviving/stopping.py`); the exit status then is
`restarts.PREEMPTED`.
"""

import signal
import sys
from pathlib import Path

from omegaconf import OmegaConf

from ...verl_plugin.surviving.checkpoint_folder import stop_file
from .restarts import PREEMPTED


class StoppableRunner:
    """verl's task runner for `run_ppo`, which starts it once Ray is up and has put a handler of its own on SIGTERM: the last
    word on that signal is the stop file's.

    Args:
        stop: the file that asks the trainer to stop.
    """

    def __init__(self, stop: Path):
        self.stop = stop

    def remote(self):
        from verl.trainer.main_ppo import TaskRunnerV1

        signal.signal(signal.SIGTERM, lambda *_: self.stop.touch())
        return TaskRunnerV1.remote()


def main(path: str) -> None:
    from verl.trainer.main_ppo import run_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config
    from verl.utils.device import auto_set_device

    config = OmegaConf.load(path)
    stop = stop_file(config)
    stop.parent.mkdir(parents=True, exist_ok=True)
    auto_set_device(config)
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    run_ppo(config, task_runner_class=StoppableRunner(stop))
    if stop.exists():
        sys.exit(PREEMPTED)


if __name__ == "__main__":
    main(sys.argv[1])
