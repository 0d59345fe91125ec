"""Labelled shots: ShotBench and ShotQA, MovieCuts, AVE. A clip that is one shot is one segment; AVE's scenes have several."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..rows import Example
from .found import Found, Source, Unusable, encode_segments, guarded, json_file, read_durations, table_rows
from .names import by_task, canonical
from .probe import find_media, length

AVE_COLUMNS = {
    "shot_framing": ("shot-size", "shot-angle"),
    "camera_movement": ("shot-motion",),
    "subject": ("shot-type", "num-people"),
}
"""Its columns by the task that asks for them. The later one says only what the earlier leaves open: a `two shot` with three
people in its background stays one."""
Labels = dict[str, dict[str, str | list[str]]]


def shotbench(source: Source) -> Iterator[Found]:
    """`index, type, path, question, options, answer, category`, tab-separated; ShotQA is read alike.

    A video's answer becomes the labels of one segment; a picture has no timeline, so its question stays one, of reasoning.
    """

    def make(row: dict[str, str]) -> Iterator[Example]:
        kind, path = _first(row["type"]), source.media / _first(row["path"])
        options = json.loads(row["options"])
        said = options[row["answer"].strip()]
        common = {"dataset": "shotbench", "id": row["index"], "split": source.split}
        if kind == "image":
            choices = "\n".join(f"{letter}. {text}" for letter, text in options.items())
            question = f"{row['question'].strip()}\n{choices}\nAnswer with the letter."
            thought = f"This shows {said}."
            yield Example(
                "visual_reasoning", [str(path)], row["answer"].strip(), query=question, thought=thought, **common
            )
            return
        tags = canonical("ShotBench", row["category"].strip().lower(), re.split(r", | and ", said))
        if not tags:
            raise Unusable(f"{said!r} has no faithful tag (mappings.yaml)")
        seconds = length(path, {})
        for task, labels in by_task(tags).items():
            yield _whole(task, path, labels, seconds, **common)

    for file in source.files:
        yield from guarded(source, file, table_rows(file, "\t"), make)


def moviecuts(source: Source) -> Iterator[Found]:
    """`{"cut_types": [...], "annotations": {clip: {subset, labels: [0 or 1, ...]}}}`."""
    lengths = read_durations(source)
    for file in source.files:
        told = json_file(file)
        kinds = told["cut_types"]

        def make(entry: tuple[str, dict[str, Any]], kinds=kinds) -> Iterator[Example]:
            clip, labels = entry
            if source.subset and str(labels["subset"]).lower() != source.subset.lower():
                return
            names = [kind for kind, present in zip(kinds, labels["labels"], strict=True) if present]
            tags = canonical("MovieCuts", "cut_types", names)
            if not tags:
                raise Unusable("has no cut type")
            path = find_media(source.media, clip)
            for task, told in by_task(tags).items():
                yield _whole(
                    task, path, told, length(path, lengths, clip), dataset="moviecuts", id=clip, split=source.split
                )

        entries = ((clip, (clip, labels)) for clip, labels in told["annotations"].items())
        yield from guarded(source, file, entries, make)


def ave(source: Source) -> Iterator[Found]:
    """`{scene: {shot: {start-time, end-time, shot-size, ...}}}`, each value a list: one row a scene and task, all its shots in
    order. A shot whose names have no faithful tag has no label; a name that is not mapped costs the scene's row of that task."""
    lengths = read_durations(source)

    def make(entry: tuple[str, dict[str, Any], str]) -> Iterator[Example]:
        scene, shots, task = entry
        if not any(shot.get(column) for shot in shots.values() for column in AVE_COLUMNS[task]):
            return
        path = find_media(source.media, scene)
        seconds = length(path, lengths, scene)
        segments = []
        for shot in sorted(shots.values(), key=lambda shot: float(_only(shot["start-time"]))):
            start, end = (float(_only(shot[key])) for key in ("start-time", "end-time"))
            segments.append({"start": start, "end": min(end, seconds), "labels": _ave_labels(shot, task)})
        if not any(segment["labels"] for segment in segments):
            raise Unusable(f"no shot of the scene has a label of {task} with a faithful tag")
        yield Example(
            task,
            [str(path)],
            encode_segments(segments),
            duration=seconds,
            dataset="ave",
            id=f"{scene}/{task}",
            split=source.split,
        )

    for file in source.files:
        told = json_file(file)
        entries = ((f"{scene}/{task}", (scene, told[scene], task)) for scene in told for task in AVE_COLUMNS)
        yield from guarded(source, file, entries, make)


def _ave_labels(shot: dict[str, Any], task: str) -> Labels:
    """A shot's labels in one task's row; empty where its names have no faithful tag."""
    tags: dict = {}
    for column in AVE_COLUMNS[task]:
        for sub, names in canonical("AVE", column, map(str, shot.get(column) or [])).items():
            tags.setdefault(sub, names)
    return by_task(tags).get(task, {})


def _whole(task: str, path: Path, labels: dict, seconds: float, **common: str) -> Example:
    segment = {"start": 0.0, "end": round(seconds, 3), "labels": labels}
    return Example(task, [str(path)], encode_segments([segment]), duration=round(seconds, 3), **common)


def _first(text: str) -> str:
    """The one entry of a list that is written as text, as ShotBench's columns are; or the text itself."""
    try:
        told = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return str(told[0]) if isinstance(told, list) else text


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value
