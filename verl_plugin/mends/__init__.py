"""The mends: one module a bug of verl or vLLM, all in one table. `sv6d doctor` prints it.

A mend waits until the module that it changes is imported, then asks `needed()` and applies itself. `needed()` is one question
everywhere: does the installed module still have the bug, and does this device meet it? It tries the bug on the module, with a
toy of its input, in a few milliseconds; where that would take a run, it reads the source. No version numbers: a build from
source, or a mend that upstream brought back to an older release, decides for itself.

`SV6D_MENDS_OFF=video_prompt,...` switches mends off by name. A mend that fails is logged as an error and remembered: our
trainers refuse to start (`require`), a vLLM process ends. docs/upstream has the reports.
"""

import logging
import os
from importlib import import_module
from typing import NamedTuple

from ..after_import import after_import

logger = logging.getLogger(__name__)


class Mend(NamedTuple):
    """One bug and its mend; `name` is also its module here, with `needed(target) -> bool` and `apply(target)`."""

    name: str
    what: str
    where: str  # the process that it is for: "verl" or "vllm"
    target: str  # the module that it changes


MENDS = (
    Mend("video_prompt", "Qwen3-VL clips reach vLLM as one placeholder", "verl", "verl.workers.rollout.utils"),
    Mend("vision_tower_once", "one vision tower call a micro-batch", "verl", "verl.models.transformers.qwen3_vl"),
    Mend("equal_length_positions", "batches of equally long samples", "verl", "verl.utils.tensordict_utils"),
    Mend("trl_value_head", "engines beside TRL 1.x", "verl", "verl.models.transformers.monkey_patch"),
    Mend("separate_logger", "a log line of separate_async", "verl", "verl.trainer.ppo.v1.trainer_separate_async"),
    Mend("weight_socket", "two runs on one machine", "verl", "verl.workers.rollout"),
    Mend("gdpo_components", "GDPO in V1 trainers", "verl", "verl.trainer.ppo.v1.trainer_base"),
    Mend("gloo_process_group", "process groups on a CPU", "verl", "verl.utils.distributed"),
    Mend("unpinned_offload", "reference policy on a CPU", "verl", "verl.workers.engine.fsdp.transformer_impl"),
    Mend("vllm_cpu_weights", "weight sync into vLLM's CPU build", "vllm", "vllm.model_executor.layers.utils"),
)

_states: dict[str, str] = {}


def state(name: str) -> str:
    """`waiting` (its target is not imported yet), `applied`, `not needed`, `switched off`, `failed: ...`, `not loaded`."""
    return _states.get(name, "not loaded")


def switched_off() -> set[str]:
    """The names in SV6D_MENDS_OFF.

    Raises:
        ValueError: a name that is no mend.
    """
    names = {name.strip() for name in os.environ.get("SV6D_MENDS_OFF", "").split(",") if name.strip()}
    if unknown := names - {mend.name for mend in MENDS}:
        raise ValueError(
            f"SV6D_MENDS_OFF names {sorted(unknown)}, which are no mends; known: {[mend.name for mend in MENDS]}"
        )
    return names


def _run(mend: Mend, target) -> None:
    try:
        code = import_module(f"{__name__}.{mend.name}")
        if not code.needed(target):
            _states[mend.name] = "not needed"
            return
        code.apply(target)
        _states[mend.name] = "applied"
    except Exception as error:
        _states[mend.name] = f"failed: {type(error).__name__}: {error}"
        logger.exception("sv6d: the mend %s of %s failed; sv6d's trainers will not start", mend.name, mend.target)
        if mend.where == "vllm":  # no trainer of ours runs there to refuse
            raise


def install(where: str) -> None:
    """Arrange for every mend of `where` ("verl" or "vllm") to apply itself when its target is imported."""
    off = switched_off()
    for mend in MENDS:
        if mend.where != where or mend.name in _states:
            continue
        if mend.name in off:
            _states[mend.name] = "switched off"
            logger.warning("sv6d: the mend %s is switched off by SV6D_MENDS_OFF", mend.name)
            continue
        _states[mend.name] = "waiting"
        after_import(mend.target, lambda target, mend=mend: _run(mend, target))


def settle(where: str) -> dict[str, str]:
    """Import every waiting target of `where`, and return each mend's state."""
    for mend in MENDS:
        if mend.where == where and state(mend.name) == "waiting":
            import_module(mend.target)
    return {mend.name: state(mend.name) for mend in MENDS if mend.where == where}


def require(where: str) -> None:
    """Raise unless every mend of `where` is applied, not needed or switched off.

    Raises:
        RuntimeError: names each mend that failed, and why.
    """
    broken = {name: text for name, text in settle(where).items() if text.startswith(("failed", "not loaded"))}
    if broken:
        lines = "; ".join(f"{name} ({text})" for name, text in broken.items())
        raise RuntimeError(
            f"sv6d cannot train: these mends are not in place: {lines}. `sv6d doctor` says what is installed; "
            "SV6D_MENDS_OFF=<name> trains without one at your own risk."
        )
