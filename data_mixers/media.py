"""A cheap look at a media file before its prompt is sent to the rollouts, where a failure would cost a group: does it decode,
and how large is it?"""

from functools import lru_cache
from typing import NamedTuple

import av
from PIL import Image


class Probe(NamedTuple):
    """What a look at a media file finds.

    Attributes:
        error: why it cannot be decoded; None when it can, and then the rest is known.
        width, height: pixels.
        frames: of a video, as its container counts them; 1 for an image.
        fps: frames a second of a video; 0 for an image.
    """

    error: str | None
    width: int = 0
    height: int = 0
    frames: int = 1
    fps: float = 0.0


@lru_cache(maxsize=1 << 16)
def probe(path: str, kind: str) -> Probe:
    """Look at a local "image" or "video"; each file once.

    An image is decoded. Of a video the first frame is decoded and the packets from the last key frame on are read, which
    finds a file that is empty, not a video, or cut short; damage in between is found only by decoding all of it.
    """
    try:
        return (_probe_image if kind == "image" else _probe_video)(path)
    except (OSError, ValueError, SyntaxError, av.FFmpegError, Image.DecompressionBombError) as error:
        return Probe(f"{type(error).__name__}: {error}")


def _probe_image(path: str) -> Probe:
    with Image.open(path) as image:
        image.load()
        return Probe(None, image.width, image.height)


def _probe_video(path: str) -> Probe:
    with av.open(path) as container:
        if not container.streams.video:
            raise ValueError(f"{path} has no video stream")
        stream = container.streams.video[0]
        if next(container.decode(stream), None) is None:
            raise ValueError(f"{path} has no frame that decodes")
        if stream.frames == 1:
            raise ValueError(f"{path} has a single frame; a video needs two")
        _refuse_cut(path, container, stream)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        seconds = (stream.duration or 0) * float(stream.time_base or 0) or (container.duration or 0) / av.time_base
        return Probe(None, stream.width, stream.height, stream.frames or round(seconds * fps), fps)


def _refuse_cut(path: str, container, stream) -> None:
    if stream.duration is None:
        return
    end = (stream.start_time or 0) + stream.duration
    container.seek(end, stream=stream)
    last = max((p.pts + (p.duration or 0) for p in container.demux(stream) if p.size and not p.is_corrupt), default=0)
    if end - last > 2 * stream.duration / max(stream.frames, 1):
        seconds = float((end - last) * stream.time_base)
        raise ValueError(f"{path} is cut short: its last {seconds:.2f} s are missing")
