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

AVE_COLUMNS = ("shot-size", "shot-angle", "shot-motion", "shot-type")


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
        yield from guarded(file, table_rows(file, "\t"), make)


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

        yield from guarded(file, ((clip, (clip, labels)) for clip, labels in told["annotations"].items()), make)


def ave(source: Source) -> Iterator[Found]:
    """`{scene: {shot: {start-time, end-time, shot-size, ...}}}`, each value a list: one row a scene and task, its shots in order."""
    lengths = read_durations(source)

    def make(entry: tuple[str, dict[str, Any]]) -> Iterator[Example]:
        scene, shots = entry
        path = find_media(source.media, scene)
        seconds = length(path, lengths, scene)
        by: dict[str, list[dict]] = {}
        for shot in sorted(shots.values(), key=lambda shot: float(_only(shot["start-time"]))):
            start, end = (float(_only(shot[key])) for key in ("start-time", "end-time"))
            tags: dict = {}
            for column in AVE_COLUMNS:
                for sub, names in canonical("AVE", column, shot.get(column) or []).items():
                    tags.setdefault(sub, []).extend(names)
            for task, labels in by_task(tags).items():
                by.setdefault(task, []).append({"start": start, "end": min(end, seconds), "labels": labels})
        if not by:
            raise Unusable("no shot of the scene has a label with a faithful tag")
        for task, segments in by.items():
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
        yield from guarded(file, ((scene, (scene, shots)) for scene, shots in json_file(file).items()), make)


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
