"""Who says whether a final answer is right: rules, or a model behind an endpoint and all that can go wrong there."""

from .config import JudgeConfig
from .endpoint import EndpointJudge
from .health import JudgeStopped
from .rules import rule_judge

__all__ = ["EndpointJudge", "JudgeConfig", "JudgeStopped", "rule_judge"]
