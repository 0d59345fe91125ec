"""How many tokens a prompt will have in the rollout, known before anything is decoded.

verl refuses a multimodal prompt that is longer than `data.max_prompt_length` in the rollout, where it costs a group. The
model's own processor tells the length exactly and in milliseconds when it is given media without content (torch's `meta`
device): it goes through the same resizing and the same placeholders, and touches no pixel.
"""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from qwen_vl_utils import vision_process as qwen
from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

from .media import Probe, probe

logger = logging.getLogger(__name__)


def prompt_builder(tokenizer, processor, config):
    """The object with which verl's agent loop writes a prompt (`data.apply_chat_template_kwargs`, `mm_processor_kwargs`)."""
    return create_continuous_token_builder(
        tokenizer,
        hf_model_type=getattr(getattr(processor, "config", None), "model_type", None),
        chat_template_kwargs=config.get("apply_chat_template_kwargs", {}),
        mm_processor_kwargs=config.get("mm_processor_kwargs", {}),
        processor=processor,
    )


def prompt_tokens(messages: list[dict[str, Any]], builder, patch: int, tools: list[dict] | None = None) -> int | None:
    """The number of tokens of a prompt, media expanded; None when it cannot be known beforehand: a medium is no local file, a
    video's container does not tell its frames, or the processor wants content.

    Args:
        messages: as verl's dataset gives them (`raw_prompt`), media as parts with qwen-vl-utils' options.
        builder: of `prompt_builder`.
        patch: edge of a patch in pixels, as verl gives it to qwen-vl-utils.
        tools: the tools' schemas, where the agent loop has some.

    Raises:
        ValueError: what qwen-vl-utils would refuse in the rollout too, such as a clip with too few frames.
    """
    parts = [part for message in messages if isinstance(message["content"], list) for part in message["content"]]
    media = [(part, kind) for part in parts for kind in ("image", "video") if kind in part]
    if not all(isinstance(part[kind], str) and "://" not in part[kind] for part, kind in media):
        return None
    found = [probe(part[kind], kind) for part, kind in media]
    if any(
        kind == "video" and not (look.frames > 0 and look.fps > 0) for (_, kind), look in zip(media, found, strict=True)
    ):
        return None
    try:
        hollow = [_HOLLOW[kind](part, look, patch) for (part, kind), look in zip(media, found, strict=True)]
    except AssertionError as error:  # pixel bounds that contradict each other
        raise ValueError(str(error)) from error
    images, videos = ([item for item, (_, kind) in zip(hollow, media, strict=True) if kind == each] for each in _HOLLOW)
    try:
        return len(builder.build_initial_tokens(messages, tools=tools, images=images or None, videos=videos or None))
    except (NotImplementedError, TypeError, RuntimeError) as error:
        _tell_unknown(f"{type(error).__name__}: {error}")
        return None


@cache
def _tell_unknown(reason: str) -> None:
    logger.warning(
        "prompts cannot be measured before they are decoded, so overlong ones fail in the rollout: %s", reason
    )


def hollow_image(part: Mapping[str, Any], found: Probe, patch: int) -> torch.Tensor:
    """An image of the size that qwen-vl-utils' `fetch_image` would give, without content: uint8 (3, height, width)."""
    size = _fixed_size(part, patch) or qwen.smart_resize(
        found.height,
        found.width,
        factor=_factor(patch),
        min_pixels=part.get("min_pixels", qwen.IMAGE_MIN_TOKEN_NUM * _factor(patch) ** 2),
        max_pixels=part.get("max_pixels", qwen.IMAGE_MAX_TOKEN_NUM * _factor(patch) ** 2),
    )
    return torch.empty(3, *size, dtype=torch.uint8, device="meta")


def hollow_video(part: Mapping[str, Any], found: Probe, patch: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """Frames as `fetch_video` would give them, without content, float32 (frames, 3, height, width), and their metadata."""
    first, last, total = qwen.calculate_video_frame_range(part, found.frames, found.fps)
    frames = qwen.smart_nframes(part, total_frames=total, video_fps=found.fps)
    size = _fixed_size(part, patch) or qwen.smart_resize(
        found.height, found.width, factor=_factor(patch), **_pixel_bounds(part, frames, patch)
    )
    metadata = {
        "fps": found.fps,
        "frames_indices": torch.linspace(first, last, frames).round().long().tolist(),
        "total_num_frames": total,
        "video_backend": "decord",
    }
    return torch.empty(frames, 3, *size, device="meta"), metadata


_HOLLOW = {"image": hollow_image, "video": hollow_video}


def _pixel_bounds(part: Mapping[str, Any], frames: int, patch: int) -> dict[str, float]:
    """Of one frame, as `fetch_video` computes them."""
    token = _factor(patch) ** 2
    least = part.get("min_pixels", qwen.VIDEO_MIN_TOKEN_NUM * token)
    together = part.get("total_pixels", qwen.MODEL_SEQ_LEN * token * 0.9)
    most = max(min(qwen.VIDEO_MAX_TOKEN_NUM * token, together / frames * qwen.FRAME_FACTOR), int(least * 1.05))
    return {"min_pixels": least, "max_pixels": min(part.get("max_pixels", most), most)}


def _fixed_size(part: Mapping[str, Any], patch: int) -> tuple[int, int] | None:
    if "resized_height" in part and "resized_width" in part:
        return qwen.smart_resize(part["resized_height"], part["resized_width"], factor=_factor(patch))
    return None


def _factor(patch: int) -> int:
    return patch * qwen.SPATIAL_MERGE_SIZE
