"""Every setting of the judge behind an endpoint, in one validated place: `reward.reward_kwargs.judge` in verl."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from typing import Any, Literal, get_args

from ...schema.names import near_names
from ..config import RewardConfigError, plain
from .prompt import FIELDS, PROMPT, RUBRIC

Fallback = Literal["exact", "zero", "mask"]


@dataclass(frozen=True)
class JudgeConfig:
    """All settings of the judge."""

    url: str = ""
    """Base address of an OpenAI-compatible endpoint, e.g. `http://host:8000/v1`. Empty: the reward model that verl's
    trainer serves."""
    model: str = ""
    """The model's name at the endpoint. Empty: the name of the reward model that verl's trainer serves."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable with the key; it may be unset where the endpoint asks for none."""
    rubric: str = RUBRIC
    """The system message: what earns which grade."""
    prompt: str = PROMPT
    """The user message, with `{truth}`, `{answer}` and `{nonce}`, a random mark that an answer cannot forge."""
    grades: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """The scores that the verdict's schema offers."""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0.0, "max_tokens": 1024})
    """Goes into each request's body as it stands, e.g. `chat_template_kwargs`, `reasoning_effort`, `seed`."""
    max_characters: int = 4000
    """What is shown of an answer; the rest is cut off."""
    concurrency: int = 32
    """How many answers are judged at the same time, in each process that scores."""
    request_seconds: float = 60.0
    """The time limit of one request."""
    total_seconds: float = 180.0
    """The time limit of one verdict: requests, retries and the waits between them."""
    attempts: int = 5
    """How often a request is tried where the endpoint is busy (429), fails (5xx) or cannot be reached."""
    backoff_seconds: float = 0.5
    """The longest first wait before another try; it doubles each time, and each wait is random below it. An endpoint's
    Retry-After is waited for instead where it fits into `total_seconds`."""
    cache: str | None = None
    """A folder that keeps verdicts by model, prompt, rubric, answer and truth; null: none is kept."""
    fallback: Fallback = "exact"
    """What an answer earns when the judge fails. `exact`: the rule judge's verdict. `zero`: no verdict's worth. `mask`:
    it does not count in its group's advantages, which takes one of sv6d's trainers."""
    max_failure_rate: float = 0.2
    """The run stops when more than this share of the last `window` verdicts failed."""
    min_failures: int = 20
    """... and at least this many of them."""
    window: int = 200
    """Over how many verdicts the failure rate is taken, in each process that scores."""

    def __post_init__(self):
        for name in ("url", "model", "api_key_env", "rubric", "prompt"):
            _require(name, getattr(self, name), lambda value: isinstance(value, str), "write a text")
        _require("url", self.url, _is_address, "begin with http:// or https://, e.g. http://host:8000/v1")
        for name in FIELDS:
            _require("prompt", self.prompt, lambda text, name=name: f"{{{name}}}" in text, f"it must hold {{{name}}}")
        _require("grades", self.grades, _are_grades, "write two or more numbers from 0 to 1, e.g. [0, 0.5, 1]")
        _require("parameters", self.parameters, lambda value: isinstance(value, Mapping), "write a mapping")
        for name in ("max_characters", "concurrency", "attempts", "min_failures", "window"):
            _require(name, getattr(self, name), _is_count, "write a whole number, 1 or more")
        for name in ("request_seconds", "total_seconds", "backoff_seconds"):
            _require(name, getattr(self, name), _is_duration, "write a number of seconds above 0")
        _require("cache", self.cache, lambda value: value is None or isinstance(value, str), "write a folder, or null")
        _require("fallback", self.fallback, get_args(Fallback).__contains__, "use exact, zero or mask")
        _require("max_failure_rate", self.max_failure_rate, _is_share, "write a number from 0 to 1")
        if self.min_failures > self.window:
            raise RewardConfigError(
                f"reward config: judge.min_failures = {self.min_failures} is more than judge.window = {self.window}, so "
                "that a run would never stop; lower the one or raise the other"
            )

    @staticmethod
    def read(value: "JudgeConfig | Mapping[str, Any] | None") -> "JudgeConfig":
        """A config from a mapping (plain or OmegaConf), itself, or None for the defaults.

        Raises:
            RewardConfigError: names the setting, its value and the mend; an unknown one with near names.
        """
        if isinstance(value, JudgeConfig):
            return value
        value = plain(value)
        _require("", value, lambda value: value is None or isinstance(value, Mapping), "write a mapping of settings")
        known = [f.name for f in fields(JudgeConfig)]
        for key in value or {}:
            if key not in known:
                raise RewardConfigError(
                    f"reward config: unknown setting {f'judge.{key}'!r}; {near_names(str(key), known)}"
                )
        settings = {key: tuple(entry) if isinstance(entry, list) else entry for key, entry in (value or {}).items()}
        return JudgeConfig(**settings)

    def served(self, address: str | None, model: str | None) -> "JudgeConfig":
        """This config with what it leaves open taken from the reward model that verl's trainer serves.

        Args:
            address: `host:port` of verl's reward router, or None.
            model: the name under which verl serves the reward model, or None.

        Raises:
            RewardConfigError: url or model is left open by both.
        """
        url = self.url or (f"http://{address}/v1" if address else "")
        name = self.model or (model or "" if not self.url else "")
        for setting, value in (("url", url), ("model", name)):
            if not value:
                raise RewardConfigError(
                    f"reward config: judge.{setting} is missing; give it, or leave out judge for the rule judge"
                )
        return replace(self, url=url, model=name)


def _require(name: str, value: Any, holds, mend: str) -> None:
    if not holds(value):
        raise RewardConfigError(f"reward config: judge{name and '.'}{name} = {value!r:.200} is wrong; {mend}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_duration(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_address(value: str) -> bool:
    return not value or value.startswith(("http://", "https://"))


def _are_grades(value: Any) -> bool:
    return isinstance(value, tuple) and len(set(value)) > 1 and all(map(_is_share, value))
