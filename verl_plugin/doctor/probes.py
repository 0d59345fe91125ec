"""Questions that only a fresh process can answer: `python -m sv6d.verl_plugin.doctor.probes verl|ray|vllm` prints one JSON line.

A probe says `loaded` (the entry point did it, not an import by hand), `problems`, and the state of its mends.
"""

import json
import sys

ENGINES_ELSEWHERE = ("megatron", "veomni", "torchtitan", "automodel", "mindspeed")
WEIGHTS_ELSEWHERE = ("nccl", "nixl", "mooncake", "kimi_ckpt_engine", "delta_sharded")
"""verl's engines, and checkpoint engines, that register themselves only where their packages are installed."""


def probe_verl() -> dict:
    """Whether `import verl` alone brings the plug-in, and what it registered."""
    import verl  # noqa: F401

    if "sv6d.verl_plugin.verl" not in sys.modules:
        return {
            "loaded": False,
            "problems": ["`import verl` did not load the entry point sv6d (VERL_USE_EXTERNAL_PLUGINS?)"],
        }
    from .. import mends
    from ..problems import PROBLEMS

    states = mends.settle("verl")
    from verl.checkpoint_engine import CheckpointEngineRegistry
    from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
    from verl.plugin.platform import get_platform
    from verl.trainer.ppo.v1 import get_trainer_cls
    from verl.workers.engine.base import EngineRegistry

    problems = list(PROBLEMS)
    questions = {
        "reward manager sv6d": lambda: get_reward_manager_cls("sv6d"),
        "trainer sv6d_colocate_async": lambda: get_trainer_cls("sv6d_colocate_async"),
        "checkpoint engine gloo": lambda: CheckpointEngineRegistry.get("gloo"),
        "engine fsdp2": lambda: EngineRegistry.get_engine_cls("language_model", "fsdp2"),
    }
    registered = {}
    for what, ask in questions.items():
        try:
            registered[what] = ask().__name__
        except Exception as error:
            problems.append(f"{what}: {type(error).__name__}: {error}")
    platform = get_platform().device_name
    return {
        "loaded": True,
        "problems": problems,
        "mends": states,
        "registered": registered,
        "platform": platform,
        "names": known_names(),
    }


def known_names() -> dict[str, list[str]]:
    """What verl has under the names that a configuration writes, by key; ours and those whose dependencies are missing included."""
    from verl.checkpoint_engine import CheckpointEngineRegistry
    from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY
    from verl.utils.tracking import Tracking
    from verl.workers.engine.base import EngineRegistry
    from verl.workers.rollout.replica import RolloutReplicaRegistry

    known = {
        "algorithm.adv_estimator": ADV_ESTIMATOR_REGISTRY,
        "actor_rollout_ref.actor.policy_loss.loss_mode": POLICY_LOSS_REGISTRY,
        "actor_rollout_ref.actor.strategy": [*EngineRegistry._engines["language_model"], *ENGINES_ELSEWHERE],
        "actor_rollout_ref.rollout.name": RolloutReplicaRegistry._registry,
        "actor_rollout_ref.rollout.checkpoint_engine.backend": {
            *CheckpointEngineRegistry._registry,
            *WEIGHTS_ELSEWHERE,
        },
        "reward.reward_manager.name": REWARD_MANAGER,
        "trainer.logger": Tracking.supported_backend,
    }
    return {key: sorted(map(str, names)) for key, names in known.items()}


def probe_ray() -> dict:
    """The same question inside a worker of a private one-core Ray."""
    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        return ray.get(ray.remote(probe_verl).remote())
    finally:
        ray.shutdown()


def probe_vllm() -> dict:
    """Whether vLLM's plug-in loading calls ours."""
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    if "sv6d.verl_plugin.vllm" not in sys.modules:
        return {"loaded": False, "problems": ["vLLM did not load the entry point sv6d (VLLM_PLUGINS?)"]}
    from .. import mends

    states = mends.settle("vllm")
    problems = [f"{name}: {state}" for name, state in states.items() if state.startswith(("failed", "not loaded"))]
    return {"loaded": True, "problems": problems, "mends": states}


PROBES = {"verl": probe_verl, "ray": probe_ray, "vllm": probe_vllm}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]]()))
