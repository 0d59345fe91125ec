"""The look at a media file before its prompt is drawn."""

import errno
import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from sv6d.data_mixers import media
from sv6d.data_mixers.media import Probe, _rate, frame_files, in_time, probe, read_frames
from sv6d.rewards import limits


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


@pytest.mark.parametrize(
    ("suffix", "codec", "begins"), [("mkv", "libx264", 3), ("webm", "libvpx", 3), ("flv", "libx264", 0)]
)
def test_so_is_one_of_a_file_whose_header_alone_tells_its_length(tmp_path, suffix, codec, begins):
    """Ten seconds, of which a download that stopped at four fifths lacks two."""
    path = tmp_path / f"film.{suffix}"
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(50):
            frame = av.VideoFrame.from_ndarray(noise.integers(0, 256, (64, 64, 3), np.uint8), format="rgb24")
            frame.pts = 5 * begins + i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert probe(str(path), "video") == Probe(None, 64, 64, frames=50, fps=5.0)
    cut = path.with_name(f"cut.{suffix}")
    cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.8)])
    assert "is cut short: its last" in probe(str(cut), "video").error


@pytest.mark.parametrize("kind", ["image", "video"])
@pytest.mark.parametrize("content", [b"", b"not media at all " * 100])
def test_what_is_no_media_is_found(tmp_path, kind, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert str(path) in probe(str(path), kind).error


def test_a_file_that_is_not_there_is_found(tmp_path):
    assert "No such file" in probe(str(tmp_path / "none.mp4"), "video").error
    assert "No such file" in probe(str(tmp_path / "none.png"), "image").error


# A file that hangs its decoder


@pytest.fixture
def hanging(tmp_path):
    """A file that opens only when somebody writes to it, which nobody does."""
    path = tmp_path / "hanging.mp4"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("kind", ["image", "video"])
def test_a_file_that_hangs_its_decoder_is_given_up_and_its_process_is_gone(hanging, kind):
    found = probe(str(hanging), kind, 0.5)
    assert "hanging.mp4 hangs its decoder: it was ended after data.mixture.decode_seconds=0.5" in found.error
    with pytest.raises(OSError) as nobody_reads:
        os.open(hanging, os.O_WRONLY | os.O_NONBLOCK)
    assert nobody_reads.value.errno == errno.ENXIO


def test_the_next_file_is_looked_at_as_ever(hanging, counting_video):
    assert probe(str(hanging), "video", 0.5).error
    assert probe(str(counting_video), "video", 5.0) == Probe(None, 64, 64, frames=50, fps=25.0)


def test_a_decoder_that_crashes_costs_its_file_alone():
    """Stands for a fault in native code: the function that is called ends its own process."""
    with pytest.raises(OSError, match="killed the process that decoded it"):
        in_time("os._exit", 3, seconds=5.0)


def test_a_machine_that_is_too_busy_to_start_the_look_is_not_the_files_fault(counting_video, monkeypatch):
    """No time to start at all, and a pool whose process has still to start."""
    pool = limits.WorkerPool(1)
    monkeypatch.setattr(media, "_workers", lambda: pool)
    monkeypatch.setattr(limits, "START_SECONDS", 0)
    error = probe(str(counting_video), "video", 7.0).error
    assert "could not be looked at: a process for the call was not ready within 0 s" in error and "hangs" not in error
    pool.close()


# When frames are shown


def test_a_folder_of_frames_is_a_video_without_a_rate(tmp_path):
    for number in (0, 2, 10, 1):
        Image.new("L", (32, 48), number).save(tmp_path / f"f{number}.png")
    assert probe(str(tmp_path), "video") == Probe(None, 32, 48, frames=4)
    assert [Path(file).name for file in frame_files(str(tmp_path))] == ["f0.png", "f1.png", "f2.png", "f10.png"]
    frames, times = read_frames(str(tmp_path), [0.5, 1.5], 48, 32, rate=2.0)
    assert (frames[:, 0, 0, 0].tolist(), times) == ([1, 10], [0.5, 1.5])


def test_a_folder_needs_two_frames(tmp_path):
    Image.new("L", (32, 32)).save(tmp_path / "only.png")
    assert "holds 1 frames" in probe(str(tmp_path), "video").error


class Counted:
    """A container that counts the frames that it decodes."""

    decoded = 0

    def __init__(self, container):
        self.container = container

    def __getattr__(self, name):
        return getattr(self.container, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.container.close()

    def decode(self, stream):
        for frame in self.container.decode(stream):
            Counted.decoded += 1
            yield frame


@pytest.mark.parametrize(("gop", "most"), [(1000, 115), (10, 60)])
def test_far_frames_are_sought_at_key_frames_and_nothing_is_decoded_twice(tmp_path, monkeypatch, gop, most):
    """60 s at 2 frames a second, every 14 s wanted: the last is frame 112. From key frames every 5 s on, each costs at most ten."""
    path = tmp_path / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2, options={"crf": "1", "bf": "0", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.gop_size = 64, 64, "yuv420p", gop
        for i in range(120):
            picture = np.full((64, 64, 3), 2 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    opened = av.open
    monkeypatch.setattr(av, "open", lambda *arguments: Counted(opened(*arguments)))
    monkeypatch.setattr(Counted, "decoded", 0)
    frames, times = read_frames(str(path), [0.0, 14.0, 28.0, 42.0, 56.0], 64, 64)
    assert times == [0.0, 14.0, 28.0, 42.0, 56.0]
    assert frames[:, 32, 32, 0].tolist() == pytest.approx([0, 56, 112, 168, 224], abs=4)
    assert Counted.decoded <= most


def test_frames_that_the_video_does_not_have_are_an_error(counting_video):
    with pytest.raises(ValueError, match=r"no frame decodes from second 2\.50 on"):
        read_frames(str(counting_video), [1.0, 2.5], 64, 64)


@pytest.mark.parametrize(("turn", "corner"), [(90, (-1, 0)), (180, (-1, -1)), (-90, (0, -1))])
def test_a_film_that_was_shot_upright_is_seen_upright(tmp_path, turn, corner):
    """The container says by how many degrees to turn to the left what it holds. The white corner, at the top left of what is
    stored, comes to the bottom left, the bottom right and the top right."""
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=4, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.set_display_rotation(turn)
        picture = np.zeros((64, 96, 3), np.uint8)
        picture[:32, :32] = 255
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    found = probe(str(path), "video")
    assert (found.width, found.height) == ((96, 64) if turn == 180 else (64, 96))
    frames, _ = read_frames(str(path), [0.0], found.height, found.width)
    assert frames[0][corner][0] > 200 and frames[0][0, 0, 0] < 50


def test_frames_without_times_of_their_own_are_no_video():
    with pytest.raises(ValueError, match="all its frames carry the same time"):
        _rate([1.0, 1.0, 1.0], zero=0.0)
