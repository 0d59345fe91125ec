"""The rewards of Table 4, from the SV6D objective (eq. 5-10): one module a family, one call for all of them."""

from .config import RewardConfig, RewardConfigError
from .families import COMPONENTS, Family, PluginError
from .score import Score, score

__all__ = ["COMPONENTS", "Family", "PluginError", "RewardConfig", "RewardConfigError", "Score", "score"]
