"""Each edit on footage so small that its result can be worked out by hand: frame t of `film(k)` is the grey value 10 t + k."""

import numpy as np
import pytest
from sv6d.recipes.demo import edits
from sv6d.recipes.demo.footage import Window


def film(first: int, count: int = 8, size: int = 8, step: int = 10) -> np.ndarray:
    values = (first + step * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, size, size, 3)).copy()


def levels(frames: np.ndarray) -> list[float]:
    return frames.mean((1, 2, 3)).tolist()


BLACK, WHITE = film(0, step=0), film(200, step=0)


def test_a_cut_changes_the_mean_exactly_at_its_frame():
    assert levels(edits.cut(BLACK, WHITE, 3)) == [0, 0, 0, 200, 200, 200, 200, 200]


def test_progress_is_half_at_the_middle_and_spans_its_width():
    # width 4 round frame 4: frames 2..5 stand at 1/8, 3/8, 5/8, 7/8 of the way
    assert edits.progress(8, 4, 4).tolist() == [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]
    assert edits.progress(4, 2, 0).tolist() == [0, 0, 1, 1]


def test_a_dissolve_mixes_the_two_layers_by_its_progress():
    assert levels(edits.dissolve(BLACK, WHITE, 4, 4)) == [0, 0, 25, 75, 125, 175, 200, 200]


def test_a_wipe_uncovers_the_second_layer_from_the_left():
    wiped = edits.wipe(BLACK, WHITE, 4, 4)
    # progress 0.375 of 8 columns = 3 columns of the second layer
    assert wiped[3, 0, :, 0].tolist() == [200, 200, 200, 0, 0, 0, 0, 0]
    assert levels(wiped)[0] == 0 and levels(wiped)[-1] == 200


def test_a_fade_is_darkest_at_the_cut_and_leaves_the_ends_alone():
    # |2 u - 1| = 3/4, 1/4, 1/4, 3/4 in frames 2..5
    assert levels(edits.fade_through(WHITE, WHITE, 4, 4)) == [200, 200, 150, 50, 50, 150, 200, 200]


def test_a_flash_is_white_at_the_cut():
    # 0 * u + 255 * (1 - u): 255/4 = 63.75 -> 64, 255 * 3/4 = 191.25 -> 191
    assert levels(edits.fade_through(BLACK, BLACK, 4, 4, (255, 255, 255))) == [0, 0, 64, 191, 191, 64, 0, 0]


def test_a_glitch_disturbs_only_the_frames_around_the_cut():
    still = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), np.uint8).repeat(8, 0)
    broken = edits.glitch(still, still, 4, 4, np.random.default_rng(1))
    changed = (broken != still).any((1, 2, 3))
    assert changed.tolist() == [False, False, True, True, True, True, False, False]


def test_pixelate_makes_blocks_only_around_the_cut():
    ramp = np.arange(8, dtype=np.uint8)[None, None, :, None] * np.ones((8, 8, 1, 3), np.uint8)
    blocks = edits.pixelate(ramp, ramp, 4, 2, block=4)
    assert blocks[3, 0, :, 0].tolist() == [1, 1, 1, 1, 5, 5, 5, 5]  # means 1.5 and 5.5, cut to bytes
    assert (blocks[2] == ramp[2]).all() and (blocks[5] == ramp[5]).all()


def test_a_window_shows_its_part_of_the_picture_at_the_asked_size():
    picture = np.zeros((1, 8, 8, 3), np.uint8)
    picture[:, :4, 4:] = 100  # the upper right quarter
    assert levels(edits.reframe(picture, Window(0.75, 0.25, 0.5), 16)) == [100]
    assert edits.reframe(picture, Window(0.75, 0.25, 0.5), 16).shape == (1, 16, 16, 3)


def test_a_window_over_the_edge_is_moved_inside():
    picture = np.zeros((1, 8, 8, 3), np.uint8)
    picture[:, :4, 4:] = 100
    assert levels(edits.reframe(picture, Window(2.0, -1.0, 0.5), 4)) == [100]


def test_a_still_through_one_window_is_the_same_picture_in_every_frame():
    still = np.broadcast_to(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8), (5, 8, 8, 3))
    shown = edits.reframe(still, Window(0.5, 0.5, 0.5), 4)
    assert shown.shape == (5, 4, 4, 3)
    assert (shown == edits.reframe(still.copy(), Window(0.5, 0.5, 0.5), 4)).all()


def test_a_zoom_in_narrows_the_window_evenly_to_its_factor():
    # 0.8, then / sqrt(4), then / 4
    assert [window.side for window in edits.zoom(Window(0.5, 0.5, 0.8), 4, 3)] == pytest.approx([0.8, 0.4, 0.2])


def test_a_pan_moves_the_window_and_keeps_its_size():
    assert edits.pan(Window(0.2, 0.5, 0.4), 0.4, 0.0, 3) == [
        Window(0.2, 0.5, 0.4),
        Window(0.4, 0.5, 0.4),
        Window(pytest.approx(0.6), 0.5, 0.4),
    ]


def test_a_shaken_camera_never_rests_and_stays_within_its_amount():
    windows = edits.shake(Window(0.5, 0.5, 0.6), 0.1, 20, np.random.default_rng(0))
    places = np.array([(window.x, window.y) for window in windows])
    assert np.hypot(*(places - 0.5).T) == pytest.approx(np.full(20, 0.1))
    assert np.hypot(*np.diff(places, axis=0).T).min() > 0.1  # turns of 108 degrees or more: chords above 0.16


def test_a_grade_sets_the_statistics_whatever_the_footage_was_like():
    frames = np.random.default_rng(0).integers(40, 200, (4, 16, 16, 3), np.uint8)
    graded = edits.grade(frames, luma=0.5, spread=0.05, chroma=0.04, warmth=0.1) / 255
    grey = graded.mean(-1)
    tint = graded - grey[..., None]
    assert grey.mean() == pytest.approx(0.5, abs=0.01) and grey.std() == pytest.approx(0.05, abs=0.01)
    assert tint.mean((0, 1, 2)) == pytest.approx([0.1, 0, -0.1], abs=0.01)


def test_without_chroma_and_warmth_a_grade_is_grey():
    graded = edits.grade(film(50), luma=0.5, spread=0.1, chroma=0.0, warmth=0.0)
    assert (graded[..., 0] == graded[..., 1]).all() and (graded[..., 1] == graded[..., 2]).all()


def test_blur_spreads_a_point_and_radius_nought_leaves_it_sharp():
    point = np.zeros((1, 9, 9, 3), np.uint8)
    point[0, 4, 4] = 255
    assert (edits.blur(point, 0) == point).all()
    assert edits.blur(point, 1.5)[0, 4, 4, 0] < 60 and edits.blur(point, 1.5)[0, 4, 6, 0] > 0


def test_a_blur_mask_averages_its_tiles_and_touches_nothing_else():
    frames = np.zeros((1, 8, 8, 3), np.uint8)
    frames[:, :, ::2] = 100  # columns 100, 0, 100, 0 ...
    masked = edits.blur_mask(frames, (0, 0, 4, 4), block=4)
    assert (masked[0, :4, :4] == 50).all()
    assert (masked[0, 4:] == frames[0, 4:]).all() and (masked[0, :, 4:] == frames[0, :, 4:]).all()


def test_film_grain_is_new_on_every_frame():
    grainy = edits.film_grain(film(100, step=0, size=32), 0.1, np.random.default_rng(0))
    assert all((grainy[t] != grainy[t + 1]).mean() > 0.5 for t in range(7))


def test_a_freeze_repeats_its_frame_to_the_end():
    assert levels(edits.freeze(film(0), 3)) == [0, 10, 20, 30, 30, 30, 30, 30]


def test_a_mirrored_film_equals_its_own_reflection():
    frames = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3), np.uint8)
    mirrored = edits.mirror(frames)
    assert (mirrored == mirrored[:, :, ::-1]).all() and (mirrored[:, :, :4] == frames[:, :, :4]).all()


def test_a_pasted_picture_lies_where_it_was_put_and_is_moved_inside():
    spot = np.full((2, 2, 3), 9, np.uint8)
    assert edits.paste(BLACK, spot, (4, 4))[0, :, :, 0].nonzero()[0].tolist() == [3, 3, 4, 4]
    assert edits.paste(BLACK, spot, (100, 100))[0, 6:, 6:].min() == 9
    assert BLACK.max() == 0  # the footage itself is left alone


def test_a_mask_of_nought_pastes_nothing():
    spot = np.full((2, 2, 3), 9, np.uint8)
    assert (edits.paste(WHITE, spot, (4, 4), np.zeros((2, 2))) == WHITE).all()


def test_a_split_screen_shows_the_left_film_left_and_the_right_film_right():
    split = edits.split_screen(film(10, step=0, size=16), film(90, step=0, size=16))
    # 16 columns: 6 of the left film, a white line of 4, 6 of the right film
    assert split[0, 0, :, 0].tolist() == [10] * 6 + [255] * 4 + [90] * 6


def test_a_picture_in_picture_stands_in_its_corner():
    whole = edits.picture_in_picture(film(10, step=0, size=64), film(90, step=0, size=16), (1, 0))
    # 16 pixels, 4 from the right and the top edge; its rim is 3 white pixels wide
    assert whole[0, 12, 52, 0] == 90 and whole[0, 5, 45, 0] == 255 and whole[0, 40, 20, 0] == 10


def test_a_subtitle_fills_the_bottom_fifth_and_leaves_the_rest():
    captioned = edits.subtitle(film(100, step=0, size=50), "HELLO")
    assert (captioned[:, :40] == 100).all()
    assert captioned[0, 40:].max() > 200 and captioned[0, 40:].min() == 0


def test_each_letter_of_a_caption_stands_in_its_own_share_of_the_width():
    ink = edits.caption((40, 12), "II", (255, 255, 255)).mean((0, 2))
    assert ink[:20].argmax() in (9, 10) and 20 + ink[20:].argmax() in (29, 30)


def test_an_inserted_event_is_seen_from_its_start_to_its_end_only():
    event = np.full((2, 2, 3), 255, np.uint8)
    seen = edits.insert_event(BLACK, event, (4, 4), 2, 5).max((1, 2, 3))
    assert seen.tolist() == [0, 0, 255, 255, 255, 0, 0, 0]


def test_an_oval_is_full_inside_and_empty_in_the_corners():
    mask = edits.oval(32, 32)
    assert mask[16, 16] == 1 and mask[0, 0] == 0 and mask[31, 0] == 0
