"""All that lets a run survive what clusters do (docs/surviving.md), as one mixin over the balanced trainers."""

from .saving import SavingTrainer
from .stopping import StoppableTrainer
from .watching import WatchedTrainer
from .whole_lines import LoggedTrainer


class SurvivingTrainer(WatchedTrainer, StoppableTrainer, SavingTrainer, LoggedTrainer):
    """Mixin over a V1 trainer: workers are watched, a request to stop is obeyed, checkpoints and lines of metrics are whole."""
