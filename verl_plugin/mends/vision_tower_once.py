"""verl 0.9.1, `models/transformers/qwen3_vl.py:216-238`, any device: ranks call the vision tower a different number of
times.

A micro-batch with images *and* videos runs the tower twice, any other once. Under FSDP the tower's all-gathers are
collectives: when the ranks hold different mixtures, gloo aborts ("collective mismatch") and NCCL would wait for ever.
The mend runs the tower once over the concatenated patches and hands each half its own features.
"""

from types import SimpleNamespace

import torch

from ..after_import import replace


def needed(qwen3_vl) -> bool:
    """Tries a sequence of an image and a clip: not once verl itself calls the tower a single time."""
    calls = []

    def visual(patches, grid_thw):
        calls.append(len(patches))
        features = torch.zeros(len(patches), 1)
        return features, [features]

    visual.dtype = torch.float32
    image, video = 0, 1
    model = SimpleNamespace(
        visual=visual,
        config=SimpleNamespace(
            image_token_id=image, video_token_id=video, vision_config=SimpleNamespace(spatial_merge_size=1)
        ),
        get_input_embeddings=lambda: lambda ids: torch.zeros(*ids.shape, 1),
    )
    grid = torch.ones(1, 3, dtype=torch.long)
    qwen3_vl._get_input_embeds(
        model,
        torch.tensor([[image, video]]),
        pixel_values=torch.zeros(1, 1),
        pixel_values_videos=torch.zeros(1, 1),
        image_grid_thw=grid,
        video_grid_thw=grid,
    )
    return len(calls) > 1


def apply(qwen3_vl) -> None:
    def make(original):
        def _get_input_embeds(
            model,
            input_ids,
            attention_mask=None,
            pixel_values=None,
            pixel_values_videos=None,
            image_grid_thw=None,
            video_grid_thw=None,
        ):
            media = (pixel_values, pixel_values_videos, image_grid_thw, video_grid_thw)
            if pixel_values is not None and pixel_values_videos is not None:
                model = SimpleNamespace(
                    visual=_Served(model.visual.dtype, _both_halves(model, *media, qwen3_vl.unpack_visual_output)),
                    config=model.config,
                    get_input_embeddings=model.get_input_embeddings,
                )
            return original(model, input_ids, attention_mask, *media)

        return _get_input_embeds

    replace(qwen3_vl, "_get_input_embeds", make)


class _Served:
    """Stands for the vision tower: hands out features that are already computed, images first, then videos."""

    def __init__(self, dtype, halves):
        self.dtype = dtype
        self._halves = iter(halves)

    def __call__(self, pixels, grid_thw):
        return next(self._halves)


def _both_halves(model, pixel_values, pixel_values_videos, image_grid_thw, video_grid_thw, unpack):
    """One tower call over all patches; returns (features, deepstack features) of the images and of the videos."""
    patches = torch.cat([pixel_values, pixel_values_videos]).type(model.visual.dtype)
    features, deepstack = unpack(model.visual(patches, grid_thw=torch.cat([image_grid_thw, video_grid_thw])))
    images = int(image_grid_thw.prod(-1).sum()) // model.config.vision_config.spatial_merge_size**2
    return (
        (features[:images], [layer[:images] for layer in deepstack]),
        (features[images:], [layer[images:] for layer in deepstack]),
    )
