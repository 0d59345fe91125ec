"""Moments in videos: Charades-STA, QVHighlights, ActivityNet-1.3 and THUMOS14, ActivityNet Captions (temporal localization)."""

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
from .probe import find_media, length

TASK = "temporal_action_localization"


def charades_sta(source: Source) -> Iterator[Found]:
    """`VIDEO START END##sentence`, a line each; lengths are in Charades' own CSV (`--durations`), else in the video itself."""
    lengths = read_durations(source)

    def make(line: str) -> Iterator[Example]:
        where, mark, sentence = line.partition("##")
        if not mark:
            raise Unusable("has no ## between times and sentence")
        video, start, end = where.split()
        duration = length(_video(source.media, video), lengths, video)
        yield _example(source, "charades_sta", video, sentence, [span(start, end, duration)], duration)

    for file in source.files:
        yield from guarded(source, file, lines_of(file), make)


def qvhighlights(source: Source) -> Iterator[Found]:
    """JSON lines with `qid, query, duration, vid, relevant_windows`; the test file has no windows."""

    def make(row: dict[str, Any]) -> Iterator[Example]:
        if not row.get("relevant_windows"):
            raise Unusable("has no relevant_windows, as the test split has none")
        duration = float(row["duration"])
        windows = [span(start, end, duration) for start, end in sorted(row["relevant_windows"])]
        yield _example(source, "qvhighlights", row["vid"], row["query"], windows, duration, f"qid {row['qid']}")

    for file in source.files:
        yield from guarded(source, file, json_lines(file), make)


def activitynet(source: Source) -> Iterator[Found]:
    """`{"database": {id: {duration, subset, annotations: [{segment, label}]}}}`: every interval of a label is one row."""
    dropped = {"ambiguous"}  # THUMOS14's label for what its annotators did not decide

    def make(entry: tuple[str, dict[str, Any], str | None]) -> Iterator[Example]:
        video, told, label = entry
        if label is None:
            raise Unusable("has no subset, no annotations, or one without a label")
        if label.lower() in dropped:
            return
        duration = float(told["duration"])
        segments = [annotation["segment"] for annotation in told["annotations"] if annotation["label"] == label]
        spans = sorted((span(*segment, duration) for segment in segments), key=lambda s: s["start"])
        yield _example(source, "activitynet", video, label, spans, duration, f"{video}/{label}", prefix="v_")

    for file in source.files:
        yield from guarded(source, file, _labels(json_file(file)["database"], source.subset), make)


def _labels(database: dict[str, Any], subset: str | None) -> Iterator[tuple[str, Any]]:
    """(video/label, (video, what is told of it, label)): a bad interval costs its label, not its video. No label: it cannot be
    read."""
    for video, told in database.items():
        try:
            if subset and str(told["subset"]).lower() != subset.lower():
                continue
            labels = dict.fromkeys(annotation["label"] for annotation in told["annotations"])
        except (KeyError, TypeError):
            yield video, (video, told, None)
            continue
        yield from ((f"{video}/{label}", (video, told, label)) for label in labels)


def activitynet_captions(source: Source) -> Iterator[Found]:
    """`{"v_ID": {duration, timestamps, sentences}}`: one row a sentence."""

    def make(entry: tuple[str, dict[str, Any], int]) -> Iterator[Example]:
        video, told, i = entry
        if len(told["timestamps"]) != len(told["sentences"]):
            raise Unusable(f"has {len(told['timestamps'])} timestamps and {len(told['sentences'])} sentences")
        duration, (start, end) = float(told["duration"]), told["timestamps"][i]
        spans = [span(start, end, duration)]
        yield _example(source, "activitynet_captions", video, told["sentences"][i], spans, duration, f"{video}/{i}")

    for file in source.files:
        yield from guarded(source, file, _sentences(json_file(file)), make)


def _sentences(videos: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(video/number, (video, what is told of it, number)) of each sentence; of a video without readable ones, the first."""
    for video, told in videos.items():
        sentences = told.get("sentences") if isinstance(told, dict) else None
        count = len(sentences) if isinstance(sentences, list) else 1
        yield from ((f"{video}/{i}", (video, told, i)) for i in range(count))


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


def _video(folder: Path, name: str, prefix: str = "") -> Path:
    """ActivityNet's ids lack the `v_` of its files' names, and THUMOS14's do not."""
    plain, prefixed = find_media(folder, name), find_media(folder, prefix + name)
    return prefixed if prefix and prefixed.is_file() and not plain.is_file() else plain
