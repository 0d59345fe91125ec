"""verl's replay buffers, asked often enough for quick steps: verl polls every 2 seconds, which rounds each step up to
that.

    trainer.v1.sampler.custom_sampler.path=pkg://sv6d.verl_plugin.replay_buffer
    trainer.v1.sampler.custom_sampler.name=PromptReplayBuffer
    ++trainer.v1.sampler.sampler_kwargs.poll_interval=0.05
"""

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync

POLL_INTERVAL = 0.05  # seconds


def PromptReplayBuffer(trainer_mode, sampler_kwargs=None, **kwargs):
    """verl's buffer for `trainer_mode` ("sync" or an asynchronous one), polling every `sampler_kwargs.poll_interval`
    seconds (0.05 by default). verl hands a custom sampler none of its group filtering options, so there is none here."""
    buffer = ReplayBuffer if trainer_mode == "sync" else ReplayBufferAsync
    poll_interval = float((sampler_kwargs or {}).get("poll_interval", POLL_INTERVAL))
    return buffer(trainer_mode=trainer_mode, sampler_kwargs=sampler_kwargs, poll_interval=poll_interval, **kwargs)
