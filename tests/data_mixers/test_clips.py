"""Which frames of a video are seen and how large they are, before anything is decoded; values worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qwen_vl_utils import vision_process as qwen
from sv6d.data_mixers.clips import plan
from sv6d.data_mixers.media import Probe

TOKEN = 32 * 32  # pixels of a pair of frames


def clip(found, **options):
    return plan({"video": "clip.mp4", **options}, found, patch=16)


def steady(frames, fps=25.0, start=0.0, width=640, height=360):
    return Probe(None, width, height, frames, fps, start)


def test_frames_are_spread_evenly_from_the_first_to_the_last():
    # 10 s at 2 fps: 20 frames, round(249 k / 19)
    seen = clip(steady(250), fps=2.0)
    assert seen.indices == [round(249 * k / 19) for k in range(20)]
    assert seen.times == pytest.approx([index / 25 for index in seen.indices])
    assert seen.metadata == {
        "frames_indices": seen.indices,
        "fps": 25.0,
        "total_num_frames": 250,
        "video_backend": "pyav",
    }


@given(st.integers(4, 900), st.floats(0.3, 60), st.floats(0.3, 60), st.integers(4, 768))
def test_qwen_vl_utils_says_how_many_and_has_nothing_to_warn_of(frames, rate, asked, most):
    """Also where a file's own rate is below what is asked for: all its frames then, up to `max_frames`."""
    part = {"fps": asked, "max_frames": most}
    expected = qwen.smart_nframes(part, total_frames=frames, video_fps=rate)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(qwen.logger, "warning", lambda told: pytest.fail(told))
        seen = clip(steady(frames, fps=rate), **part)
    assert len(seen.indices) == expected


def test_a_file_of_one_frame_a_second_shows_all_of_them_at_any_rate_above():
    assert clip(steady(10, fps=1.0), fps=4.0).indices == list(range(10))


def test_a_long_video_is_sampled_more_thinly():
    # 10 minutes at 25 fps: 2,400 frames at 4 fps, of which 768 may be seen
    seen = clip(steady(15_000), fps=4.0, max_frames=768, min_pixels=TOKEN)
    assert (len(seen.indices), seen.indices[0], seen.indices[-1]) == (768, 0, 14_999)


def test_a_video_of_varying_rate_is_told_in_milliseconds():
    times = (0.0, 0.04, 0.54, 1.04, 1.08, 3.0)
    seen = clip(Probe(None, 64, 64, 6, 2.0, 0.0, times), nframes=6)
    assert seen.times == list(times)
    assert seen.metadata["frames_indices"] == [0, 40, 540, 1040, 1080, 3000]
    assert (seen.metadata["fps"], seen.metadata["total_num_frames"]) == (1000.0, 3000)  # 6 frames at 2 a second


def test_so_is_one_whose_sound_begins_first():
    seen = clip(steady(50, start=0.5), nframes=2)
    assert seen.times == [0.5, 0.5 + 49 / 25]
    assert seen.metadata["frames_indices"] == [500, 2460]


def test_a_part_is_cut_by_the_times_that_are_shown():
    times = (0.0, 1.0, 1.1, 1.2, 5.0, 6.0)
    assert clip(Probe(None, 64, 64, 6, 1.0, 0.0, times), nframes=4, video_start=1.0, video_end=5.0).indices == [
        1,
        2,
        3,
        4,
    ]
    with pytest.raises(ValueError, match=r"has 1 frames between video_start=1\.15 and video_end=2\.0.*lasts 6\.00 s"):
        clip(Probe(None, 64, 64, 6, 1.0, 0.0, times), nframes=4, video_start=1.15, video_end=2.0)


def test_a_folder_of_frames_must_say_its_rate():
    folder = Probe(None, 64, 64, 8)
    assert clip(folder, fps=1.0, sample_fps=2.0).times == [0.0, 1.0, 2.5, 3.5]  # round(7 k / 3) = 0 2 5 7
    with pytest.raises(ValueError, match="does not tell its rate; set sample_fps"):
        clip(folder, fps=1.0)


def test_the_budget_of_a_video_at_the_frame_cap():
    """768 frames are 384 pairs; 50,000 tokens leave 130 for each: 11 x 11 = 121 of 32 x 32 pixels for a square picture, while
    qwen-vl-utils' least, 128 for each frame, would break the budget."""
    seen = clip(steady(20_000, width=720, height=720), fps=4.0, max_frames=768, total_pixels=50_000 * TOKEN)
    assert (len(seen.indices), seen.height, seen.width) == (768, 352, 352)


@given(st.integers(8, 768), st.integers(400, 50_000), st.integers(32, 2_000), st.integers(32, 2_000), st.booleans())
def test_the_budget_is_kept(frames, tokens, width, height, floor):
    options = {"min_pixels": 128 * TOKEN} if floor else {}
    found = steady(1_000, width=width, height=height)
    try:
        seen = clip(found, nframes=frames, total_pixels=tokens * TOKEN, **options)
    except ValueError as error:  # no picture of 32 x 32 pixels a pair fits, or sides of 1 to many do not
        assert "do not fit into total_pixels" in str(error) or "aspect ratio" in str(error)
        return
    assert len(seen.indices) // 2 * (seen.height // 32) * (seen.width // 32) <= tokens


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"fps": 2.0, "nframes": 4}, "Only accept either `fps` or `nframes`"),
        ({"nframes": 80}, "nframes should in interval"),
        ({"min_pixels": 4096, "max_pixels": 1024}, "min_pixels=4096 is more than max_pixels=1024"),
        ({"nframes": 8, "total_pixels": 2 * TOKEN}, "8 frames of 640 x 360 pixels do not fit into total_pixels=2048"),
    ],
)
def test_options_that_contradict_each_other_are_named(options, error):
    with pytest.raises(ValueError, match=error):
        clip(steady(50), **options)
