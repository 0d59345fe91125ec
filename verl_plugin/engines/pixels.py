"""Pixels on their way from the rollouts to the trainer: as bytes, a quarter of what a processor makes of them.

A Hugging Face processor turns a picture's levels, 0 to 255, into (level x rescale_factor - mean) / std in float32, and verl keeps
that for every sequence of a step in the nodes' memory: 1.2 GB for a video of 50 K tokens, times 3,120. The levels say the same in
one byte. `rollouts/manager.py` sends them, and `fsdp.py` scales those of a micro-batch by the processor's own code.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

import torch

LEVELS = {"pixel_values": "pixel_levels", "pixel_values_videos": "pixel_levels_videos"}
"""What a model takes, and the name of its levels: an engine that knows nothing of them cannot mistake them for pixels."""
STRATEGIES = ["fsdp", "fsdp2"]
"""Of the trainers whose engine is ours (`fsdp.py`)."""
_MAKERS = {"pixel_values": "image_processor", "pixel_values_videos": "video_processor"}
_ARITHMETIC = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")


def unscaled(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Options with which a processor leaves the levels as they are; None where they change the arithmetic, of which the trainer
    would not know."""
    if any(name in options for name in _ARITHMETIC):
        return None
    return {**options, "do_rescale": False, "do_normalize": False}


def as_levels(inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a processor made with `unscaled` options, its pixels under the names of levels, uint8 (patches, values of a patch); None
    where it does not keep bytes."""
    if any(inputs[pixels].dtype != torch.uint8 for pixels in LEVELS if pixels in inputs):
        return None
    return {LEVELS.get(name, name): value for name, value in inputs.items()}


def scale_levels(inputs: MutableMapping[str, Any], processor: Any) -> None:
    """Put a model's pixels in the place of their levels, float32 (patches, values of a patch) on the same device."""
    for pixels, levels in LEVELS.items():
        if levels in inputs:
            inputs[pixels] = _scaled(inputs.pop(levels), getattr(processor, _MAKERS[pixels]))


def _scaled(levels: torch.Tensor, maker: Any) -> torch.Tensor:
    mean, deviation = tuple(maker.image_mean), tuple(maker.image_std)  # hashable, for its cache
    planes = levels.reshape(len(levels), len(mean), 1, -1)  # a patch holds one channel after the other
    scaled = maker.rescale_and_normalize(
        planes, maker.do_rescale, maker.rescale_factor, maker.do_normalize, mean, deviation
    )
    return scaled.reshape(levels.shape)
