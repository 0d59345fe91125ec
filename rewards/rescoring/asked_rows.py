"""The training rows that a run asked: they tell what its rollouts leave out.

verl's dump of a training step names no task, and the recorder keeps no ground truth.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = ("data_source", "prompt", "reward_model", "extra_info")


class AskedRows:
    """Training rows in verl's form, by their id and by their ground truth.

    Args:
        paths: parquet files, or folders of them.

    Raises:
        ValueError: a file that is no parquet of training rows; names file and row.
    """

    def __init__(self, paths: Iterable[Path]):
        self._by_id: dict[tuple[str, str], tuple[str, str]] = {}
        self._by_truth: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for file in chain.from_iterable(sorted(p.glob("*.parquet")) if p.is_dir() else [p] for p in paths):
            for i, row in enumerate(_read(file)):
                try:
                    self._add(row)
                except (KeyError, TypeError, AttributeError, IndexError) as error:
                    raise ValueError(f"{file}: row {i}: is no training row of verl's: {error!r}") from error

    def _add(self, row: Mapping[str, Any]) -> None:
        task, truth, info = row["data_source"], row["reward_model"]["ground_truth"], row.get("extra_info") or {}
        if info.get("id"):
            self._by_id[str(info.get("dataset") or ""), str(info["id"])] = (task, truth)
        self._by_truth[truth].append((task, _question(row["prompt"])))

    def by_id(self, dataset: Any, id: Any) -> tuple[str, str] | None:
        """Task and ground truth of the row of that data set and id."""
        return self._by_id.get((str(dataset or ""), str(id)))

    def task_of(self, ground_truth: str, prompt: Any) -> str | None:
        """The task of the row with that ground truth, whose question stands in `prompt`; None where it is not clear."""
        candidates = self._by_truth.get(ground_truth, ())
        if len({task for task, _ in candidates}) > 1:
            prompt = " ".join(str(prompt).split())
            candidates = [(task, question) for task, question in candidates if question in prompt]
            longest = max((len(question) for _, question in candidates), default=0)
            candidates = [(task, question) for task, question in candidates if len(question) == longest]
        tasks = {task for task, _ in candidates}
        return tasks.pop() if len(tasks) == 1 else None


def _read(file: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            missing = [name for name in COLUMNS[:3] if name not in names]
            if missing:
                mend = "give the parquet files that verl trained on"
                raise ValueError(f"{file}: has no {' and no '.join(missing)}; {mend}")
            for batch in table.iter_batches(1024, columns=[name for name in COLUMNS if name in names]):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{file}: cannot be read as parquet: {error}") from error


def _question(prompt: Any) -> str:
    """What the last message asks, without media and line breaks: it stands in the prompt of verl's dump."""
    text = prompt if isinstance(prompt, str) else str(prompt[-1]["content"])
    return " ".join(re.sub(r"<(?:video|image|audio)>", "", text).split())
