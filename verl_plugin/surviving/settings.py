"""What a run is to do about failures: the settings of docs/surviving.md. The launcher, the trainers and `sv6d check` read them here."""

from typing import NamedTuple

from omegaconf import OmegaConf

from ..settings import require

ON_FAILED_SAVE = "continue", "stop"


class Survival(NamedTuple):
    """Of a recipe's `sv6d:` block; times in seconds."""

    restarts: int = 3
    """How often one launcher starts a job again; 0: never."""
    restart_pause: float = 10.0
    """Before the first restart; it doubles each time."""
    grace: float = 300.0
    """From SIGTERM to the job's end."""
    stalled_after: float | None = None
    """Without a step, until the job counts as hung; None: never."""
    on_failed_save: str = "continue"
    """Or "stop": what a run does when a checkpoint cannot be saved."""


def read_settings(config) -> Survival:
    """
    Args:
        config: a run's whole config.

    Raises:
        ValueError: names the setting, its value and the mend.
    """
    given = OmegaConf.select(config, "sv6d") or {}
    found = Survival(**{name: given.get(name, default) for name, default in Survival._field_defaults.items()})
    require(
        "sv6d.restarts",
        found.restarts,
        lambda value: value >= 0 and value == int(value),
        "a whole number, 0 for no restarts",
    )
    require("sv6d.restart_pause", found.restart_pause, lambda value: value >= 0, "seconds, 0 or more")
    require("sv6d.grace", found.grace, lambda value: value >= 0, "seconds, 0 or more")
    if found.stalled_after is not None:
        require(
            "sv6d.stalled_after", found.stalled_after, lambda value: value > 0, "seconds above 0, or null for never"
        )
    if found.on_failed_save not in ON_FAILED_SAVE:
        raise ValueError(f"sv6d.on_failed_save is {found.on_failed_save!r}; set it to {' or '.join(ON_FAILED_SAVE)}")
    return found
