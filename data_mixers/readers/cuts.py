"""Cuts: ClipShots, AutoShot, RAI (cut-point detection). Frames become seconds by the video's own frame rate.

A hard cut lies where the new shot begins; a gradual transition, which has no faithful tag, at its middle, and the segment
behind it goes without a label.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..rows import Example
from .found import BadRow, Found, Source, Unusable, encode_segments, guarded, json_file, lines_of
from .names import mappings
from .probe import find_media, probe

Transition = tuple[float, float]
"""Last frame of the old shot, first frame of the new one: a hard cut where they are neighbours."""


def clipshots(source: Source) -> Iterator[Found]:
    """`{"NAME.mp4": {"transitions": [[a, b], ...], "frame_num": n}}`."""
    for file in source.files:
        entries = ((name, (name, told)) for name, told in json_file(file).items())
        yield from guarded(
            source, file, entries, lambda entry: _one(source, "clipshots", entry[0], entry[1]["transitions"])
        )


def autoshot(source: Source) -> Iterator[Found]:
    """Headers `NAME.mp4 [FRAMES]`, then rows `a,b` which read as transitions, as in ClipShots (its README says shots)."""

    def make(video: tuple[str, list[tuple[int, str]]]) -> Iterator[Example]:
        name, rows = video
        return _one(source, "autoshot", name, [_transition(number, row) for number, row in rows])

    for file in source.files:
        videos: list[tuple[int, tuple[str, list[tuple[int, str]]]]] = []
        for number, line in lines_of(file):
            if "," not in line:
                videos.append((number, (line.split()[0], [])))
            elif not videos:
                yield BadRow(str(file), number, "a transition before any video's name")
            else:
                videos[-1][1][1].append((number, line))
        yield from guarded(source, file, videos, make)


def _transition(number: int, row: str) -> Transition:
    """
    Raises:
        Unusable: no pair of frames; without it the video's cuts would not be whole.
    """
    try:
        a, b = (float(part) for part in row.split(","))
    except ValueError as error:
        raise Unusable(f"line {number}: {row!r} is no pair of frames a,b") from error
    return a, b


def rai(source: Source) -> Iterator[Found]:
    """`N_gt.txt`: first and last frame of a shot, a line each; its video is N."""

    def make(file: Path) -> Iterator[Example]:
        shots = [tuple(float(part) for part in line.replace(",", " ").split()[:2]) for _, line in lines_of(file)]
        transitions = [(before[1], after[0]) for before, after in itertools.pairwise(shots)]
        return _one(source, "rai", file.stem.removesuffix("_gt"), transitions)

    for file in source.files:
        yield from guarded(source, file, iter([(file.name, file)]), make)


def _one(source: Source, dataset: str, name: str, transitions: list[Any]) -> Iterator[Example]:
    path = find_media(source.media, name)
    seconds, rate = probe(path)
    tag = mappings()["ClipShots"]["width"]["map"]
    edges: list[tuple[float, str | None]] = [(0.0, None)]
    for a, b in sorted((float(a), float(b)) for a, b in transitions):
        hard = b - a <= 1
        edges.append(((b if hard else (a + b) / 2) / rate, tag["hard" if hard else "gradual"]))
    if edges[-1][0] > seconds:
        raise Unusable(f"a transition at {edges[-1][0]:.2f} s lies behind the video's end ({seconds:.2f} s)")
    segments = []
    for (start, label), end in zip(edges, [*(at for at, _ in edges[1:]), seconds], strict=True):
        if start >= end:
            raise Unusable(f"two transitions at {start:.2f} s leave no shot between them")
        labels = {"editing": {"transition_type": label}} if label else {}
        segments.append({"start": round(start, 3), "end": round(end, 3), "labels": labels})
    yield Example(
        "cut_point_detection",
        [str(path)],
        encode_segments(segments),
        duration=round(seconds, 3),
        dataset=dataset,
        id=Path(name).stem,
        split=source.split,
    )
