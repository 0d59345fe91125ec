"""A prompt's length as it is told without decoding equals that of the prompt which the rollout writes after decoding."""

import asyncio

import pytest
import torch
from PIL import Image
from sv6d.data_mixers.clips import hollow, plan
from sv6d.data_mixers.media import probe
from sv6d.data_mixers.prompt_length import prompt_builder, prompt_tokens
from sv6d.data_mixers.verl_dataset import MixtureDataset

PIXELS = {"min_pixels": 32 * 32, "max_pixels": 64 * 64, "total_pixels": 64 * 64 * 64}


@pytest.fixture(scope="module")
def builder(processor):
    return prompt_builder(processor.tokenizer, processor, {})


@pytest.fixture(scope="module")
def wide_video(tmp_path_factory, write_counting_video):
    """31 frames at 12 a second, 96 x 50 pixels: nothing divides evenly."""
    return write_counting_video(tmp_path_factory.mktemp("wide") / "wide.mp4", frames=31, fps=12, size=(96, 50))


def both_lengths(builder, *media):
    """Told without decoding, and counted after it as the agent loop does."""
    messages = [{"role": "user", "content": [*media, {"type": "text", "text": "What happens?"}]}]
    images, videos, _ = asyncio.run(MixtureDataset.process_multi_modal_info(messages, 16, {}))
    return prompt_tokens(messages, builder, 16), len(
        builder.build_initial_tokens(messages, images=images, videos=videos)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"fps": 2.0, **PIXELS},
        {"fps": 25.0, **PIXELS},
        {"fps": 3.7, **PIXELS, "max_frames": 6},
        {"nframes": 8, **PIXELS},
        {"fps": 4.0, "video_start": 0.5, "video_end": 1.6, **PIXELS},
        {"fps": 4.0, **PIXELS, "total_pixels": 16 * 32 * 32},
        {"fps": 4.0, "resized_height": 96, "resized_width": 32},
        {"fps": 1.0},
    ],
)
def test_the_length_of_a_video_prompt(builder, counting_video, wide_video, options):
    for path in (counting_video, wide_video):
        told, counted = both_lengths(builder, {"type": "video", "video": str(path), **options})
        assert told == counted


@pytest.mark.parametrize(
    "options", [{}, {"min_pixels": 1024, "max_pixels": 4096}, {"resized_height": 64, "resized_width": 64}]
)
def test_the_length_of_an_image_prompt(builder, tmp_path, options):
    path = tmp_path / "image.png"
    Image.new("RGB", (150, 40)).save(path)
    told, counted = both_lengths(builder, {"type": "image", "image": str(path), **options})
    assert told == counted


def test_the_length_of_a_prompt_with_several_media(builder, counting_video, tmp_path):
    path = tmp_path / "image.png"
    Image.new("RGB", (64, 64)).save(path)
    video = {"type": "video", "video": str(counting_video), "fps": 2.0, **PIXELS}
    told, counted = both_lengths(builder, video, {"type": "image", "image": str(path)}, video)
    assert told == counted


def test_the_length_of_a_prompt_of_text(builder):
    told, counted = both_lengths(builder)
    assert told == counted == 30  # one a byte: "user: What happens?" and "assistant: "


def test_media_elsewhere_have_no_known_length(builder):
    part = {"type": "video", "video": "https://host/a.mp4"}
    assert prompt_tokens([{"role": "user", "content": [part]}], builder, 16) is None


def test_a_processor_that_wants_content_leaves_the_length_unknown(counting_video, caplog):
    class Reading:
        def build_initial_tokens(self, messages, tools, images, videos):
            return videos[0][0].numpy()

    messages = [{"role": "user", "content": [{"type": "video", "video": str(counting_video), "fps": 2.0}]}]
    assert prompt_tokens(messages, Reading(), 16) is None
    assert "prompts cannot be measured before they are decoded" in caplog.text


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"nframes": 80}, "nframes should in interval"),
        ({"fps": 2.0, "video_start": 1.9, "video_end": 1.8}, "has 0 frames between video_start=1.9 and video_end=1.8"),
        ({"fps": 2.0, "min_pixels": 64 * 64, "max_pixels": 32 * 32}, "max_pixels"),
    ],
)
def test_options_that_the_rollout_would_refuse_are_refused(builder, counting_video, options, error):
    messages = [{"role": "user", "content": [{"type": "video", "video": str(counting_video), **options}]}]
    with pytest.raises(ValueError, match=error):
        prompt_tokens(messages, builder, 16)


def test_nothing_is_held_of_a_long_video(counting_video):
    """768 frames of 448 x 448 would be 1.8 GB; these have a shape and no memory."""
    found = probe(str(counting_video), "video")._replace(frames=30_000, width=448, height=448)
    frames, metadata = hollow(plan({"video": "long.mp4", "nframes": 768, "total_pixels": 448 * 448 * 400}, found, 16))
    assert frames.shape == (768, 3, 448, 448)
    assert frames.device == torch.device("meta")
    assert metadata["frames_indices"][-1] == 29_999


def test_prompts_that_differ_in_what_their_media_show_alone_are_counted_once(
    processor, counting_video, wide_video, tmp_path
):
    class Counting:
        """A builder that counts its calls."""

        def __init__(self, builder):
            self.builder, self.calls = builder, 0

        def build_initial_tokens(self, *args, **kwargs):
            self.calls += 1
            return self.builder.build_initial_tokens(*args, **kwargs)

    builder = Counting(prompt_builder(processor.tokenizer, processor, {}))

    def told(path, question, **options):
        clip = {"type": "video", "video": str(path), **PIXELS, **options}
        return prompt_tokens([{"role": "user", "content": [clip, {"type": "text", "text": question}]}], builder, 16)

    copy = tmp_path / "copy.mp4"
    copy.write_bytes(counting_video.read_bytes())
    assert told(counting_video, "What?", fps=2.0) == told(copy, "What?", fps=2.0)
    assert builder.calls == 1
    others = [(copy, "Why so?", {"fps": 2.0}), (copy, "What?", {"fps": 4.0}), (wide_video, "What?", {"fps": 2.0})]
    for path, question, options in others:  # other words, other frames, other sizes
        told(path, question, **options)
    assert builder.calls == 1 + len(others)
