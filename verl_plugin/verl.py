"""verl's entry point (`verl.plugins`): importing this module registers everything. It runs at the end of `import verl`
in every process, so whatever needs verl's heavy modules waits until they are imported.

verl swallows a plug-in's exception at DEBUG level; here it is logged as an error and kept in `problems.PROBLEMS`, which
the doctor prints and for which our trainers refuse to start.
"""

import logging

import verl  # noqa: F401  (imported first by someone else, it loads this module itself)

from . import mends
from .after_import import after_import
from .problems import PROBLEMS

logger = logging.getLogger(__name__)


def _attempt(what, action):
    try:
        action()
    except Exception as error:
        PROBLEMS.append(f"{what}: {type(error).__name__}: {error}")
        logger.exception("sv6d could not register the %s; sv6d's trainers will not start", what)


def _register_platform():
    from . import platform

    platform.register()


def _register_engine(_):
    from .engines import fsdp  # noqa: F401


def _register_reward_manager(_):
    from ..rewards import verl_manager  # noqa: F401


def _register_agent_loop(_):
    from .rollouts import constrained  # noqa: F401


def _register_checkpoint_engine(_):
    from . import gloo_weights  # noqa: F401


def _register_trainers(_):
    from . import trainers  # noqa: F401


def _when_imported(target, what, action):
    after_import(target, lambda module: _attempt(what, lambda: action(module)))


_attempt("CPU platform", _register_platform)
_attempt("mends", lambda: mends.install("verl"))
_when_imported("verl.workers.engine.fsdp.transformer_impl", "engine", _register_engine)
_when_imported("verl.experimental.reward_loop.reward_manager", "reward manager", _register_reward_manager)
_when_imported("verl.checkpoint_engine", "checkpoint engine", _register_checkpoint_engine)
_when_imported("verl.experimental.agent_loop", "agent loop", _register_agent_loop)
_when_imported("verl.trainer.ppo.v1", "trainers", _register_trainers)
