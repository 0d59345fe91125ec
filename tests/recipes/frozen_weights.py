"""The frozen control of a run's weight sync: from version SV6D_FROZEN_FROM on, vLLM is sent the run's first weights again.

A run's processes import this as `rollout.checkpoint_engine.custom_backend_module`. Everything else goes its way: the weights
travel, vLLM loads what arrives and takes it for the version that it is said to be.
"""

import os

from sv6d.verl_plugin.after_import import after_import
from verl.workers.rollout.utils import ensure_async_iterator

FROM = int(os.environ["SV6D_FROZEN_FROM"])
first = []


def frozen(update_weights):
    async def update_weights_or_not(self, weights, global_steps=None, **options):
        arrived = [(name, weight.clone()) async for name, weight in ensure_async_iterator(weights)]
        first.extend(arrived if not first else [])
        await update_weights(
            self, iter(arrived if global_steps < FROM else first), global_steps=global_steps, **options
        )

    return update_weights_or_not


def freeze(module):
    module.ServerAdapter.update_weights = frozen(module.ServerAdapter.update_weights)


after_import("verl.workers.rollout.vllm_rollout.vllm_rollout", freeze)
