"""Small real media and row files: an mp4 that says in its pixels which frame it is, and one row file a task."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from sv6d.data_mixers.rows import Example, to_rl_row, write_rows

PIXELS = {"min_pixels": 32 * 32, "max_pixels": 64 * 64, "total_pixels": 64 * 64 * 64}
SPECIAL = ["<|vision_start|>", "<|vision_end|>", "<|video_pad|>", "<|image_pad|>", "<|endoftext|>"]
CHAT_TEMPLATE = """{% for message in messages %}{{ message.role }}: {% if message.content is string %}{{ message.content }}\
{% else %}{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}\
{% else %}<|vision_start|><|{{ part.type }}_pad|><|vision_end|>{% endif %}{% endfor %}{% endif %}
{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""


def write_counting_video(path: Path, frames: int = 50, fps: int = 25, size: tuple[int, int] = (64, 64)) -> Path:
    """Frame i is uniformly grey at level 4 i + 20, so a decoded frame tells its index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "1", "g": "10"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for i in range(frames):
            grey = np.full((size[1], size[0], 3), 4 * i + 20, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session", name="write_counting_video")
def writer():
    return write_counting_video


@pytest.fixture(scope="session")
def counting_video(tmp_path_factory) -> Path:
    return write_counting_video(tmp_path_factory.mktemp("video") / "counting.mp4")


@pytest.fixture(scope="session")
def processor():
    """Qwen3-VL's own processor around a tokenizer of single bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    alphabet = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        extra_special_tokens=dict(zip("abcd", SPECIAL, strict=False)),
        chat_template=CHAT_TEMPLATE,
    )
    size = {"shortest_edge": 32 * 32, "longest_edge": 64 * 64 * 64}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, merge_size=2, min_pixels=32 * 32, max_pixels=64 * 64),
        tokenizer=fast,
        video_processor=Qwen3VLVideoProcessor(size=size),
        chat_template=CHAT_TEMPLATE,
    )


@pytest.fixture(scope="session")
def frame_number():
    """Which frame of the counting video a (3, height, width) tensor of levels 0-255 shows."""
    return lambda frame: round((float(frame.float().mean()) - 20) / 4)


SEGMENTS = '{"segments": [{"start": 0.0, "end": 2.0, "labels": {"subject": {"configuration": "single-person"}}}]}'


@pytest.fixture
def data(tmp_path, counting_video) -> Path:
    """A data folder: 3 video rows of `subject`, 2 image rows of `ocr_regular`, 1 row of each held out."""
    media = tmp_path / "media"
    media.mkdir()
    for name in ("a", "b", "c", "held"):
        (media / f"{name}.mp4").write_bytes(counting_video.read_bytes())
        Image.new("RGB", (64, 32), "white").save(media / f"{name}.png")

    def video(name, split="train"):
        options = {"fps": 2.0, **PIXELS}
        return Example("subject", [str(media / f"{name}.mp4")], SEGMENTS, None, 2.0, "made", name, split, options)

    def image(name, split="train"):
        return Example("ocr_regular", [str(media / f"{name}.png")], name, None, None, "made", name, split)

    for folder, names, split in (("rl", "abc", "train"), ("heldout", ["held"], "heldout")):
        write_rows([to_rl_row(video(n, split), i) for i, n in enumerate(names)], tmp_path / folder / "subject.parquet")
        write_rows(
            [to_rl_row(image(n, split), i) for i, n in enumerate(names[:2])], tmp_path / folder / "ocr_regular.parquet"
        )
    return tmp_path
