"""Parameter groups by component, vision encoder, merger and language model, each with rates of its own (report, section 5.1.2).

    optim.override_optimizer_config={lr_groups: {vision: 2e-6, merger: {lr: 1e-4, weight_decay: 0, schedule: constant}}}

A component takes from `optim` what its entry leaves open. `language` may have an entry, too.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

# First match wins; parameter names of Hugging Face's Qwen2-VL to Qwen3-VL.
COMPONENTS = {
    "merger": re.compile(r"(^|\.)visual\.(merger|deepstack_merger_list)\."),
    "vision": re.compile(r"(^|\.)visual\."),
    "language": re.compile(r""),
}
ORDER = ("language", "merger", "vision")
"""The first group's rate is the one that verl logs."""
SCHEDULES = ("constant", "cosine")
"""verl's."""
FLAT = "_flat_param"
"""How the name ends of a parameter that FSDP (the first) makes of a module's, without `use_orig_params`."""
SETTING = "optim.override_optimizer_config.lr_groups"


class Rates(NamedTuple):
    """What one component is trained with; None: what `optim` says."""

    lr: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    """`constant` or `cosine`, each after the warm-up."""
    warmup_steps: int | None = None
    min_lr_ratio: float | None = None
    """Where a cosine ends, as a share of `lr`."""


def component(name: str) -> str:
    """The component (`vision`, `merger` or `language`) of a parameter, by its name."""
    return next(key for key, pattern in COMPONENTS.items() if pattern.search(name))


def read_rates(settings: Mapping[str, Any] | None) -> dict[str, Rates]:
    """Rates by component, from `lr_groups`: a number is a learning rate, a mapping has the fields of `Rates`.

    Raises:
        ValueError: an unknown component or field, or a value that cannot be; with the setting's name.
    """
    found = {}
    for name, told in (settings or {}).items():
        if name not in COMPONENTS:
            raise ValueError(f"{SETTING} names {name!r}; the components are {', '.join(ORDER)}")
        fields = dict(told) if isinstance(told, Mapping) else {"lr": told}
        if unknown := sorted(fields.keys() - set(Rates._fields)):
            raise ValueError(f"{SETTING}.{name} names {unknown}; it may have {', '.join(Rates._fields)}")
        rates = Rates(**fields)
        if rates.schedule not in (None, *SCHEDULES):
            raise ValueError(f"{SETTING}.{name}.schedule={rates.schedule!r}; there are {' and '.join(SCHEDULES)}")
        for field in ("lr", "weight_decay", "warmup_steps", "min_lr_ratio"):
            value = getattr(rates, field)
            if value is not None and not (isinstance(value, int | float) and 0 <= value < math.inf):
                raise ValueError(
                    f"{SETTING}.{name}.{field}={value!r}; give a number from 0 up (write 1.0e-6, not 1e-6)"
                )
        found[name] = rates
    return found


def parameter_groups(named_parameters: Iterable, rates: Mapping[str, Rates], lr: float) -> list[dict]:
    """Optimizer groups `{"params": [(name, parameter), ...], "lr", "component"}`, and "weight_decay" where given; language first.

    Args:
        named_parameters: (name, parameter) pairs; frozen ones are left out.
        lr: learning rate of the components that `rates` gives none.

    Raises:
        ValueError: a component with rates that has no trainable parameter in this model, or parameters that have lost their names.
    """
    members: dict[str, list] = {key: [] for key in ORDER}
    for name, parameter in named_parameters:
        if rates and name.endswith(FLAT):
            raise ValueError(
                f"{SETTING} gives rates to {[*rates]}, and FSDP has laid all components into one parameter ({name}): set "
                "engine.use_orig_params=true (GRPO: actor_rollout_ref.actor.fsdp_config.use_orig_params=true), or strategy=fsdp2"
            )
        if parameter.requires_grad:
            members[component(name)].append((name, parameter))
    if empty := [key for key in rates if not members[key]]:
        raise ValueError(
            f"{SETTING} gives rates to {empty}, but no trainable parameter of this "
            "model belongs to it; remove it, or check the model and what is frozen"
        )
    groups = []
    for key, found in members.items():
        own = rates.get(key, Rates())
        decay = {} if own.weight_decay is None else {"weight_decay": float(own.weight_decay)}
        group = {"params": found, "lr": float(lr if own.lr is None else own.lr), "component": key, **decay}
        groups += [group] if found else []
    return groups


def schedule_settings(rates: Rates) -> dict[str, Any]:
    """The fields of verl's optimizer config that a component's schedule differs in."""
    told = {"lr_scheduler_type": rates.schedule, "min_lr_ratio": rates.min_lr_ratio}
    if rates.warmup_steps is not None:
        told |= {"lr_warmup_steps": rates.warmup_steps, "lr_warmup_steps_ratio": 0.0}
    return {name: value for name, value in told.items() if value is not None}
