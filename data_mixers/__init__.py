"""From annotations to the stream of training prompts: the interleaving schedule and the mixture of sources.

`rows` holds the row format, `verl_dataset` the dataset that follows the mixture inside verl.
"""

from .certificate import Certificate
from .cycle import Draw
from .exhaustion import Exhaustion
from .mixture import Location, Mixture, MixtureMismatch
from .plan import Plan, PlanCertificate, Segment
from .schedule import Schedule
from .weights import WeightError

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
