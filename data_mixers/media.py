"""A cheap look at a media file before its prompt is sent to the rollouts, where a failure would cost a group: does it decode,
how large is it, and when is each of its frames shown?

The look happens in a process of its own (`sv6d.rewards.limits`), which is ended when a file hangs its decoder.
"""

import os
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image

from ..rewards.limits import NotReadyError, TimeLimitError, WorkerDiedError, WorkerPool

DECODE_SECONDS = 120.0
"""What a look at a file, or decoding it, may take (`data.mixture.decode_seconds`)."""
FRAME_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
_FAR = 10.0  # seconds; over longer gaps between wanted frames the reader looks for the key frame before the next
_STEADY = 0.002  # seconds by which a frame may miss its place in a steady rate: containers round to milliseconds
_LENGTH_IN_HEADER = {"matroska,webm", "flv"}  # of the file, not of each track; other formats count what is there
_LAST_SECOND = 1.0  # seconds; tracks of such a file may end that far apart from what its header says
_TURNS = Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270


class Probe(NamedTuple):
    """What a look at a media file finds.

    Attributes:
        error: why it cannot be decoded; None when it can, and then the rest is known.
        width, height: pixels.
        frames: of a video, those that are shown; 1 for an image.
        fps: frames a second of a video; 0 for an image, and for a folder of frames, which does not know its rate.
        start: seconds from the file's beginning to the first frame (a sound track may begin earlier).
        times: of a video whose rate varies, seconds from the file's beginning at which each frame is shown; None where
            frame i is shown at `start + i / fps`.
    """

    error: str | None
    width: int = 0
    height: int = 0
    frames: int = 1
    fps: float = 0.0
    start: float = 0.0
    times: tuple[float, ...] | None = None


@lru_cache(maxsize=1 << 14)
def probe(path: str, kind: str, seconds: float = DECODE_SECONDS) -> Probe:
    """Look at a local "image" or "video" (a file, or a folder of frames); each once.

    An image is decoded. Of a video the first frame is decoded and the packets from the last key frame on are read (all, where
    no index tells the frames' times), which finds a file that is empty, not a video, or cut short. Of Matroska, WebM and FLV
    a missing second is not noticed, of transport streams nothing; nor is damage in between, which only decoding all finds.

    Args:
        seconds: how long a look may take; a file that takes longer has that as its error, and its process is gone.
    """
    try:
        return in_time("look", path, kind, seconds=seconds)
    except (TimeoutError, OSError) as error:
        return Probe(str(error))


def in_time(function: str, path: str, *arguments: Any, seconds: float) -> Any:
    """A function of this module in a process that is ended when its time is up.

    Raises:
        TimeoutError: it was; the message names the file and the setting.
        OSError: its process died (a crash in native code, or out of memory), or never began.
        Exception: what the function raises.
    """
    try:
        return _workers().submit(f"{__name__}:{function}", path, *arguments, seconds=seconds).result()
    except NotReadyError as error:
        raise OSError(f"{path} could not be looked at: {error}") from None
    except TimeLimitError:
        raise TimeoutError(
            f"{path} hangs its decoder: it was ended after data.mixture.decode_seconds={seconds:g}; "
            f"raise that if the file is only large"
        ) from None
    except WorkerDiedError:
        raise OSError(f"{path} killed the process that decoded it") from None


@cache
def _workers() -> WorkerPool:
    return WorkerPool(min(4, os.cpu_count() or 1))


os.register_at_fork(after_in_child=_workers.cache_clear)  # threads do not survive a fork


def look(path: str, kind: str) -> Probe:
    """`probe`, here and now: without its process and its time limit."""
    try:
        return (_look_at_image if kind == "image" else _look_at_video)(path)
    except (OSError, ValueError, SyntaxError, av.FFmpegError, Image.DecompressionBombError) as error:
        return Probe(f"{type(error).__name__}: {error}")


def _look_at_image(path: str) -> Probe:
    with Image.open(path) as image:
        image.load()
        return Probe(None, image.width, image.height)


def _look_at_video(path: str) -> Probe:
    if os.path.isdir(path):
        files = frame_files(path)
        return _look_at_image(files[0])._replace(frames=len(files))
    with av.open(path) as container:
        if not container.streams.video:
            raise ValueError(f"{path} has no video stream")
        stream = container.streams.video[0]
        first = next(container.decode(stream), None)
        if first is None:
            raise ValueError(f"{path} has no frame that decodes")
        if stream.duration is not None:
            _refuse_cut(path, container, stream)
        times = _steady_times(stream, first)
        if times is None:
            times = _stamped_times(path)
        if len(times) < 2:
            raise ValueError(f"{path} has a single frame; a video needs two")
        width, height = _upright(first).size
        return Probe(None, width, height, *_rate(times, (container.start_time or 0) / av.time_base))


def _upright(frame) -> Image.Image:
    """A frame as players show it: phones store what they filmed lying down, and by how much to turn it."""
    turns = round(frame.rotation / 90) % 4  # to the left
    image = frame.to_image()
    return image.transpose(_TURNS[turns - 1]) if turns else image


def frame_files(folder: str) -> list[str]:
    """The frames of a folder, in the order of the numbers in their names.

    Raises:
        ValueError: there are fewer than two.
    """
    files = [str(path) for path in Path(folder).iterdir() if path.suffix.lower() in FRAME_SUFFIXES]
    if len(files) < 2:
        raise ValueError(f"{folder} holds {len(files)} frames ({', '.join(sorted(FRAME_SUFFIXES))}); a video needs two")
    return sorted(files, key=lambda file: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file)])


def _steady_times(stream, first) -> Sequence[float] | None:
    """When each frame is shown, from the index of a file that shows all its frames at one rate; None for any other."""
    index = np.array([entry.timestamp for entry in stream.index_entries if not entry.is_discard])
    if first.pts is None or len(index) < 2 or len(index) != stream.frames:  # entries that a trimmed copy does not show
        return None
    step = (index[-1] - index[0]) / (len(index) - 1)
    if np.abs(index - index[0] - step * np.arange(len(index))).max() * stream.time_base > _STEADY:
        return None
    exact = _exact_rate(step * stream.time_base, stream)
    return (float(first.pts * stream.time_base) + np.arange(len(index)) / exact).tolist()


def _exact_rate(seconds: float, stream) -> float:
    """Frames a second; the container's own where it agrees, as 30000/1001."""
    named = float(stream.average_rate or 0)
    return named if named and abs(1 / named - seconds) * stream.frames < _STEADY else 1 / float(seconds)


def _stamped_times(path: str) -> list[float]:
    """When each frame is shown, from the packets of the whole file."""
    shown, end = [], 0.0
    with av.open(path) as container:
        video = container.streams.video[0].index
        for packet in container.demux():
            if not packet.size or packet.is_discard:
                continue
            if packet.stream_index == video:
                if packet.pts is None:
                    raise ValueError(f"{path}: its packets carry no times; write it anew with `ffmpeg -fflags +genpts`")
                shown.append(float(packet.pts * packet.time_base))
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if container.format.name in _LENGTH_IN_HEADER and container.duration:
            missing = container.duration / av.time_base - end
            if missing > _LAST_SECOND:
                raise ValueError(f"{path} is cut short: its last {missing:.2f} s are missing")
    return sorted(shown)


def _rate(times: Sequence[float], zero: float) -> tuple[int, float, float, tuple[float, ...] | None]:
    """frames, fps, start, times of a `Probe`."""
    shown = np.asarray(times) - zero
    if shown[-1] <= shown[0]:
        raise ValueError("all its frames carry the same time")
    rate = Fraction((len(shown) - 1) / (shown[-1] - shown[0]))
    fps = float(rate.limit_denominator(1001) or rate)
    steady = np.abs(shown - shown[0] - np.arange(len(shown)) / fps).max() <= _STEADY
    return len(shown), fps, round(float(shown[0]), 6), None if steady else tuple(shown.round(6).tolist())


def _refuse_cut(path: str, container, stream) -> None:
    end = (stream.start_time or 0) + stream.duration
    container.seek(end, stream=stream)
    last = max((p.pts + (p.duration or 0) for p in container.demux(stream) if p.size and not p.is_corrupt), default=0)
    if end - last > 2 * stream.duration / max(stream.frames, 1):
        seconds = float((end - last) * stream.time_base)
        raise ValueError(f"{path} is cut short: its last {seconds:.2f} s are missing")


def read_frames(path: str, times: Sequence[float], height: int, width: int, rate: float = 0.0) -> tuple:
    """Frames of a video by the time at which they are shown, resized.

    Args:
        times: rising, seconds from the file's beginning, as a `Probe` tells them.
        rate: frames a second of a folder of frames; 0 for a file.

    Returns:
        uint8 (frames, height, width, 3), and the time of each by its own stamp. Where a frame is damaged and the decoder
        leaves it out, that is the next one.

    Raises:
        ValueError: the video ends before that.
    """
    found = _folder_frames(path, times, rate) if os.path.isdir(path) else _file_frames(path, times)
    frames = np.empty((len(times), height, width, 3), np.uint8)
    stamps = []
    for place, (image, seconds) in enumerate(found):
        frames[place] = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        stamps.append(seconds)
    if len(stamps) < len(times):
        raise ValueError(f"{path}: no frame decodes from second {times[len(stamps)]:.2f} on")
    return frames, stamps


def _folder_frames(folder: str, times: Sequence[float], rate: float):
    files = frame_files(folder)
    for seconds in times:
        with Image.open(files[round(seconds * rate)]) as image:
            yield image, seconds


def _file_frames(path: str, times: Sequence[float]):
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        zero = (container.start_time or 0) / av.time_base
        keys = np.array([float(e.timestamp * stream.time_base) - zero for e in stream.index_entries if e.is_keyframe])
        decoded, at = container.decode(stream), -_FAR  # at: the time of the last frame that was decoded
        for wanted in times:
            if wanted - at > _FAR and ((at < keys) & (keys <= wanted)).any():  # else it would lead back
                container.seek(int((wanted + zero) / stream.time_base), stream=stream)
                decoded = container.decode(stream)
            while at < wanted - _STEADY:
                frame = next(decoded, None)
                if frame is None:
                    return
                at = frame.time - zero
            yield _upright(frame), round(at, 6)
