"""What the checks look at: the configuration, and what several of them need from disk, read once and only when asked for."""

import random
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import DictConfig, OmegaConf

from ...data_mixers.rows import RowError, fill_options, read_rows, resolve_media
from ...data_mixers.sources import Inspection, count_tasks, inspect_rows, row_files
from ...rewards.families import find_taxonomy
from ...schema import TaxonomyError
from .finding import NotKnown, Unreadable
from .model_size import ModelSize, find_config

UNREADABLE = (TaxonomyError, RowError, OSError, pa.ArrowException)
ENOUGH = 2000
"""Rows of a file for a mean over them."""


class Subject:
    """A composed GRPO recipe under examination.

    Args:
        config: of `compose("grpo", ...)`, complete.
        sample: how many rows the checks that look closely take, evenly over the tasks.
        seed: of that sample.
        progress: told how far a long check is: (what, done, of how many).
        here: False where the run will surely be on another machine, as a launcher's is.
    """

    def __init__(
        self,
        config: DictConfig,
        sample: int = 26,
        seed: int = 0,
        progress: Callable[[str, int, int], None] = lambda what, done, total: None,
        here: bool = True,
    ):
        self.config, self.sample_size, self.seed, self.progress, self.here = config, sample, seed, progress, here

    @cached_property
    def model_config(self) -> dict[str, Any]:
        """The model's `config.json`.

        Raises:
            NotKnown: it is not at hand.
        """
        model = str(self.config.sv6d.model)
        return find_config(str(cached_model(model) or model))

    @cached_property
    def model(self) -> ModelSize:
        """The model's sizes. Raises NotKnown where they cannot be told."""
        model = str(self.config.sv6d.model)
        return ModelSize.read(self.model_config, cached_model(model) or Path(model))

    @cached_property
    def model_folder(self) -> Path:
        """Where the model's files are. Raises NotKnown where they are on the Hub alone, or nowhere."""
        folder = cached_model(str(self.config.sv6d.model)) or Path(self.config.sv6d.model)
        if not (folder / "config.json").is_file():
            raise NotKnown(f"the model is no folder here: sv6d.model={folder}")
        return folder

    @cached_property
    def tokenizer(self) -> Any:
        """The model's. Raises NotKnown where it cannot be had."""
        return self._load("AutoTokenizer")

    @cached_property
    def processor(self) -> Any:
        """The model's. Raises NotKnown where it cannot be had."""
        return self._load("AutoProcessor")

    def _load(self, name: str) -> Any:
        try:
            import transformers
        except ImportError as missing:
            raise NotKnown("transformers is not installed here: pip install 'sv6d[cpu]' or 'sv6d[gpu]'") from missing
        try:
            return getattr(transformers, name).from_pretrained(self.model_folder, local_files_only=True)
        except (OSError, ValueError) as failed:
            what, first = name.removeprefix("Auto").lower(), str(failed).splitlines()[0]
            raise NotKnown(f"the model's {what} does not load from {self.model_folder}: {first}") from failed

    @cached_property
    def files(self) -> list[str]:
        """The row files of the run. Raises NotKnown where there are none."""
        try:
            return row_files(_plain(self.config.data.train_files))
        except FileNotFoundError as missing:
            raise NotKnown(str(missing)) from missing

    @cached_property
    def rows(self) -> Inspection:
        """All rows, and what is wrong with them. Raises NotKnown where there are none, Unreadable where they cannot be read."""
        return self._inspect(self.files)

    @cached_property
    def held_out(self) -> Inspection:
        """As `rows`, of the held-out rows."""
        try:
            return self._inspect(row_files(_plain(self.config.data.val_files)))
        except FileNotFoundError as missing:
            raise NotKnown(str(missing)) from missing

    def _inspect(self, files: list[str]) -> Inspection:
        try:
            return inspect_rows(files, find_taxonomy(self.config.data.get("mixture", {}).get("taxonomy")))
        except UNREADABLE as error:
            raise Unreadable(str(error)) from error

    @cached_property
    def task_counts(self) -> dict[str, int]:
        """Rows by task, without a look at them. Raises as `rows` does."""
        try:
            return count_tasks(self.files)
        except UNREADABLE as error:
            raise Unreadable(f"a row file cannot be read: {error}") from error

    @cached_property
    def filmed(self) -> list[dict[str, Any]]:
        """Task, duration and videos of rows: of each file at most `ENOUGH`, evenly over it. In a second, unlike `rows`. Raises as
        `rows` does."""
        try:
            return [row for file in self.files for row in _without_texts(file)]
        except UNREADABLE as error:
            raise Unreadable(f"a row file cannot be read: {error}") from error

    @cached_property
    def held_out_count(self) -> int:
        """Held-out rows. Raises as `rows` does."""
        try:
            return sum(count_tasks(row_files(_plain(self.config.data.val_files))).values())
        except FileNotFoundError as missing:
            raise NotKnown(str(missing)) from missing
        except UNREADABLE as error:
            raise Unreadable(f"a row file cannot be read: {error}") from error

    @cached_property
    def sample(self) -> list[dict[str, Any]]:
        """Sound rows, the same for the same seed, as many of each task as the sample has room for."""
        chance, by_task = random.Random(self.seed), {}
        unsound = self.rows.broken.keys() | self.rows.homeless.keys()
        for index, row in enumerate(self.rows.rows):
            if index not in unsound:
                by_task.setdefault(row["data_source"], []).append(row)
        for rows in by_task.values():
            chance.shuffle(rows)
        rounds = range(max(map(len, by_task.values()), default=0))
        return [rows[n] for n in rounds for rows in by_task.values() if n < len(rows)][: self.sample_size]

    def clips(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """The videos of a row with the options that the dataset fills in."""
        settings = (
            OmegaConf.to_container(self.config.data.mixture, resolve=True) if "mixture" in self.config.data else {}
        )
        return [fill_options(video, settings.get("video") or {}) for video in row.get("videos") or []]

    @cached_property
    def trains_here(self) -> bool:
        """Whether this machine is one that the recipe can train on: it needs no GPU, or there is one."""
        return self.here and (self.config.trainer.device != "cuda" or gpus_here() > 0)


def _without_texts(file: str) -> list[dict[str, Any]]:
    if not file.endswith(".parquet"):
        rows = read_rows(file)
        return rows[:: -(-len(rows) // ENOUGH) or 1]
    columns = [name for name in ("data_source", "extra_info", "videos") if name in pq.read_schema(file).names]
    table = pq.read_table(file, columns=columns)
    table = table.take(list(range(0, len(table), -(-len(table) // ENOUGH) or 1)))
    return [resolve_media(row, "") for row in table.to_pylist()]


def _plain(files: Any) -> Any:
    return OmegaConf.to_container(files) if OmegaConf.is_config(files) else files


def cached_model(model: str) -> Path | None:
    """The folder of a model of the Hugging Face Hub that was downloaded to this machine; None of any other."""
    if Path(model).is_dir() or model.count("/") != 1:
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(model, "config.json")
    except ValueError:  # no name that the Hub would allow
        return None
    return Path(found).parent if isinstance(found, str) else None


@cache
def gpus_here() -> int:
    """GPUs that a process on this machine sees; imports torch."""
    import torch

    return torch.cuda.device_count()
