"""Shot candidates of a video by PySceneDetect, and pictures of a shot for a model to look at."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from ...schema.clock import Span

DETECTOR = 1
"""Version of how shots are found; those of another one are sought again."""
SHORTEST = 0.3
"""Seconds; what is shorter belongs to its neighbour."""
QUALITY = 85


class UnreadableVideo(ValueError):
    """A file that does not decode; the message says which and why."""


def find_shots(video: Path) -> list[float]:
    """Where the shots of a video begin, from 0, and where the last one ends, in seconds: they tile it.

    Raises:
        UnreadableVideo: it does not open, or holds no picture.
        ModuleNotFoundError: PySceneDetect is missing; `pip install 'sv6d[annotate]'`.
    """
    from scenedetect import AdaptiveDetector, SceneManager, open_video
    from scenedetect.video_stream import VideoOpenFailure

    try:
        stream = open_video(str(video), backend="pyav")
        manager = SceneManager()
        manager.add_detector(AdaptiveDetector())
        manager.detect_scenes(stream)
    except (VideoOpenFailure, OSError, ValueError) as error:
        raise UnreadableVideo(f"{video} does not decode: {error}") from error
    seconds = round(float((stream.duration or stream.position).seconds), 3)
    if seconds <= 0:
        raise UnreadableVideo(f"{video} holds no picture")
    cuts = [round(float(start.seconds), 3) for start, _ in manager.get_scene_list()]
    edges = [0.0]
    for cut in cuts:
        if cut - edges[-1] >= SHORTEST and seconds - cut >= SHORTEST:
            edges.append(cut)
    return [*edges, seconds]


def pictures(video: Path, times: Sequence[float], longest_side: int) -> list[str]:
    """Frames at these times (s, rising) as data URLs of JPEGs, no side longer than `longest_side` pixels.

    Raises:
        UnreadableVideo: no frame could be read.
    """
    import av

    found, wanted, last = [], list(times), None
    try:
        with av.open(str(video)) as container:
            for frame in container.decode(video=0):
                last = frame
                while wanted and frame.time is not None and frame.time >= wanted[0]:
                    found.append(_jpeg(frame.to_image(), longest_side))
                    wanted.pop(0)
                if not wanted:
                    break
            if wanted and last is not None:  # times behind the last frame show it
                found += [_jpeg(last.to_image(), longest_side)] * len(wanted)
    except (av.FFmpegError, IndexError) as error:
        raise UnreadableVideo(f"{video} does not decode: {error}") from error
    if not found:
        raise UnreadableVideo(f"{video} holds no picture")
    return found


def inside(span: Span, count: int) -> list[float]:
    """`count` times evenly inside a span, away from its cuts."""
    return [span.start + span.seconds * (i + 0.5) / count for i in range(count)]


def _jpeg(image, longest_side: int) -> str:
    image.thumbnail((longest_side, longest_side))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
