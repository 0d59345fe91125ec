"""Pixels as bytes: what the trainer makes of them is what the processor would have made."""

import numpy as np
import pytest
import torch
from PIL import Image
from sv6d.data_mixers import verl_dataset
from sv6d.data_mixers.memo import Memo
from sv6d.data_mixers.torch_pixels import scale_levels, with_levels
from sv6d.data_mixers.verl_dataset import share_processor_output
from verl.utils.tokenizer import build_multimodal_processor_inputs

MEDIA = ["<|vision_start|><|image_pad|><|vision_end|><|vision_start|><|video_pad|><|vision_end|>"]
CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}


@pytest.fixture
def media():
    """An image of all colours, and a video of four frames, none of the processor's size."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 3, 70, 90), dtype=np.uint8)
    frames = {"fps": 2.0, "frames_indices": [0, 1, 2, 3], "total_num_frames": 4}
    return {"images": [Image.fromarray(noise[0].transpose(1, 2, 0))], "videos": [(torch.from_numpy(noise), frames)]}


@pytest.mark.parametrize("colours", [{}, CLIP], ids=["Qwen3-VL", "Qwen2.5-VL"])
@pytest.mark.parametrize("options", [None, {"do_resize": False}], ids=["resized", "as they are"])
def test_scaled_levels_are_the_processors_pixels_to_the_bit(processor, media, colours, options, monkeypatch):
    if options:  # multiples of two patches
        media["images"] = [media["images"][0].resize((96, 64))]
        media["videos"] = [(media["videos"][0][0][:, :, :64, :64], media["videos"][0][1])]
    for part in (processor.image_processor, processor.video_processor):
        for name, value in colours.items():
            monkeypatch.setattr(part, name, value)
    call = {"text": MEDIA, "mm_processor_kwargs": options, **media}
    expected = dict(build_multimodal_processor_inputs(processor, **call))
    made = dict(with_levels(build_multimodal_processor_inputs, processor, **call))
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


def test_an_option_that_the_trainer_would_not_know_of_is_refused(processor, media):
    with pytest.raises(
        ValueError, match=r"data\.mm_processor_kwargs\.image_mean changes how pixels are scaled.*float32"
    ):
        with_levels(build_multimodal_processor_inputs, processor, text=MEDIA, mm_processor_kwargs=CLIP, **media)


def test_a_processor_that_makes_floats_of_bytes_is_refused():
    with pytest.raises(
        ValueError, match=r"str makes torch\.float32 of a picture's bytes: set data\.mixture\.pixels=float32"
    ):
        with_levels(lambda *_, **__: {"pixel_values": torch.ones(1)}, "a processor", text="")


def test_the_agent_loop_gets_levels_where_the_data_say_so(processor, media, monkeypatch):
    from verl.experimental.agent_loop import agent_loop

    for pixels, name in (("uint8", "pixel_levels_videos"), ("float32", "pixel_values_videos")):
        monkeypatch.setattr(verl_dataset, "_PROCESSED", Memo(1 << 30))
        share_processor_output.cache_clear()
        share_processor_output(pixels)
        first, second = (agent_loop.build_multimodal_processor_inputs(processor, text=MEDIA, **media) for _ in range(2))
        assert second[name] is first[name]
