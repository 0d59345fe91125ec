"""The row format: what an annotation becomes before training, one file a task, the same columns in every file.

An RL row is verl's own row; an SFT row is an RL row with the dialogue that the model learns (docs/data.md).
"""

import json
import mimetypes
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ..rewards.families import find_family
from ..schema import TASKS, TaskError, Taxonomy, validate_ground_truth
from .whole import written_whole

_MESSAGES = pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}))
_SIZES = {"min_pixels": pa.int64(), "max_pixels": pa.int64(), "resized_height": pa.int64(), "resized_width": pa.int64()}
_FRAMES = {
    "fps": pa.float64(),
    "nframes": pa.int64(),
    "min_frames": pa.int64(),
    "max_frames": pa.int64(),
    "total_pixels": pa.int64(),
    "video_start": pa.float64(),
    "video_end": pa.float64(),
    "sample_fps": pa.float64(),
}
_SAMPLING = {"fps", "nframes", "min_frames", "max_frames"}
MEDIA_OPTIONS = {"image": tuple(_SIZES), "video": (*_SIZES, *_FRAMES)}
"""The options of qwen-vl-utils that a row can carry, by kind of media: fps is the sampling rate, video_* are seconds.
Ours is `sample_fps`, the rate at which a folder of frames was cut (docs/video.md)."""

RL_SCHEMA = pa.schema(
    {
        "data_source": pa.string(),
        "prompt": _MESSAGES,
        "images": pa.list_(pa.struct({"image": pa.string(), **_SIZES})),
        "videos": pa.list_(pa.struct({"video": pa.string(), **_SIZES, **_FRAMES})),
        "reward_model": pa.struct({"style": pa.string(), "ground_truth": pa.string()}),
        "extra_info": pa.struct(
            {
                "index": pa.int64(),
                "id": pa.string(),
                "dataset": pa.string(),
                "split": pa.string(),
                "duration": pa.float64(),
                "query": pa.string(),
            }
        ),
    }
)
SFT_SCHEMA = RL_SCHEMA.append(pa.field("messages", _MESSAGES))


class RowError(ValueError):
    """A row that cannot be trained on; the message names the row, the field, the value and the mend."""


class UnknownTask(RowError):
    """A row whose `data_source` is no task: nothing else of it can be judged."""


class MissingMedia(RowError):
    """A row of which nothing but a media file is amiss."""


@dataclass(frozen=True)
class Example:
    """One annotated question about media, before it becomes a row.

    Attributes:
        task: one of the 13 task ids of `sv6d.schema.TASKS`.
        media: paths of videos or images, by their suffix; the task's own kind where the suffix does not tell.
        ground_truth: the answer as text: JSON segments (grounding, localization), the text itself (OCR), the final
            answer alone (reasoning).
        query: the event to localise or the question to answer, for tasks whose prompt asks one.
        duration: seconds, for video.
        dataset, id: where the annotation comes from.
        split: "train" or "heldout".
        media_options: `MEDIA_OPTIONS`; sets fps and the pixel limits of decoding.
        thought: the reasoning that precedes a chain-of-thought answer; needed for SFT rows only.
    """

    task: str
    media: list[str]
    ground_truth: str
    query: str | None = None
    duration: float | None = None
    dataset: str = ""
    id: str = ""
    split: Literal["train", "heldout"] = "train"
    media_options: dict[str, int | float] = field(default_factory=dict)
    thought: str = ""


def to_rl_row(example: Example, index: int) -> dict[str, Any]:
    """verl's row for an example; `index` numbers the rows of a file.

    Raises:
        RowError: unknown task or media option; no query where the prompt asks one, or one with a media placeholder.
    """
    where = f"example {example.id or index} of {example.dataset or 'an unnamed dataset'}"
    task = TASKS.get(example.task)
    if task is None:
        raise RowError(f"{where}: task {example.task!r} is unknown; the tasks are {', '.join(TASKS)}")
    kinds = [_kind(path, task.media) for path in example.media]
    try:
        prompt = task.messages(example.query, kinds)
    except TaskError as error:
        raise RowError(f"{where}: {error}") from error
    for kind in kinds:
        for option in example.media_options.keys() - set(MEDIA_OPTIONS[kind]):
            options = ", ".join(MEDIA_OPTIONS[kind])
            raise RowError(f"{where}: media option {option!r} is unknown for {kind}s; there are {options}")
    media = [{kind: os.fspath(path), **example.media_options} for kind, path in zip(kinds, example.media, strict=True)]
    row = {
        "data_source": task.id,
        "prompt": prompt,
        "images": [item for item in media if "image" in item],
        "videos": [item for item in media if "video" in item],
        "reward_model": {"style": "rule", "ground_truth": example.ground_truth},
        "extra_info": {
            "index": index,
            "id": example.id,
            "dataset": example.dataset,
            "split": example.split,
            "duration": example.duration,
            "query": example.query,
        },
    }
    _check_places(row, where)
    return row


def to_sft_row(example: Example, index: int) -> dict[str, Any]:
    """The RL row with `messages`: the prompt and the answer that the model learns to give.

    Raises:
        RowError: as `to_rl_row`; also a chain-of-thought example without its thought.
    """
    row = to_rl_row(example, index)
    answer = example.ground_truth
    if TASKS[example.task].family == "chain_of_thought":
        if not example.thought:
            raise RowError(
                f"example {example.id or index}: {example.task} needs a thought to make an SFT row; set Example.thought"
            )
        answer = f"<think>{example.thought}</think><answer>{answer}</answer>"
    row["messages"] = [*row["prompt"], {"role": "assistant", "content": answer}]
    return row


def write_rows(rows: Iterable[dict[str, Any]], path: str | os.PathLike) -> Path:
    """Write rows to one parquet file, whole or not at all, always with the same columns.

    Media below the file's folder or the folder above it (the layout `<data>/rl/<task>.parquet`, `<data>/media/`) are
    stored relative to the file's folder, so that the data folder can be moved; other paths are stored absolute.
    """
    path = Path(path).absolute()
    rows = [_portable(row, path.parent) for row in rows]
    schema = SFT_SCHEMA if rows and "messages" in rows[0] else RL_SCHEMA
    with written_whole(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema), partial)
    return path


def read_rows(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Rows of one row file with their media resolved, as `write_rows` was given them (media paths absolute).

    Args:
        path: a .parquet file, a .jsonl file (an object a line), or a folder that `datasets.Dataset.save_to_disk` wrote.

    Raises:
        RowError: a line is no JSON object, or a column has another type than the row format; the file is named.
    """
    path = Path(path).absolute()
    if path.is_dir():
        table = _saved_dataset(path)
    elif not path.is_file():
        raise FileNotFoundError(f"{path}: no such row file; `sv6d data` writes them, one a task")
    elif path.suffix == ".jsonl":
        table = _json_lines(path)
    else:
        table = pq.read_table(path)
    return [resolve_media(row, path.parent) for row in table.to_pylist()]


def _json_lines(path: Path) -> pa.Table:
    rows = []
    with path.open() as file:
        for number, line in enumerate(file):
            try:
                row = json.loads(line) if line.strip() else None
            except json.JSONDecodeError as error:
                raise RowError(f"{path}, line {number + 1}: is not JSON: {error}") from error
            if row is not None:
                rows.append(row)
    if rows and not (isinstance(rows[0], dict) and "data_source" in rows[0]):
        raise RowError(f"{path}: holds no rows, its first object has no `data_source`; docs/data.md has the format")
    schema = SFT_SCHEMA if rows and "messages" in rows[0] else RL_SCHEMA
    try:
        return pa.Table.from_pylist(rows, schema)
    except (pa.ArrowException, AttributeError, TypeError) as error:
        raise RowError(f"{path}: a row does not have the row format's columns: {error}") from error


def _saved_dataset(path: Path) -> pa.Table:
    if not (path / "dataset_info.json").is_file():
        raise RowError(f"{path} is no folder that `datasets.Dataset.save_to_disk` wrote: it has no dataset_info.json")
    try:
        import datasets
    except ImportError as error:
        raise ImportError(f"{path} is a saved dataset; reading it needs `pip install datasets`") from error
    return datasets.load_from_disk(str(path)).with_format("arrow")[:]


def resolve_media(row: dict[str, Any], root: str | os.PathLike) -> dict[str, Any]:
    """A copy of the row with absolute media paths (relative ones start at `root`, the folder of the file).

    Media keep only the options that are set: parquet gives every key of a column to every row, as None where unset.
    """
    resolved = dict(row)
    for kind in MEDIA_OPTIONS:
        media = [{key: value for key, value in item.items() if value is not None} for item in row.get(kind + "s") or []]
        resolved[kind + "s"] = [{**item, kind: _absolute(item[kind], root)} for item in media]
    return resolved


def fill_options(video: dict[str, Any], defaults: dict[str, int | float]) -> dict[str, Any]:
    """The video with the options that its row leaves open: all of how it is sampled in time, or of its sizes, or none of them.

    Args:
        video: the media item, with only the options that are set.
        defaults: `MEDIA_OPTIONS` of a video.
    """
    for together in (_SAMPLING, _SIZES.keys() | {"total_pixels"}):
        if not together & video.keys():
            video = video | {key: value for key, value in defaults.items() if key in together}
    return video


def media_paths(row: dict[str, Any]) -> list[str]:
    """The paths of a row's media, images first."""
    return [item[kind] for kind in MEDIA_OPTIONS for item in row.get(kind + "s") or []]


def validate_row(row: dict[str, Any], root: str | os.PathLike, taxonomy: Taxonomy | None = None) -> None:
    """Check what training relies on: the task, the media files and their places in the prompt, the ground truth.

    Args:
        root: the folder of the row's file.
        taxonomy: the canonical tags of the ground truth; None for the packaged taxonomy.

    Raises:
        RowError: naming the row, the field, the value and the mend; `UnknownTask`; `MissingMedia` when all else is in
            order.
    """
    info = row.get("extra_info") or {}
    where = f"row {info.get('index')} ({row.get('data_source')}, id {info.get('id')!r})"
    task = row.get("data_source")
    try:
        family = find_family(str(task))
    except TaskError as error:
        tasks = ", ".join(TASKS)
        raise UnknownTask(f"{where}: data_source {task!r} is no task; the tasks are {tasks}, or plugged in") from error
    row = resolve_media(row, root)
    _check_places(row, where)
    truth = row["reward_model"]["ground_truth"]
    try:
        if task in TASKS:
            validate_ground_truth(task, truth, info.get("duration"), taxonomy)
        else:
            family.validate(truth, taxonomy or Taxonomy.load())
    except ValueError as error:
        raise RowError(f"{where}: reward_model.ground_truth: {error}") from error
    for path in media_paths(row):
        if "://" not in path and not os.path.exists(path):
            raise MissingMedia(f"{where}: media file {path} is missing; restore it or remove the row")


def _check_places(row: dict[str, Any], where: str) -> None:
    text = "".join(message["content"] for message in row["prompt"])
    for kind in ("image", "video", "audio"):
        places, media = text.count(f"<{kind}>"), len(row.get(kind + "s") or [])
        if places != media:
            raise RowError(f"{where}: the prompt has {places} <{kind}> and the row {media} {kind}s; make them as many")


def _kind(path: str | os.PathLike, default: str) -> str:
    kind = (mimetypes.guess_type(path)[0] or "").partition("/")[0]
    return kind if kind in MEDIA_OPTIONS else default


def _absolute(path: str, root: str | os.PathLike) -> str:
    path = path.removeprefix("file://")
    return path if "://" in path else os.path.normpath(os.path.join(root, path))


def _portable(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The row with media paths as they are stored."""
    stored = dict(row)
    for kind in MEDIA_OPTIONS:
        stored[kind + "s"] = [{**item, kind: _stored_path(item[kind], folder)} for item in row.get(kind + "s") or []]
    return stored


def _stored_path(path: str, folder: Path) -> str:
    path = _absolute(path, os.getcwd())
    if "://" in path or not Path(path).is_relative_to(folder.parent):
        return path
    return os.path.relpath(path, folder)
