"""Shot candidates of a video by PySceneDetect, and pictures of a shot for a model to look at."""

import base64
import io
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ...schema.clock import Span

DETECTOR = 2
"""Version of how shots are found; those of another one are sought again."""
SHORTEST = 0.3
"""Seconds; what is shorter belongs to its neighbour."""
QUALITY = 85


class UnreadableVideo(ValueError):
    """A file that does not decode; the message says which and why."""


SUDDEN, NEAR = 2.0, 4
"""A cut is sudden where its frame changes so many times as much as any of so many frames on either side."""


class Shots(NamedTuple):
    """The shots of a video; they tile it."""

    edges: tuple[float, ...]
    """Seconds: where shots begin, from 0, and where the last one ends."""
    sudden: tuple[bool, ...]
    """For each edge between two shots, whether the picture changes from one frame to the next, as at a hard cut."""


def find_shots(video: Path) -> Shots:
    """The shots of a video, by PySceneDetect.

    Raises:
        UnreadableVideo: it does not open, or holds no picture.
        ModuleNotFoundError: PySceneDetect is missing; `pip install 'sv6d[annotate]'`.
    """
    from scenedetect import AdaptiveDetector, SceneManager, StatsManager, open_video
    from scenedetect.video_stream import VideoOpenFailure

    try:
        stream = open_video(str(video), backend="pyav")
        manager = SceneManager(StatsManager())
        manager.add_detector(AdaptiveDetector())
        manager.detect_scenes(stream)
    except (VideoOpenFailure, OSError, ValueError) as error:
        raise UnreadableVideo(f"{video} does not decode: {error}") from error
    seconds = round(float((stream.duration or stream.position).seconds), 3)
    if seconds <= 0:
        raise UnreadableVideo(f"{video} holds no picture")
    edges, sudden = [0.0], []
    for start, _ in manager.get_scene_list():
        cut = round(float(start.seconds), 3)
        if cut - edges[-1] >= SHORTEST and seconds - cut >= SHORTEST:
            edges.append(cut)
            sudden.append(_is_sudden(manager.stats_manager, start.frame_num))
    return Shots((*edges, seconds), tuple(sudden))


def _is_sudden(stats, frame: int) -> bool:
    """By how much each frame differs from the one before, as the detector measured it."""

    def change(number: int) -> float:
        known = number >= 0 and stats.metrics_exist(number, ["content_val"])
        return float(stats.get_metrics(number, ["content_val"])[0] or 0.0) if known else 0.0

    around = [change(frame + d) for d in range(-NEAR, NEAR + 1) if d]
    return change(frame) >= SUDDEN * max(around)


def pictures(video: Path, times: Sequence[float], longest_side: int) -> Iterator[str]:
    """Frames at these times (s, rising) as data URLs of JPEGs, no side longer than `longest_side` pixels. The film is decoded
    once, and no further than what was taken; none is held.

    Raises:
        UnreadableVideo: when the first is taken: no frame could be read.
    """
    import av

    wanted, last = deque(times), None
    try:
        with av.open(str(video)) as container:
            for frame in container.decode(video=0):
                last = frame
                while wanted and frame.time is not None and frame.time >= wanted[0]:
                    wanted.popleft()
                    yield _jpeg(frame.to_image(), longest_side)
                if not wanted:
                    return
            if last is not None:  # times behind the last frame show it
                yield from [_jpeg(last.to_image(), longest_side)] * len(wanted)
    except (av.FFmpegError, IndexError) as error:
        raise UnreadableVideo(f"{video} does not decode: {error}") from error
    if last is None:
        raise UnreadableVideo(f"{video} holds no picture")


def inside(span: Span, count: int) -> list[float]:
    """`count` times evenly inside a span, away from its cuts."""
    return [span.start + span.seconds * (i + 0.5) / count for i in range(count)]


def _jpeg(image, longest_side: int) -> str:
    image.thumbnail((longest_side, longest_side))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
