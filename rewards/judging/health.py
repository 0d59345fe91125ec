"""How often the judge fails: counted, logged, and the end of a run where it is too often to train on."""

import logging
from collections import deque
from typing import NamedTuple

from .config import JudgeConfig

logger = logging.getLogger(__name__)


class JudgeStopped(RuntimeError):
    """The judge failed too often: the message says how often, what failed last, and what to do."""


class Counts(NamedTuple):
    """What a judge was asked since it was made."""

    asked: int
    failed: int
    stopped: str | None
    """Why the run has to stop, or None."""


class JudgeHealth:
    """Counts verdicts and failures; above `max_failure_rate` it stays stopped."""

    def __init__(self, config: JudgeConfig):
        self._config = config
        self._recent: deque[bool] = deque(maxlen=config.window)
        self.counts = Counts(0, 0, None)

    def record(self, fault: str | None) -> None:
        """One verdict, or why there is none. Failures 1, 2, 4, 8 ... are logged.

        Raises:
            JudgeStopped: see `require`.
        """
        self._recent.append(fault is not None)
        asked, failed, stopped = self.counts
        failed += fault is not None
        if fault is not None:
            if failed & (failed - 1) == 0:
                logger.warning("the judge failed %d of %d times, last: %s", failed, asked + 1, fault)
            stopped = stopped or self._why_stop(fault)
        self.counts = Counts(asked + 1, failed, stopped)
        self.require()

    def require(self) -> None:
        """Raises JudgeStopped where the judge failed too often."""
        if self.counts.stopped:
            raise JudgeStopped(self.counts.stopped)

    def _why_stop(self, fault: str) -> str | None:
        config, failures = self._config, sum(self._recent)
        rate = failures / len(self._recent)
        if failures < config.min_failures or rate <= config.max_failure_rate:
            return None
        return (
            f"the judge failed {failures} of the last {len(self._recent)} times ({rate:.0%}, allowed are "
            f"{config.max_failure_rate:.0%}), last: {fault}. Endpoint {config.url}, model {config.model}. See whether it is "
            "up, serves that model, and how long it takes; then lower judge.concurrency, raise judge.request_seconds, "
            "judge.total_seconds or judge.attempts; or accept more failures with judge.max_failure_rate"
        )
