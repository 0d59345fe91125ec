"""verl's three V1 trainers with what each of our mixins adds: `trainer.v1.trainer_mode=sv6d_sync | sv6d_colocate_async |
sv6d_separate_async`."""

from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_colocate_async import PPOTrainerColocateAsync
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from .balance import BalancedTrainer
from .beyond.shaping import ShapingTrainer
from .judging import JudgedTrainer
from .kl import KLTrainer
from .recording.trainer import RecordingTrainer
from .surviving.trainer import SurvivingTrainer


class Extended(RecordingTrainer, SurvivingTrainer, BalancedTrainer, JudgedTrainer, ShapingTrainer, KLTrainer):
    """All that we add, to go before a trainer of verl; where two change the same method, the first calls the second."""


@register_trainer("sv6d_sync")
class SyncTrainer(Extended, PPOTrainerSync):
    base_mode = "sync"


@register_trainer("sv6d_colocate_async")
class ColocateAsyncTrainer(Extended, PPOTrainerColocateAsync):
    base_mode = "colocate_async"


@register_trainer("sv6d_separate_async")
class SeparateAsyncTrainer(Extended, PPOTrainerSeparateAsync):
    base_mode = "separate_async"
