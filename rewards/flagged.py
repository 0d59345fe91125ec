"""A sample that could not be scored: it earns 0, is flagged `failed` and said once a kind; it never ends a step."""

import logging
from typing import Any

from .async_scorer import AsyncScorer
from .config import RewardConfigError
from .score import Score, failed_score

logger = logging.getLogger(__name__)


def flagged(error: Exception, task: Any, where: str = "") -> Score:
    """0, flagged; each kind of failure is logged once a process, as thousands of rollouts may share it."""
    kind = (str(task), type(error), str(error)[:80])
    if kind not in _logged and len(_logged) < MAX_LOGGED:
        _logged.add(kind)
        place = f" ({where})" if where else ""
        logger.warning("task %s%s: not scored, flagged failed: %s: %s", task, place, type(error).__name__, error)
    return failed_score()


def refuse_mask(scorer: AsyncScorer, mend: str) -> None:
    """Raises RewardConfigError where the judge's fallback is `mask`, which only sv6d's trainers can follow."""
    if scorer.judge is not None and scorer.judge.config.fallback == "mask":
        raise RewardConfigError(
            "reward config: judge.fallback = 'mask' is wrong: this trainer would count a masked sample as 0 and hold the "
            f"judge's fault against its group; {mend}, or judge.fallback=exact"
        )


_logged: set[tuple[str, type, str]] = set()
MAX_LOGGED = 1000
