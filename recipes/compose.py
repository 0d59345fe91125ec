"""From a recipe's name to the whole configuration of a run: verl's own defaults, the recipe, the overrides, composed by Hydra.

A recipe is a YAML file under `recipes/grpo` or `recipes/sft` (or anywhere); its `sv6d:` block is ours, the rest is verl's.
Nothing of verl is imported here, so `--cfg` answers in a second.
"""

import difflib
import importlib.util
import math
import re
from pathlib import Path
from typing import Any, Literal

import click
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

Kind = Literal["grpo", "sft"]
FOLDER = Path(__file__).resolve().parent
ROWS = {"grpo": "rl", "sft": "sft"}
"""The sub-folder of `sv6d.data` that a kind of run trains on."""
VERL = {"grpo": "ppo_trainer", "sft": "sft_trainer_engine"}
"""verl's own configuration, which the recipes of a kind inherit."""
SHOWN = ("job", "changes")
"""What `--cfg` prints."""


class RecipeError(click.ClickException):
    """A recipe, an override, or a folder that a run needs is wrong; the message says which, where, and how to mend it."""


def compose(kind: Kind, recipe: str, overrides: list[str] | None = None) -> DictConfig:
    """Compose a recipe over verl's configuration.

    Args:
        kind: "grpo" or "sft"; which folder a name is looked up in.
        recipe: a name from `recipes/<kind>` or the path of a YAML file, which may inherit the packaged recipes by name.
        overrides: Hydra's, as `trainer.save_freq=5`, `+new.key=1`, `~removed.key`.

    Raises:
        RecipeError: unknown recipe, unknown key, a value that does not parse, a setting that the recipe leaves open (`???`).
    """
    path = find_recipe(kind, recipe)
    register_resolvers()
    try:
        config = _compose(kind, path, overrides or [])
    except HydraException as error:
        raise RecipeError(_explain(error, kind, path)) from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    _check_complete(config, path)
    return config


def _compose(kind: Kind, path: Path, overrides: list[str]) -> DictConfig:
    search = f"hydra.searchpath=[file://{FOLDER / kind},file://{verl_config_folder()}]"
    with initialize_config_dir(str(path.parent), version_base=None):
        return hydra_compose(path.stem, [search, *overrides])


def make_absolute(config: DictConfig) -> None:
    """Absolute folders, since Ray's workers stand in others; a model that is no folder here is a hub's name. No shell expands the
    ~ that stands in quotes for Hydra."""
    for key in ("run_dir", "data", "model"):
        path = Path(config.sv6d[key]).expanduser()
        if key == "run_dir" or path.exists():
            config.sv6d[key] = str(path.absolute())


def shown(kind: Kind, config: DictConfig, what: Literal["job", "changes"]) -> str:
    """A composed recipe as YAML, resolved: all of it, or what it changes of verl's defaults and adds to them."""
    if what == "job":
        return OmegaConf.to_yaml(config, resolve=True)
    with initialize_config_dir(str(verl_config_folder()), version_base=None):
        verl = hydra_compose(VERL[kind])
    ours, theirs = (OmegaConf.to_container(each, resolve=True) for each in (config, verl))
    return yaml.safe_dump(_changes(ours, theirs), sort_keys=False)


def _changes(ours: dict, theirs: dict) -> dict:
    found = {}
    for key, value in ours.items():
        before = theirs.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := _changes(value, before):
                found[key] = inner
        elif key not in theirs or value != before:
            found[key] = value
    return found


def available(kind: Kind) -> list[str]:
    """Names of the packaged recipes of a kind."""
    return sorted(path.stem for path in (FOLDER / kind).glob("*.yaml"))


def find_recipe(kind: Kind, recipe: str) -> Path:
    """The file of a recipe, given by name or by path."""
    packaged = FOLDER / kind / f"{recipe}.yaml"
    if packaged.is_file():
        return packaged
    path = Path(recipe).expanduser().absolute()
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        raise RecipeError(f"{path}: no such file")
    names = available(kind)
    near = _near(recipe, names)
    raise RecipeError(
        f"no {kind} recipe is called {recipe!r}{near}. There are {', '.join(names)}; or give the path of a YAML file."
    )


def verl_config_folder() -> Path:
    """Where verl keeps its YAML, found without importing verl."""
    spec = importlib.util.find_spec("verl")
    if spec is None or not spec.submodule_search_locations:
        raise RecipeError("verl is not installed here: `pip install 'sv6d[cpu]'`, or 'sv6d[gpu]' on a GPU machine.")
    return Path(spec.submodule_search_locations[0]) / "trainer" / "config"


def register_resolvers() -> None:
    """The arithmetic that recipes use to scale one another: `${product:a,b}`, `${sum:a,b}`, and `${count:a,b}` (`_count`)."""
    resolvers = {
        "product": lambda *factors: math.prod(map(float, factors)),
        "sum": lambda *terms: sum(terms),
        "count": _count,
    }
    for name, function in resolvers.items():
        OmegaConf.register_new_resolver(name, function, replace=True)


def _count(*factors: float | str) -> int:
    """A product rounded to a whole number of at least 1.

    Raises:
        ValueError: a factor is not above 0, or no number: 1 would be the opposite of what was asked for.
    """
    product = math.prod(map(float, factors))
    if not all(0 < float(factor) < math.inf for factor in factors):
        raise ValueError(f"{' x '.join(map(str, factors))} counts nothing; set each to a number above 0")
    return max(1, round(product))


def _check_complete(config: DictConfig, path: Path) -> None:
    unset = [key for key, value in leaves(config).items() if key.startswith("sv6d.") and value == "???"]
    if unset:
        example = " ".join(f"{key}=..." for key in unset)
        raise RecipeError(f"recipe {path.stem} leaves open what only you can say: {', '.join(unset)}. Add {example}")
    try:
        for block in filter(None, (config.get("sv6d"), config)):  # a fault in ours is found there, not where it is used
            OmegaConf.to_container(block, resolve=True)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0].rpartition("while resolving interpolation: ")[2]
        raise RecipeError(
            f"recipe {path.stem}: {error.full_key}={leaves(config).get(error.full_key)}: {reason}"
        ) from error


def _explain(error: HydraException, kind: Kind, path: Path) -> str:
    """Hydra's message, or, for a key that does not exist, the nearest keys."""
    unknown = re.search(r"Could not override '([^']+)'", str(error))
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override} cannot be read by Hydra. A value with any of = ~ ' \" , ( ) [ ] {{ }} or with letters beyond ASCII stands "
            f"in double quotes, inside the shell's: 'sv6d.run_dir=\"/a path, it is said\"'"
        )
    if not unknown:
        return f"recipe {path.stem}: {error}"
    key = unknown.group(1)
    near = _near(key, list(leaves(_compose(kind, path, []))))
    return f"{key} is no key of recipe {path.stem}{near}. `--cfg job` prints all keys; +{key}=... adds a new one."


def leaves(config: DictConfig) -> dict[str, Any]:
    """The settings that are no mappings, by dotted name, unresolved."""
    found: dict[str, Any] = {}

    def walk(node: dict, prefix: str) -> None:
        for key, value in node.items():
            if isinstance(value, dict) and value:
                walk(value, f"{prefix}{key}.")
            else:
                found[f"{prefix}{key}"] = value

    walk(OmegaConf.to_container(config, resolve=False), "")
    return found


def _near(word: str, words: list[str]) -> str:
    """' (did you mean ...?)' over whole names and over last parts; empty when nothing is near."""
    close = difflib.get_close_matches(word, words, n=3, cutoff=0.75)
    last = word.rsplit(".", 1)[-1]
    close += [name for name in words if name.rsplit(".", 1)[-1] == last and name not in close][: 3 - len(close)]
    return f" (did you mean {' or '.join(close)}?)" if close else ""
