"""Small real data for the warm start: two mp4 clips, a picture, SFT rows of three tasks, and a tiny Qwen3-VL fitted to them."""

import json

import av
import numpy as np
import pytest
from PIL import Image
from sv6d.data_mixers.rows import Example, read_rows, to_sft_row, write_rows

VIDEO_OPTIONS = {"fps": 2.0, "min_pixels": 4096, "max_pixels": 4096, "total_pixels": 16 * 4096, "min_frames": 4}
IMAGE_OPTIONS = {"min_pixels": 4096, "max_pixels": 4096}
CUT = {"start": 0.0, "end": 2.0, "labels": {"editing": {"transition_type": "hard cut"}}}


def write_clip(path, colours, frames=30, fps=10):
    """An mp4 of 64 x 64 pixels that shows the colours one after the other, equally long."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            colour = colours[index * len(colours) // frames]
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), colour, np.uint8), format="rgb24")
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    """A folder with red_blue.mp4 (3 s at 10 frames a second), green.mp4 (2 s at 15) and a white picture.png."""
    folder = tmp_path_factory.mktemp("sft") / "data" / "media"
    folder.mkdir(parents=True)
    write_clip(folder / "red_blue.mp4", [(255, 0, 0), (0, 0, 255)])
    write_clip(folder / "green.mp4", [(0, 255, 0)], fps=15)
    Image.new("RGB", (64, 64), (255, 255, 255)).save(folder / "picture.png")
    return folder


@pytest.fixture(scope="session")
def examples(media):
    """Four cut-point rows and four localization rows over the two clips, four OCR rows over the picture."""
    clips = [str(media / "red_blue.mp4"), str(media / "green.mp4")]
    found = []
    for number in range(4):
        cut = json.dumps({"segments": [{**CUT, "end": 2.0 + number / 10}]})
        found.append(
            Example("cut_point_detection", [clips[number % 2]], cut, duration=3.0, media_options=VIDEO_OPTIONS)
        )
        text = f"word{number}"
        found.append(Example("ocr_regular", [str(media / "picture.png")], text, media_options=IMAGE_OPTIONS))
        event = json.dumps({"segments": [{"start": 0.5, "end": 1.0 + number / 10}]})
        where = Example("temporal_action_localization", [clips[0]], event, query="blue", media_options=VIDEO_OPTIONS)
        found.append(where)
    return found


@pytest.fixture(scope="session")
def data(media, examples):
    """A data folder with sft/<task>.parquet for the three tasks."""
    folder = media.parent
    for task in dict.fromkeys(example.task for example in examples):
        own = [example for example in examples if example.task == task]
        write_rows([to_sft_row(example, i) for i, example in enumerate(own)], folder / "sft" / f"{task}.parquet")
    return folder


@pytest.fixture(scope="session")
def rows(data):
    """All rows as they are read back, media paths absolute."""
    return [row for file in sorted((data / "sft").glob("*.parquet")) for row in read_rows(file)]


@pytest.fixture(scope="session")
def model(rows, tmp_path_factory):
    """A randomly initialised Qwen3-VL folder of about 0.5 M parameters whose tokenizer knows the rows' words."""
    from sv6d.recipes.demo.model import Size, build_model, corpus_of

    folder = tmp_path_factory.mktemp("model")
    build_model(corpus_of(rows), folder, size=Size(hidden=64, layers=2, vision_hidden=64, vision_layers=1))
    return folder


@pytest.fixture(scope="session")
def tokenizer(model):
    from verl.utils.tokenizer import hf_tokenizer

    return hf_tokenizer(str(model))


@pytest.fixture(scope="session")
def processor(model):
    from verl.utils.tokenizer import hf_processor

    return hf_processor(str(model))
