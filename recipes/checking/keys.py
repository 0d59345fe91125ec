"""Keys that nobody reads. Hydra refuses an unknown `key=`, but `+key=` and a recipe's own YAML add whatever is written.

Known are the keys of verl's composed configuration and of our base recipe, the fields of verl's configuration classes, what
our own modules read, and a few blocks that are handed on as they are.
"""

import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ...data_mixers.rows import MEDIA_OPTIONS
from ...verl_plugin.surviving.settings import Survival, read_settings
from ..compose import compose, leaves
from .finding import Finding, error, warning
from .subject import Subject
from .verl_fields import fields, is_open

OPEN = (
    "sv6d.env",  # environment variables
    "ray_kwargs.ray_init",  # ray.init
    "ray_kwargs.timeline_json_file",
    "data.apply_chat_template_kwargs",  # the tokenizer
    "data.mm_processor_kwargs",  # the processor
    "data.mixture.weights",
    "actor_rollout_ref.rollout.engine_kwargs",  # vLLM
    "actor_rollout_ref.model.override_config",  # transformers
    "reward.reward_kwargs",  # read strictly by the rewards themselves
    "reward.custom_reward_function.reward_kwargs",
    "transfer_queue.backend",
    "hydra",
)
OURS = {
    "data.mixture.video": MEDIA_OPTIONS["video"],
    "data.mixture": ("taxonomy", "decode_seconds"),
    "trainer.v1.sampler.sampler_kwargs": ("poll_interval", "wait_for_oldest", "wait_for_task", "spares"),
    "sv6d": ("trainer",),
}
"""What our modules read beyond the base recipe, by block."""


READ_APART = ("sv6d.record_responses", *(f"sv6d.{name}" for name in Survival._fields))
"""Keys whose default is a number, and which have a reader of their own: one takes a word as well, the others tell more."""
NUMBERS = ("sv6d.gpu_gb", "sv6d.node_gb")
"""Keys whose default is nothing, and which take a number."""


def wrong_kinds(subject: Subject) -> Iterator[Finding]:
    """Words where a number, or true or false, is wanted: nothing could be reckoned with them. And what a run is to do about
    failures (`Survival`), which nobody else reads before there is one."""
    try:
        read_settings(subject.config)
    except ValueError as wrong:
        yield error(str(wrong))
    usual = _usual()
    for key, value in leaves(subject.config).items():
        told, default = f"{key}={value!r}", usual.get(key)
        if not isinstance(value, str) or value.startswith("${") or key in READ_APART:
            continue
        if isinstance(default, bool):
            yield error(
                f"{told} is neither true nor false, as it has to be; the base recipe has {str(default).lower()}"
            )
        elif isinstance(default, int | float):
            yield error(f"{told} is text, and a number is wanted; the base recipe has {default:g}")
        elif key in NUMBERS:
            yield error(f"{told} is text, and a number of GB is wanted; null where it is not known")


def unknown_keys(subject: Subject) -> Iterator[Finding]:
    """Every key that nothing reads, with the nearest that exists."""
    known = _known()
    for key in leaves(subject.config):
        if not _is_known(key, known, subject.config):
            near = _near(key, known)
            kind = error if near or key.startswith("sv6d.") else warning  # of our own block every key is known
            yield kind(f"{key} is read by nothing that we know of{near}; correct it, or take it out")


@cache
def _base() -> DictConfig:
    return compose("grpo", "table3", [f"sv6d.{key}=." for key in ("data", "model", "run_dir")])


@cache
def _usual() -> Mapping[str, Any]:
    """The base recipe's values."""
    return leaves(OmegaConf.create(OmegaConf.to_container(_base(), resolve=True)))


@cache
def _known() -> frozenset[str]:
    """All dotted names of the base recipe, of leaves and of blocks."""
    names = set()
    for key in leaves(_base()):
        parts = key.split(".")
        names |= {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
    return frozenset(names)


def _is_known(key: str, known: frozenset[str], config: DictConfig) -> bool:
    if key in known or any(key == block or key.startswith(f"{block}.") for block in OPEN):
        return True
    for ours, names in OURS.items():
        if key.startswith(f"{ours}.") and key[len(ours) + 1 :].partition(".")[0] in names:
            return True
    block = key
    while block := block.rpartition(".")[0]:
        target = OmegaConf.select(config, f"{block}._target_")
        if target:
            field = _find_field(key[len(block) + 1 :].split("."), target)
            return field == "named" or (field == "open" and not _siblings_like(key, known))
    return False


def _find_field(path: list[str], target: str) -> str | None:
    """Where a path below a block of class `target` leads: to a "named" field, into an "open" one, or nowhere."""
    known = fields(target)
    if not known:  # no class of verl's: it may read what it likes
        return "open"
    if path[0] not in known:
        return "named" if path[0] == "_target_" else None
    if len(path) == 1:
        return "named"
    if is_open(known[path[0]]):
        return "open"
    return _find_field(path[1:], known[path[0]].removeprefix("Optional[").rstrip("]").partition(" |")[0])


def _siblings_like(key: str, known: frozenset[str]) -> list[str]:
    siblings = [other for other in known if other.rpartition(".")[0] == key.rpartition(".")[0]]
    return difflib.get_close_matches(key, siblings, n=2, cutoff=0.8)


def _near(key: str, known: frozenset[str]) -> str:
    """' (did you mean ...?)': the same last part elsewhere, names like it in its own block, then alike ones."""
    name = key.rpartition(".")[2]
    close = [other for other in sorted(known) if other.rpartition(".")[2] == name][:1]
    close += [other for other in _siblings_like(key, known) if other not in close]
    close = close[:2] or difflib.get_close_matches(key, known, n=2, cutoff=0.85)
    if key.startswith("sv6d.") and not close:
        ours = sorted(other for other in known if other.startswith("sv6d."))
        close = difflib.get_close_matches(key, ours, n=1, cutoff=0)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
