"""A judge that verl's trainer serves itself (`reward.reward_model`): what the run's configuration has to say for it."""

from omegaconf import DictConfig, OmegaConf

from ..config import RewardConfigError


def require_that_verl_asks(config: DictConfig) -> None:
    """Where verl serves a reward model, it asks the reward manager only under two conditions.

    Raises:
        RewardConfigError: naming the one that is not met.
    """
    model = OmegaConf.select(config, "reward.reward_model")
    if not model or not model.get("enable"):
        return
    if not OmegaConf.select(config, "reward.custom_reward_function.path"):
        raise RewardConfigError(
            "reward.reward_model.enable: verl takes such a model for a classifier and asks no reward manager; let it know "
            "that there is a function: reward.custom_reward_function.path=pkg://sv6d.rewards.verl_manager"
        )
    if not model.get("enable_resource_pool"):
        raise RewardConfigError(
            "reward.reward_model.enable_resource_pool = False: verl then hands over no task and no ground truth; set it to "
            "True, with n_gpus_per_node and nnodes of its own"
        )
