"""Which reward a task earns: the families of Table 4, and those (and taxonomies) that other packages plug in.

A package plugs in by entry points of its `pyproject.toml`:

    [project.entry-points."sv6d.families"]
    counting = "my_package:COUNTING"        # a Family; its name is the task that rows carry

    [project.entry-points."sv6d.taxonomies"]
    cooking = "my_package:TAXONOMY_FILE"    # the path of a YAML of the form of the packaged taxonomy
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

from ..schema import FAMILIES, TASKS, TaskError, Taxonomy, TaxonomyError, validate_ground_truth
from ..schema.names import near_names
from . import action_localization, chain_of_thought, ocr, temporal_grounding
from .config import RewardConfig

FAMILY_GROUP = "sv6d.families"
TAXONOMY_GROUP = "sv6d.taxonomies"

COMPONENTS = (
    "score",
    "format",
    "iou",
    "label",
    "similarity",
    "judge",
    "r_prof",
    "r_comp",
    "r_form",
    "n_pred",
    "n_true",
    "failed",
)
"""The component keys, the same on every path; NaN where one does not apply."""

COUNTS = ("n_pred", "n_true")
"""The components that are counts; all others lie in [0, 1]."""


class Family(NamedTuple):
    """How the responses of a task are rewarded, and how its ground truths are checked."""

    reward: Callable[[str, str, Taxonomy, RewardConfig], Mapping[str, float]]
    """(response, ground truth, taxonomy, config) -> components: `score`, and of the other `COMPONENTS` those that apply."""
    validate: Callable[[str, Taxonomy], None]
    """(ground truth, taxonomy): raises `GroundTruthError` where it cannot be scored against."""
    bounded: bool = False
    """Its cost is bounded for every response. One that is not runs, inside verl, in a process that can be ended."""


class PluginError(ValueError):
    """A plug-in that cannot be used; the message names the distribution, the entry point and the mend."""


def find_family(task: str) -> Family:
    """The family of a task: one of the 13 task ids, one of the four families, or a name that a package plugs in.

    Raises:
        TaskError: there is no such task; with near names.
        PluginError: an installed package offers a name that is taken, or something that is no Family.
    """
    return _found.get(task) or _find(task)


def find_taxonomy(name: str | Path | None) -> Taxonomy:
    """The taxonomy that a package plugs in under `name`, or the one in the file `name`; None: the packaged one.

    Raises:
        PluginError: the entry point gives no path.
        TaxonomyError: there is neither such a name nor such a file, or the file is broken.
    """
    if name is None:
        return Taxonomy.load()
    if not isinstance(name, str | Path):
        raise TaxonomyError(f"taxonomy {name!r:.80} is wrong; give the path of a file, or the name of a plug-in")
    plugged = plug_ins(TAXONOMY_GROUP)
    if str(name) in plugged:
        return Taxonomy.load(_load(plugged[str(name)], str | Path, "the path of a YAML file, as text or pathlib.Path"))
    if not Path(name).is_file():
        hint = near_names(str(name), plugged) if plugged else "no installed package offers one"
        raise TaxonomyError(f"taxonomy {str(name)!r} is neither a file nor the name of a plug-in; {hint}")
    return Taxonomy.load(name)


@cache
def plug_ins(group: str) -> Mapping[str, EntryPoint]:
    """The entry points of a group by name, read once a process; what they point at is not imported yet.

    Raises:
        PluginError: a name is that of a built-in task or family, or two distributions offer it.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        if group == FAMILY_GROUP and entry.name in _BUILT_IN:
            raise PluginError(f"{_named(entry)}: sv6d has a task or family of that name; rename it, or uninstall it")
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise PluginError(
                f"{_named(entry)}: {_named(other)} has that name already; rename or uninstall one of them"
            )
    return found


def _find(task: str) -> Family:
    plugged = plug_ins(FAMILY_GROUP)  # before the built-in ones, so that a taken name is never passed over in silence
    if task in _BUILT_IN:
        family = _BUILT_IN[task]
    elif task in plugged:
        family = _load(plugged[task], Family, "a sv6d.rewards.Family(reward=..., validate=...)")
        family = family._replace(reward=partial(_checked, task, family.reward))
    else:
        raise TaskError(f"unknown task {task!r}; {near_names(task, (*TASKS, *FAMILIES, *plugged))}")
    _found[task] = family
    return family


def _load(entry: EntryPoint, kind: Any, asked: str) -> Any:
    try:
        value = entry.load()
    except Exception as error:  # whatever a foreign module does on import
        raise PluginError(
            f"{_named(entry)} does not load: {type(error).__name__}: {error}; mend or uninstall the package"
        ) from error
    if not isinstance(value, kind):
        raise PluginError(f"{_named(entry)} is {value!r:.80}; let {entry.value} be {asked}")
    return value


def _checked(task: str, reward: Callable, response: str, truth: str, taxonomy: Taxonomy, config: RewardConfig):
    """The components of a plugged-in family, refused where they are not what the contract promises."""
    components = reward(response, truth, taxonomy, config)
    if not isinstance(components, Mapping) or "score" not in components:
        raise PluginError(
            f"family {task!r}: its reward gave {components!r:.80}; give a mapping of components with 'score'"
        )
    for key, value in components.items():
        if key not in COMPONENTS:
            raise PluginError(f"family {task!r}: component {key!r} is unknown; {near_names(str(key), COMPONENTS)}")
        if isinstance(value, bool) or not isinstance(value, Real) or not _in_range(key, value):
            asked = "a finite number >= 0" if key in COUNTS else "a number from 0 to 1"
            missing = "" if key == "score" else ", or NaN where it does not apply"
            raise PluginError(f"family {task!r}: component {key!r} is {value!r:.80}; give {asked}{missing}")
    return {key: float(value) for key, value in components.items()}


def _in_range(key: str, value: float) -> bool:
    if value != value:
        return key != "score"
    return isfinite(value) and value >= 0.0 if key in COUNTS else 0.0 <= value <= 1.0


def _named(entry: EntryPoint) -> str:
    source = f"distribution {entry.dist.name} {entry.dist.version}" if entry.dist else "a distribution"
    return f"{source}: entry point {entry.name} = {entry.value} of {entry.group}"


def _built_in() -> dict[str, Family]:
    rewards = {
        "temporal_grounding": temporal_grounding.reward,
        "action_localization": action_localization.reward,
        "ocr": ocr.reward,
        "chain_of_thought": chain_of_thought.reward,
    }
    family_of: Iterable[tuple[str, str]] = (
        *zip(FAMILIES, FAMILIES, strict=True),
        *((t.id, t.family) for t in TASKS.values()),
    )
    return {name: Family(rewards[family], partial(_validate, name), bounded=True) for name, family in family_of}


def _validate(task: str, ground_truth: str, taxonomy: Taxonomy) -> None:
    validate_ground_truth(task, ground_truth, taxonomy=taxonomy)


_BUILT_IN = _built_in()
_found: dict[str, Family] = {}
"""Those that were asked for: the lookup of every score."""
