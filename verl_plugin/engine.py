"""verl's FSDP engine with learning rates by component: vision encoder, merger, language model (report, section 5.1).

    optim.lr=1e-5  optim.override_optimizer_config={lr_groups: {vision: 2e-6, merger: 1e-4}}

A component without a rate of its own has `optim.lr`. Registered for (device, vendor) pairs, which verl looks up before
the plain device: `strategy=fsdp|fsdp2` picks this engine in SFT and RL alike, with no new strategy name.
"""

import logging
import re
from dataclasses import replace

import verl.workers.engine.fsdp.transformer_impl as impl
from verl.workers.config.optimizer import build_optimizer
from verl.workers.engine.base import EngineRegistry

from .saving_together import SavesTogether

logger = logging.getLogger(__name__)

# First match wins; parameter names of Hugging Face's Qwen2-VL to Qwen3-VL.
COMPONENTS = {
    "merger": re.compile(r"(^|\.)visual\.(merger|deepstack_merger_list)\."),
    "vision": re.compile(r"(^|\.)visual\."),
    "language": re.compile(r""),
}


def component(name: str) -> str:
    """The component (`vision`, `merger` or `language`) of a parameter, by its name."""
    return next(key for key, pattern in COMPONENTS.items() if pattern.search(name))


def parameter_groups(named_parameters, rates: dict[str, float], default: float) -> list[dict]:
    """Optimizer groups `{"params": [(name, parameter), ...], "lr": float, "component": str}`, language first.

    Args:
        named_parameters: (name, parameter) pairs; frozen ones are left out.
        rates: learning rate by component.
        default: learning rate of the components that `rates` does not name.

    Raises:
        ValueError: a component that does not exist, or that has no trainable parameter in this model.
    """
    if unknown := sorted(set(rates) - set(COMPONENTS)):
        raise ValueError(
            f"optim.override_optimizer_config.lr_groups names {unknown}; the components are {sorted(COMPONENTS)}"
        )
    members: dict[str, list] = {"language": [], "merger": [], "vision": []}  # verl logs the first group's rate
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            members[component(name)].append((name, parameter))
    if empty := [key for key in rates if not members[key]]:
        raise ValueError(
            f"optim.override_optimizer_config.lr_groups gives a rate to {empty}, but no trainable parameter of this "
            "model belongs to it; remove it, or check the model and what is frozen"
        )
    return [
        {"params": found, "lr": float(rates.get(key, default)), "component": key}
        for key, found in members.items()
        if found
    ]


@EngineRegistry.register("language_model", ["fsdp", "fsdp2"], device="cuda", vendor=["nvidia", "amd"])
@EngineRegistry.register("language_model", ["fsdp", "fsdp2"], device="cpu", vendor="cpu")
class ComponentFSDPEngine(SavesTogether, impl.FSDPEngineWithLMHead):
    """verl's FSDP engine; only the optimizer's groups differ, and what happens where a rank cannot save."""

    def _build_optimizer(self, module):
        config = self.optimizer_config
        override = dict(config.override_optimizer_config or {})
        rates = dict(override.pop("lr_groups", None) or {})
        groups = parameter_groups(module.named_parameters(), rates, config.lr)
        for group in groups:
            if self.rank == 0:
                print(
                    f"sv6d: learning rate {group['lr']:g} for {group['component']}: {len(group['params'])} tensors, "
                    f"{group['params'][0][0]} ... {group['params'][-1][0]}",
                    flush=True,
                )
            group["params"] = [parameter for _, parameter in group["params"]]
        return build_optimizer(groups, replace(config, override_optimizer_config=override or None))
