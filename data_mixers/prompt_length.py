"""How many tokens a prompt will have in the rollout, known before anything is decoded.

verl refuses a multimodal prompt that is longer than `data.max_prompt_length` in the rollout, where it costs a group. The
model's own processor tells the length exactly and in milliseconds when it is given media without content (torch's `meta`
device): it goes through the same resizing and the same placeholders, and touches no pixel.
"""

import json
import logging
from collections.abc import Mapping
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from qwen_vl_utils import vision_process as qwen
from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

from .clips import hollow, plan
from .media import DECODE_SECONDS, Probe, probe

logger = logging.getLogger(__name__)

REMEMBERED = 4096
"""Lengths of prompts that differ in what their media show alone: questions of a task about clips of one length, say."""
_COUNTED: WeakKeyDictionary = WeakKeyDictionary()  # of each builder, by form


def prompt_builder(tokenizer, processor, config):
    """The object with which verl's agent loop writes a prompt (`data.apply_chat_template_kwargs`, `mm_processor_kwargs`)."""
    return create_continuous_token_builder(
        tokenizer,
        hf_model_type=getattr(getattr(processor, "config", None), "model_type", None),
        chat_template_kwargs=config.get("apply_chat_template_kwargs", {}),
        mm_processor_kwargs=config.get("mm_processor_kwargs", {}),
        processor=processor,
    )


def prompt_tokens(
    messages: list[dict[str, Any]],
    builder,
    patch: int,
    tools: list[dict] | None = None,
    seconds: float = DECODE_SECONDS,
) -> int | None:
    """The number of tokens of a prompt, media expanded; None when it cannot be known beforehand: a medium is no local file, or
    the processor wants content.

    Args:
        messages: as verl's dataset gives them (`raw_prompt`), media as parts with qwen-vl-utils' options.
        builder: of `prompt_builder`.
        patch: edge of a patch in pixels, as verl gives it to qwen-vl-utils.
        tools: the tools' schemas, where the agent loop has some.
        seconds: how long a look at a file may take.

    Raises:
        ValueError: what qwen-vl-utils would refuse in the rollout too, such as a clip with too few frames.
    """
    media = hollow_media(messages, patch, seconds)
    if media is None:
        return None
    images, videos = media
    counted, form = _COUNTED.setdefault(builder, {}), _form(messages, images, videos, tools)
    if form not in counted:
        if len(counted) == REMEMBERED:
            counted.clear()
        counted[form] = _count(builder, messages, images, videos, tools)
    return counted[form]


def _count(builder, messages: list, images: list, videos: list, tools: list | None) -> int | None:
    try:
        return len(builder.build_initial_tokens(messages, tools=tools, images=images or None, videos=videos or None))
    except (NotImplementedError, TypeError, RuntimeError) as error:
        _tell_unknown(f"{type(error).__name__}: {error}")
        return None


def _form(messages: list, images: list, videos: list, tools: list | None) -> str:
    """All that a prompt's length follows from: its words, the sizes of its media, the times of its frames."""
    words = [
        [message["role"], [part.get("text", "video" in part) for part in message["content"]]]
        if isinstance(message["content"], list)
        else [message["role"], message["content"]]
        for message in messages
    ]
    sizes = [[*image.shape] for image in images], [[*frames.shape, metadata] for frames, metadata in videos]
    return json.dumps([words, sizes, tools], default=str)


@cache
def _tell_unknown(reason: str) -> None:
    logger.warning(
        "prompts cannot be measured before they are decoded, so overlong ones fail in the rollout: %s", reason
    )


def hollow_media(
    messages: list[dict[str, Any]], patch: int, seconds: float = DECODE_SECONDS
) -> tuple[list, list] | None:
    """Images and videos of a prompt without content, as verl's builder takes them; None when one is no local file.

    Raises:
        ValueError: media that do not decode, or options that the rollout would refuse too.
    """
    parts = [part for message in messages if isinstance(message["content"], list) for part in message["content"]]
    media = [(part, kind) for part in parts for kind in ("image", "video") if kind in part]
    if not all(isinstance(part[kind], str) and "://" not in part[kind] for part, kind in media):
        return None
    found: dict[str, list] = {"image": [], "video": []}
    for part, kind in media:
        look = probe(part[kind], kind, seconds)
        if look.error:
            raise ValueError(look.error)
        found[kind].append(hollow(plan(part, look, patch)) if kind == "video" else hollow_image(part, look, patch))
    return found["image"], found["video"]


def hollow_image(part: Mapping[str, Any], found: Probe, patch: int) -> torch.Tensor:
    """An image of the size that qwen-vl-utils' `fetch_image` would give, without content: uint8 (3, height, width)."""
    factor = patch * qwen.SPATIAL_MERGE_SIZE
    fixed = "resized_height" in part and "resized_width" in part
    height, width = (part["resized_height"], part["resized_width"]) if fixed else (found.height, found.width)
    least = part.get("min_pixels", qwen.IMAGE_MIN_TOKEN_NUM * factor**2)
    most = part.get("max_pixels", qwen.IMAGE_MAX_TOKEN_NUM * factor**2)
    bounds = {} if fixed else {"min_pixels": least, "max_pixels": most}
    try:
        size = qwen.smart_resize(height, width, factor=factor, **bounds)
    except AssertionError as error:  # pixel bounds that contradict each other
        raise ValueError(f"{part['image']}: {error}") from error
    return torch.empty(3, *size, dtype=torch.uint8, device="meta")
