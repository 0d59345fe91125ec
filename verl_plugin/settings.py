"""Reading a block of `sv6d` settings: a key that nobody knows is refused with the nearest that there is, a number out of its range
with the mend."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from omegaconf import OmegaConf

from ..schema.names import near_names


def read_block(config, where: str, known: Collection[str]) -> dict[str, Any]:
    """What a run's whole config sets in the block `where`; empty where it has none.

    Raises:
        ValueError: it is no block, or has a key that is not `known`.
    """
    given = OmegaConf.select(config, where)
    given = OmegaConf.to_container(given, resolve=True) if OmegaConf.is_config(given) else given
    given = {} if given is None else given
    refuse_unknown(where, given, known)
    return given


def refuse_unknown(where: str, given: Any, known: Collection[str]) -> None:
    """
    Raises:
        ValueError: `given` is no block, or has a key that is not `known`.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} is {given!r}; it is a block of {', '.join(known)}")
    for key in given:
        if key not in known:
            raise ValueError(f"{where}.{key} is unknown; {near_names(str(key), list(known))}")


def require(name: str, value: Any, holds: Callable[[float], bool], must: str) -> None:
    """
    Raises:
        ValueError: `value` is no number, or not one that `holds`; `must` is what to set it to.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not (number and holds(value)):
        raise ValueError(f"{name} is {value!r}; set it to {must}")
