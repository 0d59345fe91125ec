"""The look at a media file before its prompt is drawn."""

import av
import pytest
from PIL import Image
from sv6d.data_mixers.media import Probe, probe


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.jpg"
    Image.effect_noise((64, 64), 50).save(path)
    return path


@pytest.fixture
def streamable(counting_video, tmp_path):
    """The counting video with its index in front, as videos on the web have it: a download that stops still opens."""
    path = tmp_path / "streamable.mp4"
    with av.open(str(counting_video)) as source, av.open(str(path), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


def test_whole_media_are_fine(image, counting_video, streamable):
    assert probe(str(image), "image") == Probe(None, 64, 64)
    assert probe(str(counting_video), "video") == Probe(None, 64, 64, frames=50, fps=25.0)
    assert probe(str(streamable), "video").error is None


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_download_that_stopped_is_found(image, counting_video, streamable, kept):
    for path, kind in ((image, "image"), (counting_video, "video"), (streamable, "video")):
        whole = path.read_bytes()
        cut = path.with_name(f"cut_{path.name}")
        cut.write_bytes(whole[: int(len(whole) * kept)])
        assert probe(str(cut), kind).error is not None


@pytest.mark.parametrize("kind", ["image", "video"])
@pytest.mark.parametrize("content", [b"", b"not media at all " * 100])
def test_what_is_no_media_is_found(tmp_path, kind, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert str(path) in probe(str(path), kind).error


def test_a_file_that_is_not_there_is_found(tmp_path):
    assert "No such file" in probe(str(tmp_path / "none.mp4"), "video").error
    assert "No such file" in probe(str(tmp_path / "none.png"), "image").error
