"""Moments in videos: Charades-STA, QVHighlights, ActivityNet-1.3 and THUMOS14, ActivityNet Captions (temporal localization)."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..rows import Example
from .found import (
    Found,
    Source,
    Unusable,
    encode_segments,
    guarded,
    json_file,
    json_lines,
    lines_of,
    read_durations,
    span,
)
from .probe import find_media

TASK = "temporal_action_localization"


def charades_sta(source: Source) -> Iterator[Found]:
    """`VIDEO START END##sentence`, a line each; lengths are in Charades' own CSV (`--durations`)."""
    lengths = read_durations(source)

    def make(line: str) -> Iterator[Example]:
        where, mark, sentence = line.partition("##")
        if not mark:
            raise Unusable("has no ## between times and sentence")
        video, start, end = where.split()
        duration = lengths.get(video)
        yield _example(source, "charades_sta", video, sentence, [span(start, end, duration)], duration)

    for file in source.files:
        yield from guarded(file, lines_of(file), make)


def qvhighlights(source: Source) -> Iterator[Found]:
    """JSON lines with `qid, query, duration, vid, relevant_windows`; the test file has no windows."""

    def make(row: dict[str, Any]) -> Iterator[Example]:
        if not row.get("relevant_windows"):
            raise Unusable("has no relevant_windows, as the test split has none")
        duration = float(row["duration"])
        windows = [span(start, end, duration) for start, end in sorted(row["relevant_windows"])]
        yield _example(source, "qvhighlights", row["vid"], row["query"], windows, duration, f"qid {row['qid']}")

    for file in source.files:
        yield from guarded(file, json_lines(file), make)


def activitynet(source: Source) -> Iterator[Found]:
    """`{"database": {id: {duration, subset, annotations: [{segment, label}]}}}`: every interval of a label is one row."""
    dropped = {"ambiguous"}  # THUMOS14's label for what its annotators did not decide

    def make(entry: tuple[str, dict[str, Any]]) -> Iterator[Example]:
        video, told = entry
        if source.subset and str(told["subset"]).lower() != source.subset.lower():
            return
        duration = float(told["duration"])
        by_label = defaultdict(list)
        for annotation in told["annotations"]:
            by_label[annotation["label"]].append(span(*annotation["segment"], duration))
        for label, spans in by_label.items():
            if label.lower() not in dropped:
                spans.sort(key=lambda s: s["start"])
                yield _example(source, "activitynet", video, label, spans, duration, f"{video}/{label}", prefix="v_")

    for file in source.files:
        yield from guarded(file, ((name, (name, told)) for name, told in json_file(file)["database"].items()), make)


def activitynet_captions(source: Source) -> Iterator[Found]:
    """`{"v_ID": {duration, timestamps, sentences}}`: one row a sentence."""

    def make(entry: tuple[str, dict[str, Any]]) -> Iterator[Example]:
        video, told = entry
        duration = float(told["duration"])
        for i, ((start, end), sentence) in enumerate(zip(told["timestamps"], told["sentences"], strict=True)):
            yield _example(
                source, "activitynet_captions", video, sentence, [span(start, end, duration)], duration, f"{video}/{i}"
            )

    for file in source.files:
        yield from guarded(file, ((name, (name, told)) for name, told in json_file(file).items()), make)


def _example(
    source: Source,
    dataset: str,
    video: str,
    query: str,
    spans: list[dict],
    duration: float | None,
    id: str = "",
    prefix: str = "",
) -> Example:
    if not query.strip():
        raise Unusable("has no query")
    return Example(
        TASK,
        [str(_video(source.media, video, prefix))],
        encode_segments(spans),
        query=query.strip(),
        duration=duration,
        dataset=dataset,
        id=id or f"{video} {spans[0]['start']:g}-{spans[0]['end']:g}",
        split=source.split,
    )


def _video(folder: Path, name: str, prefix: str) -> Path:
    """ActivityNet's ids lack the `v_` of its files' names, and THUMOS14's do not."""
    plain, prefixed = find_media(folder, name), find_media(folder, prefix + name)
    return prefixed if prefix and prefixed.is_file() and not plain.is_file() else plain
