"""verl's three V1 trainers with what each of our mixins adds: `trainer.v1.trainer_mode=sv6d_sync | sv6d_colocate_async |
sv6d_separate_async`."""

from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_colocate_async import PPOTrainerColocateAsync
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from .balance import BalancedTrainer
from .judging import JudgedTrainer
from .recording import RecordingTrainer
from .shaping import ShapingTrainer


@register_trainer("sv6d_sync")
class SyncTrainer(RecordingTrainer, BalancedTrainer, JudgedTrainer, ShapingTrainer, PPOTrainerSync):
    base_mode = "sync"


@register_trainer("sv6d_colocate_async")
class ColocateAsyncTrainer(RecordingTrainer, BalancedTrainer, JudgedTrainer, ShapingTrainer, PPOTrainerColocateAsync):
    base_mode = "colocate_async"


@register_trainer("sv6d_separate_async")
class SeparateAsyncTrainer(RecordingTrainer, BalancedTrainer, JudgedTrainer, ShapingTrainer, PPOTrainerSeparateAsync):
    base_mode = "separate_async"
