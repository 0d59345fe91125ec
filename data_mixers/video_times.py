"""What times is the model told, and what times does it see? Tasks that ask for seconds are only as right as the two agree.

Qwen3-VL sees frames in pairs and reads a time before each pair, which its processor writes into the prompt. `told_times` plans a
prompt's clips, lets the processor write the prompt, and reads the times back, without decoding.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from .clips import plan
from .media import DECODE_SECONDS, probe
from .prompt_length import hollow_media

_TIMESTAMP = re.compile(r"<(\d+(?:\.\d+)?) seconds>$")
LONGEST_TIMESTAMP = 24  # tokens; "<12345.5 seconds>" has 17 characters, Qwen's tokenizer needs 11
ROUNDING = 0.05
"""Seconds by which a right time may be off: prompts tell tenths."""


class VideoTimes(NamedTuple):
    """Of one video of a prompt.

    Attributes:
        path: the file.
        indices: numbers of the frames that are sampled.
        file: when each of them is shown, seconds from the file's beginning, by the file's own stamps.
        seen: the mean of `file` over each pair of frames, which the model sees as one.
        told: the time before each pair in the prompt; empty where the model's prompts tell none.
    """

    path: str
    indices: list[int]
    file: list[float]
    seen: list[float]
    told: list[float]

    @property
    def error(self) -> float:
        """The largest difference between told and seen, seconds; infinite when a pair is told no time."""
        if len(self.told) != len(self.seen):
            return float("inf")
        return max(abs(told - seen) for told, seen in zip(self.told, self.seen, strict=True))


def told_times(
    messages: list[dict[str, Any]], builder, patch: int, seconds: float = DECODE_SECONDS
) -> list[VideoTimes] | None:
    """The times of each video of a prompt, in order; None when one is no local file.

    Args:
        messages: as the dataset gives them (`raw_prompt`).
        builder: of `prompt_length.prompt_builder(tokenizer, processor, config.data)`.
        patch: edge of the vision tower's patches in pixels (`processor.image_processor.patch_size`).
        seconds: how long a look at a file may take.

    Raises:
        ValueError: media that do not decode, or options that the rollout would refuse too.
    """
    hollow = hollow_media(messages, patch, seconds)
    if hollow is None:
        return None
    images, videos = hollow
    ids = builder.build_initial_tokens(messages, images=images or None, videos=videos or None)
    told = iter(clock(ids, builder.processor))
    parts = [part for message in messages if isinstance(message["content"], list) for part in message["content"]]
    found = []
    for part in (part for part in parts if "video" in part):
        clip = plan(part, probe(part["video"], "video", seconds), patch)
        seen = pair_means(clip.times)
        own = [time for _, time in zip(seen, told, strict=False) if time is not None]
        found.append(VideoTimes(part["video"], clip.indices, clip.times, seen, own))
    return found


def pair_means(times: list[float]) -> list[float]:
    """The mean of each pair of consecutive numbers; a last one without a partner stands for itself."""
    return [sum(times[i : i + 2]) / len(times[i : i + 2]) for i in range(0, len(times), 2)]


def clock(ids: Iterable[int], processor) -> list[float | None]:
    """The times that a prompt's tokens tell, one for each run of video pads; None for a run that has none before it."""
    ids = list(ids)
    start, pad = processor.vision_start_token_id, processor.video_token_id
    begins = [i for i in range(1, len(ids)) if ids[i] == pad and ids[i - 1] == start]
    return [_time_before(ids[max(i - 1 - LONGEST_TIMESTAMP, 0) : i - 1], processor) for i in begins]


def _time_before(ids: list[int], processor) -> float | None:
    match = _TIMESTAMP.search(processor.tokenizer.decode(ids))
    return float(match[1]) if match else None
