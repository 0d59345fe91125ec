"""verl 0.9.1, `trainer/ppo/v1/trainer_base.py:1743` (`_compute_advantage`), any device: GDPO cannot run in a V1 trainer.

The estimator normalises reward components and asks the batch for them, for prompts and for the attention mask; V1 fetches
none of these (`GDPO reward key '...' not found in non_tensor_batch`), while they lie in TransferQueue.
The mend fetches the components. Prompts of length 0 are enough: the estimator only counts them off the attention mask.
"""

import inspect

import numpy as np

from ..after_import import replace
from ..reward_components import reward_components


def needed(trainer_base) -> bool:
    """Not once V1 hands reward components over (which needs a whole step to try, so its source is read)."""
    return "extra_fields" not in inspect.getsource(trainer_base.PPOTrainer._compute_advantage)


def apply(trainer_base) -> None:
    def make(original):
        def compute_advantage_for_multi_trajectories(data, batch_keys, *, adv_estimator, config=None, **options):
            if adv_estimator == "gdpo":
                _add_components(data, batch_keys, config.get("gdpo_reward_keys") or ())
            return original(data, batch_keys=batch_keys, adv_estimator=adv_estimator, config=config, **options)

        return compute_advantage_for_multi_trajectories

    replace(trainer_base, "compute_advantage_for_multi_trajectories", make)


def _add_components(data, batch_keys, names) -> None:
    components = reward_components(batch_keys, partition_id="train")
    for name in names:
        if all(name in row for row in components):
            data.non_tensor_batch[name] = np.array([row[name] for row in components], dtype=np.float32)
    mask = data.batch["response_mask"]
    data.batch["prompts"] = mask[:, :0]
    data.batch["attention_mask"] = mask.long()
