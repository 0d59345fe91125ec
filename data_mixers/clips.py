"""Which frames of a video the model sees, how large, and when each is shown (section 5: 4 frames a second, at most 768 frames,
50 K tokens a video).

A clip is planned from a look at the file (`media.probe`), before anything is decoded, so a prompt's length is known beforehand.
How many frames, and their sizes, follow qwen-vl-utils' rules; the frames' times are those of the file's own stamps, which its
readers replace by a frame's number over the mean rate.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from qwen_vl_utils import vision_process as qwen

from .media import DECODE_SECONDS, Probe, in_time, probe

_TICKS = 1000  # a second, of the clock on which the frames of an unsteady video are told
_TOLERANCE = 0.002  # seconds


class Clip(NamedTuple):
    """What is seen of a video.

    Attributes:
        indices: numbers of the frames, of those that the file shows, from 0 on.
        times: when each is shown, seconds from the file's beginning.
        height, width: pixels of each.
        fps, total: the file's mean rate, and how many frames it shows.
    """

    indices: list[int]
    times: list[float]
    height: int
    width: int
    fps: float
    total: int

    @property
    def metadata(self) -> dict[str, Any]:
        """What a Hugging Face processor is told: it writes `frames_indices / fps` into the prompt.

        Those are the frames' own numbers where the file is steady and begins with its first frame. Elsewhere they are
        milliseconds, with 1,000 of them a second, so that the quotient is the true time.
        """
        about = {"frames_indices": list(self.indices), "fps": self.fps, "total_num_frames": self.total}
        if np.abs(np.asarray(self.indices) / self.fps - self.times).max() > _TOLERANCE:
            ticks = [round(seconds * _TICKS) for seconds in self.times]
            whole = round(max(self.total / self.fps, self.times[-1]) * _TICKS)
            about = {"frames_indices": ticks, "fps": float(_TICKS), "total_num_frames": whole}
        return {**about, "video_backend": "pyav"}


def plan(part: Mapping[str, Any], found: Probe, patch: int) -> Clip:
    """The clip of a video part of a message.

    Args:
        part: `rows.MEDIA_OPTIONS["video"]`: `fps` (2 unless given) or `nframes`, `min_frames`, `max_frames`, the pixel limits,
            `video_start` and `video_end` in seconds, `sample_fps` of a folder of frames.
        found: of `media.probe`, without an error.
        patch: edge of the vision tower's patches in pixels; sizes are multiples of twice that.

    Raises:
        ValueError: options that contradict each other, or that leave fewer than two frames.
    """
    fps = found.fps or part.get("sample_fps") or 0
    if fps <= 0:
        raise ValueError(
            f"{part['video']} does not tell its rate; set sample_fps of the row's video, the frames a second at which it was cut"
        )
    shown = np.asarray(found.times) if found.times is not None else found.start + np.arange(found.frames) / fps
    first, last = _range(part, shown)
    try:
        count = _count(part, last - first + 1, fps)
    except AssertionError as error:
        raise ValueError(f"{part['video']}: {error}") from error
    indices = torch.linspace(first, last, count).round().long().tolist()
    height, width = _size(part, found, count, patch)
    return Clip(indices, shown[indices].round(6).tolist(), height, width, fps, found.frames)


def _count(part: Mapping[str, Any], frames: int, fps: float) -> int:
    """How many of a clip's `frames`, which the file shows at `fps` a second, are seen.

    Raises:
        AssertionError, ValueError: qwen-vl-utils', of options that contradict each other, or leave too few.
    """
    asked = dict(part)
    if "nframes" not in asked and frames / fps * asked.get("fps", qwen.FPS) > frames:
        # There are no more than all of them. Asked for more, qwen-vl-utils warns at each plan, and not of which file.
        asked["fps"] = fps = 1.0
    return qwen.smart_nframes(asked, total_frames=frames, video_fps=fps)


def _range(part: Mapping[str, Any], shown: np.ndarray) -> tuple[int, int]:
    """The first and the last frame that are shown between `video_start` and `video_end`."""
    start, end = part.get("video_start"), part.get("video_end")
    first = 0 if start is None else int(np.searchsorted(shown, start - _TOLERANCE))
    last = len(shown) - 1 if end is None else int(np.searchsorted(shown, end + _TOLERANCE)) - 1
    if first >= last:
        raise ValueError(
            f"{part['video']} has {max(last - first + 1, 0)} frames between video_start={start} and video_end={end}; a clip "
            f"needs two, and the video lasts {shown[-1]:.2f} s"
        )
    return first, last


def _size(part: Mapping[str, Any], found: Probe, frames: int, patch: int) -> tuple[int, int]:
    """Height and width of each frame. `total_pixels` is a budget: where `min_pixels` would break it, it gives way."""
    factor = patch * qwen.SPATIAL_MERGE_SIZE
    token = factor**2
    if "resized_height" in part and "resized_width" in part:
        return qwen.smart_resize(part["resized_height"], part["resized_width"], factor=factor)
    least = part.get("min_pixels", qwen.VIDEO_MIN_TOKEN_NUM * token)
    most = part.get("max_pixels", max(qwen.VIDEO_MAX_TOKEN_NUM * token, least))
    if least > most:
        raise ValueError(f"{part['video']}: min_pixels={least} is more than max_pixels={most}")
    share = part.get("total_pixels", qwen.MODEL_SEQ_LEN * token * 0.9) / frames * qwen.FRAME_FACTOR
    bounds = {"min_pixels": min(least, share), "max_pixels": min(most, share)}
    size = qwen.smart_resize(found.height, found.width, factor=factor, **bounds)
    if size[0] * size[1] > bounds["max_pixels"]:  # a small picture, enlarged: to the next multiples above min_pixels
        scale = math.sqrt(bounds["max_pixels"] / (found.height * found.width))
        size = tuple(qwen.floor_by_factor(edge * scale, factor) for edge in (found.height, found.width))
    if min(size) < factor:
        raise ValueError(
            f"{part['video']}: {frames} frames of {found.width} x {found.height} pixels do not fit into total_pixels="
            f"{part.get('total_pixels')}; lower fps or max_frames"
        )
    return size


def hollow(clip: Clip) -> tuple[torch.Tensor, dict[str, Any]]:
    """A clip without content, uint8 (frames, 3, height, width) on torch's `meta` device, and its metadata."""
    size = len(clip.indices), 3, clip.height, clip.width
    return torch.empty(size, dtype=torch.uint8, device="meta"), clip.metadata


def fetch(part: Mapping[str, Any], patch: int, seconds: float = DECODE_SECONDS) -> tuple[torch.Tensor, dict[str, Any]]:
    """Decode the clip of a part in a process that is ended when its time is up.

    Returns:
        uint8 (frames, 3, height, width), and its metadata. (qwen-vl-utils gives the same levels as float32, four times as large:
        1.2 GB for 50 K tokens.)

    Raises:
        ValueError: it does not decode, or its options contradict each other.
        TimeoutError: it took more than `seconds`.
    """
    path = part["video"]
    found = probe(path, "video", seconds)
    if found.error:
        raise ValueError(found.error)
    clip = plan(part, found, patch)
    frames, times = in_time(
        "read_frames", path, clip.times, clip.height, clip.width, part.get("sample_fps", 0.0), seconds=seconds
    )
    return torch.from_numpy(frames).permute(0, 3, 1, 2), clip._replace(times=times).metadata
