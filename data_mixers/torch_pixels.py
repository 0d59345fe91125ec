"""Pixels on their way from the rollouts to the trainer: as bytes, a quarter of what a processor makes of them.

A Hugging Face processor turns a picture's levels, 0 to 255, into (level x rescale_factor - mean) / std in float32, and verl keeps
that for every sequence of a step in the nodes' memory: 1.2 GB for a video of 50 K tokens, times 3,120. The levels say the same in
one byte. `sv6d.verl_plugin.engine` scales those of a micro-batch, by the processor's own code, when it is trained.
"""

from collections.abc import Callable, MutableMapping
from typing import Any

import torch

PIXEL_BYTES = {"float32": 4, "uint8": 1}
"""Of one value, by `data.mixture.pixels`."""
LEVELS = {"pixel_values": "pixel_levels", "pixel_values_videos": "pixel_levels_videos"}
"""What a model takes, and the name of its levels: an engine that knows nothing of them cannot mistake them for pixels."""
_MAKERS = {"pixel_values": "image_processor", "pixel_values_videos": "video_processor"}
_ARITHMETIC = {"do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"}


def with_levels(
    build: Callable[..., MutableMapping[str, Any]], processor: Any, *, mm_processor_kwargs=None, **inputs: Any
) -> MutableMapping[str, Any]:
    """What `build(processor, ...)` makes, with uint8 levels in the place of float32 pixels.

    Args:
        build: verl's `build_multimodal_processor_inputs`.
        mm_processor_kwargs: options of the processor, none of them of the arithmetic that is left out.

    Returns:
        `LEVELS`' names hold uint8 (patches, channels x frames x height x width of a patch); all else is as ever.

    Raises:
        ValueError: the processor does not keep bytes, or an option would change how they are scaled.
    """
    if given := _ARITHMETIC & set(mm_processor_kwargs or ()):
        raise ValueError(
            f"data.mm_processor_kwargs.{min(given)} changes how pixels are scaled, which data.mixture.pixels=uint8 leaves to the "
            "model's own processor: set it in the model's preprocessor_config.json, or data.mixture.pixels=float32"
        )
    plain = {**(mm_processor_kwargs or {}), "do_rescale": False, "do_normalize": False}
    made = build(processor, mm_processor_kwargs=plain, **inputs)
    for pixels, levels in LEVELS.items():
        if pixels in made:
            made[levels] = made.pop(pixels)
            if made[levels].dtype != torch.uint8:
                raise ValueError(
                    f"{type(processor).__name__} makes {made[levels].dtype} of a picture's bytes: set data.mixture.pixels=float32"
                )
    return made


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
