"""Can a media file be decoded? A cheap look, before a prompt is sent to the rollouts, where a failure would stop the step."""

from functools import lru_cache

import av
from PIL import Image


@lru_cache(maxsize=1 << 16)
def decode_error(path: str, kind: str) -> str | None:
    """Why a local "image" or "video" cannot be decoded, None when it can.

    An image is decoded. Of a video the first frame is decoded and the packets from the last key frame on are read, which
    finds a file that is empty, not a video, or cut short; damage in between is found only by decoding all of it.
    """
    try:
        (_probe_image if kind == "image" else _probe_video)(path)
    except (OSError, ValueError, SyntaxError, av.FFmpegError, Image.DecompressionBombError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _probe_image(path: str) -> None:
    with Image.open(path) as image:
        image.load()


def _probe_video(path: str) -> None:
    with av.open(path) as container:
        if not container.streams.video:
            raise ValueError(f"{path} has no video stream")
        stream = container.streams.video[0]
        if next(container.decode(stream), None) is None:
            raise ValueError(f"{path} has no frame that decodes")
        if stream.frames == 1:
            raise ValueError(f"{path} has a single frame; a video needs two")
        if stream.duration is None:
            return
        end = (stream.start_time or 0) + stream.duration
        container.seek(end, stream=stream)
        last = max(
            (p.pts + (p.duration or 0) for p in container.demux(stream) if p.size and not p.is_corrupt), default=0
        )
        if end - last > 2 * stream.duration / max(stream.frames, 1):
            seconds = float((end - last) * stream.time_base)
            raise ValueError(f"{path} is cut short: its last {seconds:.2f} s are missing")
