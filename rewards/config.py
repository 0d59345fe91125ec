"""Every number of the rewards in one validated place (Table 4, eq. 5-10); the defaults are the report's."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from math import fsum
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from ..schema.names import near_names

MAX_SETTING = 1e9
"""Of beta and the dimension weights: beyond it sums could overflow, and infinity times 0 is no penalty."""

Mode = Literal["table4", "table4_matched", "literal"]


class RewardConfigError(ValueError):
    """A reward setting is unknown or out of range; the message names it, its value and the mend."""


@dataclass(frozen=True)
class GroundingWeights:
    """Table 4, temporal grounding: 0.2 Format + 0.4 IoU + 0.4 Label. They sum to 1."""

    format: float = 0.2
    iou: float = 0.4
    label: float = 0.4


@dataclass(frozen=True)
class LocalizationWeights:
    """Table 4, temporal action localization: 0.2 Format + 0.8 IoU. They sum to 1."""

    format: float = 0.2
    iou: float = 0.8


@dataclass(frozen=True)
class ReasoningWeights:
    """Table 4, chain of thought: 0.3 Format + 0.7 Judge. They sum to 1."""

    format: float = 0.3
    judge: float = 0.7


@dataclass(frozen=True)
class Lambdas:
    """The coefficients of eq. 10 (not printed in the report; equal shares are our reading). They sum to 1."""

    prof: float = 1 / 3
    comp: float = 1 / 3
    form: float = 1 / 3


@dataclass(frozen=True)
class RewardConfig:
    """All settings of the rewards."""

    mode: Mode = "table4"
    """How the three terms become a reward.
    `table4`: the weights of Table 4; IoU and Label are sums over matched pairs / max(N_pred, N_true).
    `table4_matched`: the weights of Table 4; IoU and Label are 1 - eq. 8 and 1 - eq. 9 as printed (means over matched
    pairs, cardinality penalty `beta`), which pays a correct answer to one shot of ten 0.82 and more.
    `literal`: r = 1 - (L_align + L_struct + L_reg) of eq. 5 as printed, unweighted, cut off at 0."""
    alpha: float = 0.5
    """Eq. 6: share of IoU in the matching cost of grounding, 0 to 1; at 0.5 the matching maximises the reward itself.
    Localization has no labels and always matches by IoU alone."""
    beta: float = 0.5
    """Eq. 8: penalty for |N_pred - N_true| / max, 0 or more; read in the two modes that follow eq. 8."""
    overlap_gate: bool = False
    """Count a label only where its pair overlaps in time (IoU > 0)."""
    dimension_weights: Mapping[str, float] = field(default_factory=dict)
    """Eq. 9: w_k by dimension name, above 0; dimensions not named weigh 1. Renormalised over the dimensions that a true
    segment has."""
    lambdas: Lambdas = Lambdas()
    grounding: GroundingWeights = GroundingWeights()
    localization: LocalizationWeights = LocalizationWeights()
    chain_of_thought: ReasoningWeights = ReasoningWeights()

    def __post_init__(self):
        if self.mode not in get_args(Mode):
            _fail("mode", self.mode, near_names(self.mode, get_args(Mode)))
        _require_range("alpha", self.alpha, 0.0, 1.0)
        _require_range("beta", self.beta, 0.0, MAX_SETTING)
        if not isinstance(self.overlap_gate, bool):
            _fail("overlap_gate", self.overlap_gate, "use true or false")
        for name, weight in self.dimension_weights.items():
            if not _is_number(weight) or not 0.0 < weight <= MAX_SETTING:
                _fail(f"dimension_weights.{name}", weight, f"use a number above 0, at most {MAX_SETTING:g}")
        for group in ("lambdas", "grounding", "localization", "chain_of_thought"):
            _require_shares(group, getattr(self, group))

    def require_dimensions(self, known: Collection[str]) -> None:
        """Raises RewardConfigError where `dimension_weights` names a dimension that is not among `known`."""
        for name in self.dimension_weights:
            if name not in known:
                raise RewardConfigError(
                    f"reward config: dimension_weights.{name}: no such dimension; {near_names(name, known)}"
                )

    @staticmethod
    def read(value: "RewardConfig | Mapping[str, Any] | None", beside: Collection[str] = ()) -> "RewardConfig":
        """A config from a mapping (plain or OmegaConf), itself, or None for the defaults.

        Args:
            beside: names of settings that may stand beside these where the mapping comes from: for the hint at a typo.

        Raises:
            RewardConfigError: names the setting, its value and the mend; an unknown one with near names.
        """
        if isinstance(value, RewardConfig):
            return value
        return _DEFAULTS if value is None else _read(RewardConfig, plain(value), "", beside)


def plain(value: Any) -> Any:
    """An OmegaConf mapping as a plain one, interpolations resolved; anything else as it is."""
    from omegaconf import DictConfig, OmegaConf

    return OmegaConf.to_container(value, resolve=True) if isinstance(value, DictConfig) else value


def settings_dict(value: Any) -> dict[str, Any]:
    """A mapping of settings (plain, OmegaConf or None) as a dict of one's own. Raises RewardConfigError for anything else."""
    value = {} if value is None else plain(value)
    if not isinstance(value, Mapping):
        _fail("reward config", value, "write a mapping of settings")
    return dict(value)


def read_settings(path: Path | None) -> dict[str, Any]:
    """The settings in a YAML file, as `RewardConfig.read` and others take them; without a file there are none.

    Raises:
        RewardConfigError: the file cannot be read, or holds no mapping.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        settings = plain(OmegaConf.load(path)) if path else {}
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        raise RewardConfigError(f"{path}: cannot be read as YAML settings: {error}") from error
    if not isinstance(settings, dict):
        raise RewardConfigError(f"{path}: write a mapping of settings")
    return settings


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(kind: type, value: Any, place: str, beside: Collection[str] = ()) -> Any:
    if not isinstance(value, Mapping):
        _fail(place or "reward config", value, "write a mapping of settings")
    known = {f.name: f for f in fields(kind)}
    hints = _hints(kind)
    settings = {}
    for key, entry in value.items():
        where = f"{place}{key}"
        if key not in known:
            raise RewardConfigError(
                f"reward config: unknown setting {where!r}; {near_names(str(key), (*known, *beside))}"
            )
        if is_dataclass(hints[key]):
            entry = _read(hints[key], entry, f"{where}.")
        elif key == "dimension_weights":
            if not isinstance(entry, Mapping):
                _fail(where, entry, "write {dimension: weight}")
            entry = dict(entry)
        settings[key] = entry
    return kind(**settings)


def _require_shares(group: str, shares: Any) -> None:
    values = {f.name: getattr(shares, f.name) for f in fields(shares)}
    for name, value in values.items():
        _require_range(f"{group}.{name}", value, 0.0, 1.0)
    if abs(fsum(values.values()) - 1.0) > 1e-6:
        _fail(group, values, "they must sum to 1")


def _require_range(name: str, value: Any, low: float, high: float) -> None:
    if not _is_number(value) or not low <= value <= high:
        _fail(name, value, f"use a number from {low:g} to {high:g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _fail(name: str, value: Any, mend: str):
    raise RewardConfigError(f"reward config: {name.rstrip('.')} = {value!r} is wrong; {mend}")


_DEFAULTS = RewardConfig()
