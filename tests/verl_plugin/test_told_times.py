"""The times that the model is told are those of the frames that it sees, from the file to vLLM's prompt.

Every frame shows the time at which it is shown, as a pattern of 16 blocks that survives encoding and resizing. Rows go through our
dataset, verl's prompt builder and the prompt that verl hands to vLLM into vLLM's own processor; the times are read back from
the tokens of vLLM's prompt and from the pixels that vLLM gives the vision tower.
"""

import asyncio
from fractions import Fraction

import av
import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from sv6d.data_mixers.prompt_length import prompt_builder
from sv6d.data_mixers.rows import Example, to_rl_row, write_rows
from sv6d.data_mixers.verl_dataset import MixtureDataset
from sv6d.data_mixers.video_times import clock, pair_means, told_times

TICK = 0.01  # seconds, of the clock in the pixels: 16 bits reach to 655 s
TRUTH = '{"segments": []}'


def picture(seconds, edge):
    """The time in 4 x 4 white and black blocks, the lowest bit first."""
    bits = (round(seconds / TICK) >> np.arange(16)) & 1
    return (
        np.kron(bits.reshape(4, 4), np.ones((edge // 4, edge // 4), int)).astype(np.uint8)[..., None].repeat(3, 2) * 255
    )


def read(frame):
    """The time that a (3, height, width) frame of levels around 0 shows."""
    _, height, width = frame.shape
    blocks = frame.mean(0).reshape(4, height // 4, 4, width // 4).mean((1, 3))
    return float(((blocks > 0).reshape(-1).astype(int) << np.arange(16)).sum()) * TICK


def write_video(path, times, edge=64, stamped_later=0.0):
    """A video whose frames are shown at the given seconds; stamps below 0 are cut off by the container."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1", "g": "50"})
        stream.width = stream.height = edge
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 30_000)
        for seconds in times:
            frame = av.VideoFrame.from_ndarray(picture(max(seconds, 0), edge), format="rgb24")
            frame.pts, frame.time_base = round((seconds + stamped_later) * 30_000), Fraction(1, 30_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def steady(count, fps):
    return [i / fps for i in range(count)]


def unsteady(count, seed=0):
    return np.cumsum([0.0, *np.random.default_rng(seed).choice([0.02, 0.04, 0.1, 0.5], count - 1)]).tolist()


def write_folder(path, count, fps):
    path.mkdir()
    for i in range(count):
        Image.fromarray(picture(i / fps, 64)).save(path / f"frame_{i}.png")


# name: how the file is written, the row's options, and what is seen: (number of pairs, first and last pair's time)
CASES = {
    # 50 frames at 25 fps; at 2 fps four of them, 0 16 33 49: pairs at 0.32 and 1.64
    "two_fps.mp4": (lambda path: write_video(path, steady(50, 25)), {"fps": 2.0}, (2, 0.32, 1.64)),
    # at 4 fps eight, 0 7 14 ... 49: the pairs' means are 3.5, 17.5, 31.5, 45.5 frames
    "four_fps.mp4": (lambda path: write_video(path, steady(50, 25)), {"fps": 4.0}, (4, 0.14, 1.82)),
    # 150 frames of television: 30000/1001 a second, 5.005 s; 20 frames, the last pair round(149 * 18 / 19) = 141 and 149
    "television.mp4": (
        lambda path: write_video(path, steady(150, 30_000 / 1001)),
        {"fps": 4.0},
        (10, None, 145 / 29.97),
    ),
    # A phone, a screen recording: the rate varies, and a frame's number over the mean rate would be off by seconds
    "unsteady.mp4": (lambda path: write_video(path, unsteady(80)), {"fps": 4.0}, None),
    "unsteady.mkv": (lambda path: write_video(path, unsteady(80, seed=1)), {"fps": 2.0}, None),
    # A copy that was trimmed without encoding anew: the first 0.48 s are in the file and not shown
    "trimmed.mp4": (
        lambda path: write_video(path, [i / 25 - 0.48 for i in range(50)]),
        {"nframes": 38},
        (19, 0.02, 1.46),
    ),
    # A transport stream that begins at second 3 shows its first frame at once
    "broadcast.ts": (lambda path: write_video(path, steady(50, 25), stamped_later=3.0), {"fps": 2.0}, None),
    # Only seconds 1 to 2 are looked at; the times stay the file's: frames 25 33 42 50
    "part.mp4": (
        lambda path: write_video(path, steady(75, 25)),
        {"fps": 4.0, "video_start": 1.0, "video_end": 2.0},
        (2, 29 / 25, 46 / 25),
    ),
    # Frames that were cut at 4 a second beforehand, and of these two a second: 0 2 4 7 9 11 -> 0.25, 1.375, 2.5
    "folder": (lambda path: write_folder(path, 12, 4), {"fps": 2.0, "sample_fps": 4.0}, (3, 0.25, 2.5)),
    # Ten minutes, 4 fps, at the caps: 8, and 768 tiny frames. The last pair of eight is round(2399 * 6 / 7) = 2056 and 2399
    "long_8.mp4": (
        lambda path: write_video(path, steady(2400, 4), 32),
        {"fps": 4.0, "max_frames": 8},
        (4, None, 556.9),
    ),
    "long_768.mp4": (
        lambda path: write_video(path, steady(2400, 4), 32),
        {"fps": 4.0, "max_frames": 768},
        (384, None, None),
    ),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny Qwen3-VL folder, for its configuration, tokenizer and processor."""
    from sv6d.recipes.demo.model import Size, build_model

    folder = tmp_path_factory.mktemp("model")
    build_model([([{"role": "user", "content": "<video>When?"}], "0.0")], folder, size=Size(max_positions=32_768))
    return folder


@pytest.fixture(scope="module")
def processor(model):
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(model)


@pytest.fixture(scope="module")
def vllm_processor(model):
    """vLLM's own multimodal processor, without an engine."""
    from vllm.config import ModelConfig
    from vllm.multimodal import MULTIMODAL_REGISTRY

    return MULTIMODAL_REGISTRY.create_processor(ModelConfig(str(model), dtype="float32", max_model_len=32_768))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, processor):
    """One row a case, in plain order."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for name, (write, options, _) in CASES.items():
        write(folder / name)
        sizes = {"min_pixels": 32 * 32, "max_pixels": 64 * 64}
        example = Example("subject", [str(folder / name)], TRUTH, media_options={**sizes, **options}, id=name)
        rows.append(to_rl_row(example, len(rows)))
    write_rows(rows, folder / "heldout.parquet")
    config = OmegaConf.create(
        {
            "train_files": "none",
            "max_prompt_length": 32_000,
            "mm_processor_kwargs": {"do_resize": False},
            "image_patch_size": 16,
        }
    )
    return MixtureDataset(str(folder / "heldout.parquet"), processor.tokenizer, config, processor)


def frames_of(mm_inputs, number=0):
    """The frames that the vision tower is given: (frames, 3, height, width), levels from -1 to 1."""
    time, height, width = mm_inputs["video_grid_thw"][number].tolist()
    patches = mm_inputs["pixel_values_videos"].float().numpy()
    patches = patches.reshape(time, height // 2, width // 2, 2, 2, 3, 2, 16, 16)
    # time, row of quads, column of quads, row, column, colour, of the pair, y, x
    return patches.transpose(0, 6, 5, 1, 3, 7, 2, 4, 8).reshape(time * 2, 3, height * 16, width * 16)


def prompts(name, dataset, processor, vllm_processor):
    """A row's prompt as verl writes it and as vLLM expands it, and the pixels that vLLM hands on."""
    from verl.workers.rollout.utils import qwen2_5_vl_dedup_image_tokens

    messages = dataset[list(CASES).index(name)]["raw_prompt"]
    _, videos, _ = asyncio.run(MixtureDataset.process_multi_modal_info(messages, 16, dataset.config))
    builder = prompt_builder(processor.tokenizer, processor, dataset.config)
    written = builder.build_initial_tokens(messages, videos=videos)
    handed = qwen2_5_vl_dedup_image_tokens(list(written), processor)  # what verl's vLLM server does
    options = dict(dataset.config.get("mm_processor_kwargs") or {})
    expanded = vllm_processor(
        handed, mm_items=vllm_processor.info.parse_mm_data({"video": videos}), hf_processor_mm_kwargs=options
    )
    [item] = expanded["mm_kwargs"]["video"]
    pixels = {key: item[key].data for key in ("pixel_values_videos", "video_grid_thw")}
    pixels["video_grid_thw"] = pixels["video_grid_thw"].reshape(1, 3)
    return messages, builder, written, expanded["prompt_token_ids"], pixels


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_times_told_are_those_of_the_pixels(name, dataset, processor, vllm_processor):
    messages, builder, written, expanded, pixels = prompts(name, dataset, processor, vllm_processor)
    assert list(expanded) == list(written)  # rollout and actor read the same prompt
    shown = [read(frame) for frame in frames_of(pixels)]
    seen = pair_means(shown)
    told = clock(expanded, processor)
    assert told == pytest.approx(seen, abs=0.05 + TICK)  # prompts round to tenths, the pixels to hundredths
    [foretold] = told_times(messages, builder, 16)  # without decoding
    assert foretold.told == told
    assert foretold.file == pytest.approx(shown, abs=TICK)
    assert foretold.error <= 0.05 + 1e-6
    if expected := CASES[name][2]:
        pairs, first, last = expected
        assert len(told) == pairs
        assert first is None or told[0] == pytest.approx(first, abs=0.051)
        assert last is None or told[-1] == pytest.approx(last, abs=0.051)


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "grid"), [({"do_resize": False}, [20, 4, 4]), ({}, [20, 2, 2])])
def test_the_processor_shrinks_what_the_dataset_sized_unless_it_is_told_not_to(
    settings, grid, tmp_path, dataset, processor, vllm_processor
):
    """40 frames of 64 x 64 pixels are 163,840 pixels; this model's processor has a cap of 131,072 for a video, as Qwen3-VL's has one
    of 25,165,824. Its steps of 32 pixels leave a quarter."""
    path = tmp_path / "clip.mp4"
    write_video(path, steady(40, 10))
    part = {"type": "video", "video": str(path), "nframes": 40, "min_pixels": 1024, "max_pixels": 64 * 64}
    messages = [{"role": "user", "content": [part]}]
    _, videos, _ = asyncio.run(MixtureDataset.process_multi_modal_info(messages, 16, {}))
    assert videos[0][0].shape == (40, 3, 64, 64)
    config = OmegaConf.create({"mm_processor_kwargs": settings})
    written = prompt_builder(processor.tokenizer, processor, config).build_initial_tokens(messages, videos=videos)
    expanded = vllm_processor(
        [processor.vision_start_token_id, processor.video_token_id, processor.vision_end_token_id],
        mm_items=vllm_processor.info.parse_mm_data({"video": videos}),
        hf_processor_mm_kwargs=settings,
    )
    assert expanded["mm_kwargs"]["video"][0]["video_grid_thw"].data.flatten().tolist() == grid
    pads = [ids.count(processor.video_token_id) for ids in (written, list(expanded["prompt_token_ids"]))]
    assert pads == [grid[0] * grid[1] * grid[2] // 4] * 2  # verl's prompt and vLLM's
