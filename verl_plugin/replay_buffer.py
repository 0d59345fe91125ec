"""Which finished groups train: the oldest dispatched, in the order of the mixture, asked for every 50 ms.

verl takes whichever groups are finished first, so short answers train early and a step can miss a task (5.2.4 wants every
task family in every step); and it looks every 2 seconds, which rounds each step up to that.

    trainer.v1.sampler.custom_sampler.path=pkg://sv6d.verl_plugin.replay_buffer
    trainer.v1.sampler.custom_sampler.name=OrderedReplayBuffer
    ++trainer.v1.sampler.sampler_kwargs.poll_interval=0.05
"""

from itertools import islice

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync

POLL_INTERVAL = 0.05  # seconds


def OrderedReplayBuffer(trainer_mode, sampler_kwargs=None, **kwargs):
    """The buffer for `trainer_mode`: verl's own for "sync", whose batch is what was dispatched; else `InOrder`. Both poll
    every `sampler_kwargs.poll_interval` seconds (0.05 by default). verl hands a custom sampler none of its group filtering
    options, so there is none here."""
    buffer = ReplayBuffer if trainer_mode == "sync" else InOrder
    poll_interval = float((sampler_kwargs or {}).get("poll_interval", POLL_INTERVAL))
    return buffer(trainer_mode=trainer_mode, sampler_kwargs=sampler_kwargs, poll_interval=poll_interval, **kwargs)


class InOrder(ReplayBufferAsync):
    """Trains groups in the order in which their prompts were dispatched, and waits for one that is not finished.

    Waiting costs little where rollouts run ahead: those behind the straggler go on meanwhile. A group that fails or grows
    stale is evicted and replaced as in verl; its replacement is dispatched last.
    """

    def _has_enough_samples(self, global_steps, partition_id, batch_size, sampleable_keys):
        if not super()._has_enough_samples(global_steps, partition_id, batch_size, sampleable_keys):
            return False
        return partition_id == "val" or sampleable_keys.issuperset(self._oldest(partition_id, batch_size))

    def _select_prompt_uids(self, partition_id, sampleable_keys, batch_size):
        selected, partition, steps = super()._select_prompt_uids(partition_id, sampleable_keys, batch_size)
        return selected if partition_id == "val" else self._oldest(partition_id, batch_size), partition, steps

    def _oldest(self, partition_id, count) -> list[str]:
        """TransferQueue lists prompts in the order in which they were first put."""
        return list(islice(self.prompt_global_steps[partition_id], count))
