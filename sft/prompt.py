"""The prompt that a rollout would see, token for token, with its pixels and positions.

verl's own SFT dataset gives the processor no video metadata: Qwen3-VL then writes times at an assumed 24 frames a second into
the prompt, other times than the policy reads in RL. Here every step is the function that verl's agent loop itself calls.
"""

import re
from typing import Any

import torch
from verl.utils.tokenizer import get_processor_token_id

from ..data_mixers.prompt_length import prompt_builder
from ..data_mixers.rows import fill_options
from ..data_mixers.verl_dataset import MixtureDataset

MEDIA_MARK = re.compile(r"(<image>|<video>)")


class Prompter:
    """Turns a row's messages into what the model reads.

    Args:
        tokenizer, processor: as verl loads them (`hf_tokenizer`, `hf_processor`); the processor is None for a text-only model.
        config: verl's `data` block; `apply_chat_template_kwargs` and `mm_processor_kwargs` count here as they do in RL.
    """

    def __init__(self, tokenizer, processor, config):
        self.processor = processor
        self.config = config
        self.patch_size = getattr(getattr(processor, "image_processor", None), "patch_size", 14)
        self.builder = prompt_builder(tokenizer, processor, config)

    def prompt(self, row: dict[str, Any]) -> tuple[list[int], dict[str, torch.Tensor]]:
        """Decode a row's media and build its prompt.

        Args:
            row: an RL or SFT row with absolute media paths (`data_mixers.rows.read_rows`).

        Returns:
            Token ids up to and with the generation prompt, and the model's media inputs (`pixel_values_videos`,
            `video_grid_thw`, ...; empty for text).
        """
        defaults = self.config.get("mixture", {}).get("video") or {}
        row = {**row, "videos": [fill_options(video, defaults) for video in row["videos"]]}
        messages = [{**message, "content": parts(message["content"], row)} for message in row["prompt"]]
        images, videos, _ = MixtureDataset._process_multi_modal_info(messages, self.patch_size, self.config)
        features: dict[str, Any] = {}
        ids = self.builder.build_initial_tokens(messages, images=images, videos=videos, mm_inputs_out=features)
        for name in ("attention_mask", "mm_token_type_ids"):
            features.pop(name, None)
        return ids, features

    def positions(self, ids: torch.Tensor, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Position ids as verl's agent loop computes them: (4, n) for a model with mRoPE (text, time, height, width), else (n,).

        Args:
            ids: int64 (n,), prompt and answer.
            features: the prompt's media inputs.
        """
        text = torch.arange(len(ids))
        if not hasattr(self.processor, "get_rope_index"):
            return text
        kinds = self.kinds(ids)
        vision, _ = self.processor.get_rope_index(
            input_ids=ids[None],
            attention_mask=torch.ones_like(ids)[None],
            mm_token_type_ids=kinds[None],
            image_grid_thw=features.get("image_grid_thw"),
            video_grid_thw=features.get("video_grid_thw"),
        )
        return torch.cat([text[None], vision[:, 0]])

    def kinds(self, ids: torch.Tensor) -> torch.Tensor:
        """What each token stands for, as Qwen's processors count it: 0 text, 1 image, 2 video."""
        kinds = torch.zeros_like(ids)
        for kind, name in enumerate(("image", "video"), start=1):
            if self.processor is not None:
                kinds[ids == get_processor_token_id(self.processor, name)] = kind
        return kinds


def parts(text: str, row: dict[str, Any]) -> str | list[dict[str, Any]]:
    """A message's content with each `<image>` and `<video>` replaced by the row's media, in order; plain text stays text."""
    pieces = [piece for piece in MEDIA_MARK.split(text) if piece]
    if not any(MEDIA_MARK.fullmatch(piece) for piece in pieces):
        return text if not (row["images"] or row["videos"]) else [{"type": "text", "text": piece} for piece in pieces]
    media = {"<image>": iter(row["images"]), "<video>": iter(row["videos"])}
    return [
        {"type": piece[1:-1], **next(media[piece])} if piece in media else {"type": "text", "text": piece}
        for piece in pieces
    ]
