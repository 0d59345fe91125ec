"""From an mp4 to the processor: the frames that are decoded and the times that Qwen3-VL is told are the true ones."""

import asyncio
import re

import pytest
import torch
from sv6d.data_mixers.rows import Example, to_rl_row
from sv6d.data_mixers.verl_dataset import MixtureDataset
from verl.utils.tokenizer import build_multimodal_processor_inputs

PIXELS = {"min_pixels": 32 * 32, "max_pixels": 64 * 64, "total_pixels": 64 * 64 * 64}


def decode(path, **options):
    row = to_rl_row(Example("subject", [str(path)], "[]", media_options={**PIXELS, **options}), 0)
    messages = [{"role": "user", "content": [{"type": "video", **row["videos"][0]}]}]
    _, videos, _ = asyncio.run(MixtureDataset.process_multi_modal_info(messages, 16, {}))
    return videos


def told_times(processor, videos):
    inputs = build_multimodal_processor_inputs(
        processor, text=["<|vision_start|><|video_pad|><|vision_end|>"], videos=videos
    )
    return [float(t) for t in re.findall(r"<([\d.]+) seconds>", processor.tokenizer.decode(inputs["input_ids"][0]))]


@pytest.mark.parametrize(
    ("options", "frames", "times"),
    [
        # 50 frames at 25 fps. At 2 fps: 4 frames, evenly from the first to the last: round(49 k / 3).
        # Qwen3-VL folds two frames into one patch and tells the mean of their times: (0 + 16) / 2 / 25 = 0.32 s.
        ({"fps": 2.0}, [0, 16, 33, 49], [0.3, 1.6]),
        # At 4 fps: 8 frames, round(49 k / 7) = 0 7 14 ... 49; pairs in the middle at 3.5, 17.5, 31.5, 45.5 frames.
        ({"fps": 4.0}, [0, 7, 14, 21, 28, 35, 42, 49], [0.1, 0.7, 1.3, 1.8]),
        # From second 1 on: frames 25 to 49; the times stay those of the whole video.
        ({"fps": 4.0, "video_start": 1.0}, [25, 33, 41, 49], [1.2, 1.8]),
    ],
)
def test_the_frames_and_the_times_told_are_true(processor, counting_video, frame_number, options, frames, times):
    videos = decode(counting_video, **options)
    [(decoded, metadata)] = videos
    assert [frame_number(frame) for frame in decoded] == frames == metadata["frames_indices"]
    assert metadata["fps"] == 25.0
    assert told_times(processor, videos) == pytest.approx(times, abs=0.051)


def test_a_clip_is_held_in_bytes_of_which_the_processor_makes_what_it_makes_of_floats(processor, counting_video):
    [(frames, metadata)] = decode(counting_video, fps=4.0)
    assert frames.dtype == torch.uint8
    text = ["<|vision_start|><|video_pad|><|vision_end|>"]
    made = [
        build_multimodal_processor_inputs(processor, text=text, videos=[(levels, metadata)])["pixel_values_videos"]
        for levels in (frames, frames.float())
    ]
    assert torch.equal(*made)
