"""What the tests of `sv6d check` share: a recipe composed on the spot, and one check's findings as (level, text)."""

import json
from copy import deepcopy
from functools import cache
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf
from sv6d.data_mixers.rows import Example, to_rl_row, write_rows
from sv6d.recipes.checking.subject import Subject
from sv6d.recipes.compose import compose

SEGMENTS = '[{"start": 0.0, "end": 2.0, "labels": {"camera_language": {"shot_size": "medium shot"}}}]'


@cache
def composed(recipe: str) -> DictConfig:
    return compose("grpo", recipe, ["sv6d.data=D", "sv6d.model=Qwen/Qwen3-VL-8B-Instruct", "sv6d.run_dir=R"])


def recipe_with(recipe: str, *settings: str) -> DictConfig:
    """A packaged recipe with settings `key=value`, old or new: as Hydra would, without its second each time."""
    config = deepcopy(composed(recipe))
    for key, _, value in (setting.partition("=") for setting in settings):
        OmegaConf.update(config, key, yaml.safe_load(value), force_add=True)
    return config


def subject(recipe="leum_8b_1node", *settings, **options) -> Subject:
    return Subject(recipe_with(recipe, *settings), **options)


def findings(check, of: Subject) -> list[tuple[str, str]]:
    return [(finding.level, finding.text) for finding in check(of)]


def only(check, of: Subject) -> tuple[str, str]:
    [finding] = findings(check, of)
    return finding


def example(task="shot_framing", media="clip.mp4", truth=SEGMENTS, **more) -> Example:
    return Example(task, [str(media)], truth, **more)


def write_task(folder: Path, examples: list[Example], name: str | None = None) -> Path:
    """A row file of training, which is returned, and the same rows held out."""
    rows, file = [to_rl_row(one, index) for index, one in enumerate(examples)], f"{name or examples[0].task}.parquet"
    write_rows(rows, folder / "heldout" / file)
    return write_rows(rows, folder / "rl" / file)


def write_json(path: Path, value) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path
