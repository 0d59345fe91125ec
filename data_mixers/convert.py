"""Annotations of a public data set -> rows of the training format, with everything that could not be used listed beside them."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from . import lines
from .readers import BadRow, Reader, Source
from .rows import Example, to_rl_row, to_sft_row, write_rows


class Converted(NamedTuple):
    """What a conversion came to."""

    rows: Counter
    """Rows by task."""
    bad: list[BadRow]
    files: list[Path]


def convert(
    reader: Reader,
    source: Source,
    out: Path,
    name: str,
    sft: bool = False,
    systems: Mapping[str, str] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Converted:
    """Write `<out>/rl/<name>.parquet`, and `<out>/sft/<name>.parquet` where asked; bad annotations go to `<out>/<name>.bad.jsonl`.

    Args:
        source: its `split` chooses the folder: rows of `heldout` go to `<out>/heldout`.
        sft: also write rows with the answer to learn.
        systems: system prompt by data set (`read_systems`); a data set that is not there keeps its task's.
        advance: called for each annotation.

    Raises:
        ValueError: a file that is not of its format at all.
    """
    bad: list[BadRow] = []
    examples: list[Example] = []
    for found in reader.read(source):
        advance()
        if isinstance(found, BadRow):
            bad.append(found)
        else:
            examples.append(found)
    folder = "rl" if source.split == "train" else "heldout"
    written = []
    if examples:
        rows = (_instructed(to_rl_row(e, i), systems or {}) for i, e in enumerate(examples))
        written.append(write_rows(rows, out / folder / f"{name}.parquet"))
    if examples and sft:
        rows = (_instructed(to_sft_row(e, i), systems or {}) for i, e in enumerate(examples))
        written.append(write_rows(rows, out / "sft" / f"{name}.parquet"))
    _list(bad, out / f"{name}.bad.jsonl")
    return Converted(Counter(example.task for example in examples), bad, written)


def read_systems(path: Path | None = None) -> dict[str, str]:
    """System prompts by data set (section 5.1.1), from a YAML file; None for the packaged one.

    Raises:
        ValueError: it is no mapping of names to texts.
    """
    path = path or Path(str(files("sv6d.data_mixers.readers") / "systems.yaml"))
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(told, dict) or not all(isinstance(text, str) and text.strip() for text in told.values()):
        raise ValueError(f"{path}: give a system prompt, as text, for each name of a data set")
    return told


def named_as_tests(names: Iterable[str]) -> list[str]:
    """The names of files, folders or subsets that say they are a test set's: `test.tsv`, `charades_sta_test.txt`."""
    return [name for name in names if re.search(r"(?i)(?<![a-z])test(ing)?(?![a-z])", name)]


def _instructed(row: dict[str, Any], systems: Mapping[str, str]) -> dict[str, Any]:
    """The row under its data set's system prompt."""
    system = systems.get(row["extra_info"]["dataset"])
    if system is None:
        return row
    said = {"role": "system", "content": system}
    changed = {
        key: [said, *(m for m in row[key] if m["role"] != "system")] for key in ("prompt", "messages") if key in row
    }
    return row | changed


def _list(bad: list[BadRow], path: Path) -> None:
    if bad:
        lines.write(path, (row._asdict() for row in bad))
    else:
        path.unlink(missing_ok=True)
