"""What a recipe adds to Table 3 (docs/beyond-table3.md): settings that could not work, and one that would do nothing."""

from collections.abc import Iterator

from omegaconf import OmegaConf

from ...verl_plugin.beyond.settings import read_filtering, read_settings
from ..cluster.pools import mode_of
from .asynchrony import has_balanced_buffer
from .finding import Finding, error, warning
from .subject import Subject


def settings(subject: Subject) -> Iterator[Finding]:
    """`sv6d.beyond` and `algorithm.filter_groups` are read as the trainer will read them."""
    try:
        read_settings(subject.config)
        if has_balanced_buffer(subject.config):
            read_filtering(subject.config, synchronous=mode_of(subject.config) == "sync")
    except ValueError as wrong:
        yield error(str(wrong))
    if _clips_higher(subject.config) and _ratio_is_one(subject.config):
        actor = "actor_rollout_ref.actor"
        yield warning(
            f"{actor}.clip_ratio_high={subject.config.actor_rollout_ref.actor.clip_ratio_high:g} changes nothing: a step is one "
            f"update on probabilities that the trainer itself computes, so every ratio is 1. Clips act in steps of several updates "
            f"({actor}.ppo_mini_batch_size, ppo_epochs), or on the rollouts' probabilities (algorithm.rollout_correction.bypass_mode)"
        )


def _clips_higher(config) -> bool:
    actor = config.actor_rollout_ref.actor
    return actor.clip_ratio_high is not None and actor.clip_ratio_high != actor.clip_ratio_low


def _ratio_is_one(config) -> bool:
    actor, bypass = config.actor_rollout_ref.actor, OmegaConf.select(config, "algorithm.rollout_correction.bypass_mode")
    one_update = actor.ppo_mini_batch_size >= config.data.train_batch_size and actor.ppo_epochs == 1
    return one_update and not bypass
