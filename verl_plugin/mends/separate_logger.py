"""verl 0.9.1, `trainer/ppo/v1/trainer_separate_async.py:181`, any device: `logger.info(..., flush=True)` raises
`TypeError: Logger._log() got an unexpected keyword argument 'flush'` with `hybrid_engine=False`.

The mend drops the keyword on that module's logger; nothing else changes.
"""

import inspect
import logging


class _WithoutFlush(logging.LoggerAdapter):
    def process(self, msg, kwargs):
        kwargs.pop("flush", None)
        return msg, kwargs


def needed(trainer_separate_async) -> bool:
    """Not once the keyword is gone (the line runs only in the middle of a trainer's start, so its source is read)."""
    return "flush=True" in inspect.getsource(trainer_separate_async)


def apply(trainer_separate_async) -> None:
    if not isinstance(trainer_separate_async.logger, _WithoutFlush):
        trainer_separate_async.logger = _WithoutFlush(trainer_separate_async.logger, {})
