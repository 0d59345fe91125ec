"""From annotations to the stream of training prompts: the interleaving schedule and the mixture of sources.

`rows` holds the row format, `verl_dataset` the dataset that follows the mixture inside verl.
"""

from .exhaustion import Exhaustion
from .mixture import Location, Mixture, MixtureMismatch
from .schedules.certificate import Certificate
from .schedules.cycle import Draw
from .schedules.plan import Plan, PlanCertificate, Segment
from .schedules.schedule import Schedule
from .schedules.weights import WeightError

__all__ = [
    "Certificate",
    "Draw",
    "Exhaustion",
    "Location",
    "Mixture",
    "MixtureMismatch",
    "Plan",
    "PlanCertificate",
    "Schedule",
    "Segment",
    "WeightError",
]
