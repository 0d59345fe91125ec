"""From annotations to the stream of training prompts: the interleaving schedule and the mixture of sources.

`rows` holds the row format, `verl_dataset` the dataset that follows the mixture inside verl.
"""

from .mixture import Location, Mixture, MixtureMismatch
from .schedule import Draw, Schedule, WeightError

__all__ = ["Draw", "Location", "Mixture", "MixtureMismatch", "Schedule", "WeightError"]
