"""Pixels as bytes: what the trainer makes of them is what the processor would have made."""

import numpy as np
import pytest
import torch
from PIL import Image
from sv6d.recipes.demo.model import build_processor, build_tokenizer
from sv6d.verl_plugin.engines.pixels import as_levels, scale_levels, unscaled
from verl.utils.tokenizer import build_multimodal_processor_inputs

MEDIA = ["<|vision_start|><|image_pad|><|vision_end|><|vision_start|><|video_pad|><|vision_end|>"]
CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}


@pytest.fixture
def processor():
    return build_processor(build_tokenizer([([{"role": "user", "content": "Which?"}], "B")]))


@pytest.fixture
def media():
    """An image of all colours, and a video of four frames, none of the processor's size."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 3, 70, 90), dtype=np.uint8)
    frames = {"fps": 2.0, "frames_indices": [0, 1, 2, 3], "total_num_frames": 4}
    return {"images": [Image.fromarray(noise[0].transpose(1, 2, 0))], "videos": [(torch.from_numpy(noise), frames)]}


@pytest.mark.parametrize("colours", [{}, CLIP], ids=["Qwen3-VL", "Qwen2.5-VL"])
@pytest.mark.parametrize("options", [{}, {"do_resize": False}], ids=["resized", "as they are"])
def test_scaled_levels_are_the_processors_pixels_to_the_bit(processor, media, colours, options):
    if options:  # multiples of two patches
        [(frames, about)] = media["videos"]
        media = {"images": [media["images"][0].resize((96, 64))], "videos": [(frames[:, :, :64, :64], about)]}
    for part in (processor.image_processor, processor.video_processor):
        for name, value in colours.items():
            setattr(part, name, value)
    expected = build_multimodal_processor_inputs(processor, text=MEDIA, mm_processor_kwargs=options, **media)
    plain = build_multimodal_processor_inputs(processor, text=MEDIA, mm_processor_kwargs=unscaled(options), **media)
    made = as_levels(plain)
    assert made["pixel_levels"].dtype == made["pixel_levels_videos"].dtype == torch.uint8
    assert not {"pixel_values", "pixel_values_videos"} & set(made)
    scale_levels(made, processor)
    assert made.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(torch.as_tensor(made[name]), torch.as_tensor(value)), name


def test_what_has_no_pixels_stays_as_it_is(processor):
    inputs = {"input_ids": [1, 2]}
    scale_levels(inputs, processor)
    assert inputs == {"input_ids": [1, 2]}


def test_where_the_trainer_could_not_make_the_same_of_them_there_are_no_levels():
    assert unscaled(CLIP) is None
    assert as_levels({"pixel_values": torch.ones(1)}) is None
