"""What every maker promises: a ground truth that validates and scores 1.0, and pixels in which the answer can be seen."""

import json
from itertools import pairwise

import numpy as np
import pytest
from sv6d.recipes.demo.dataset import make_item
from sv6d.recipes.demo.footage import COLOURFUL, FRAMINGS, INSERTS, PHOTOS, RUNS, WORDS, Stock, digits, faces, photo
from sv6d.recipes.demo.makers import ANNOTATED, COUNT, FPS, MAKERS, SEVERAL, SIZE, STRIP
from sv6d.rewards import score
from sv6d.schema import TASKS, Taxonomy, validate_ground_truth

PARTS = ("rl", "heldout")
MANY = 6  # items looked at where a property must hold for all


def answer_of(task: str, item) -> str:
    """The answer that a perfect model gives."""
    reasons = TASKS[task].family == "chain_of_thought"
    return f"<think>{item.thought}</think><answer>{item.ground_truth}</answer>" if reasons else item.ground_truth


def segments_of(item) -> list[dict]:
    return json.loads(item.ground_truth)["segments"]


def items(task: str, part: str = "rl", count: int = MANY):
    return [make_item(task, part, index, seed=5) for index in range(count)]


def test_every_task_has_a_maker_and_says_what_it_annotates():
    assert list(MAKERS) == list(TASKS) == list(ANNOTATED)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("task", MAKERS)
def test_the_ground_truth_validates_and_the_gold_answer_scores_one(task, part):
    for item in items(task, part):
        validate_ground_truth(task, item.ground_truth, item.duration)
        assert score(task, answer_of(task, item), item.ground_truth).value == pytest.approx(1.0)


@pytest.mark.parametrize("task", MAKERS)
def test_pixels_have_the_size_that_the_task_asks_for(task):
    for item in items(task, count=4):
        assert item.pixels.dtype == np.uint8
        if TASKS[task].media == "video":
            assert item.pixels.shape == (COUNT, SIZE, SIZE, 3) and item.duration == 4.0
        else:
            assert item.pixels.shape == (STRIP[1], STRIP[0], 3) and item.duration is None


@pytest.mark.parametrize("task", [task for task in MAKERS if TASKS[task].family == "temporal_grounding"])
def test_grounding_segments_tile_the_film_on_the_half_second(task):
    for item in items(task):
        segments = segments_of(item)
        assert segments[0]["start"] == 0.0 and segments[-1]["end"] == item.duration
        assert all(before["end"] == after["start"] for before, after in pairwise(segments))
        assert all(segment["end"] - segment["start"] >= 1.0 for segment in segments) and len(segments) <= 3
        assert all(segment["start"] % 0.5 == 0 for segment in segments)


@pytest.mark.parametrize("task", [task for task in MAKERS if ANNOTATED[task]])
def test_only_the_sub_dimensions_that_an_edit_makes_true_are_annotated(task):
    seen = {
        f"{dimension}.{sub}"
        for item in items(task)
        for segment in segments_of(item)
        for dimension, subs in segment.get("labels", {}).items()
        for sub in subs
    }
    assert seen == set(ANNOTATED[task])
    assert seen <= {".".join(pair) for pair in TASKS[task].labels}


def test_sub_dimensions_that_allow_several_tags_hold_lists():
    taxonomy = Taxonomy.load()
    for name in {name for names in ANNOTATED.values() for name in names}:
        dimension, sub = name.split(".")
        cardinality = taxonomy.dimensions[dimension].sub_dimensions[sub].cardinality
        assert (cardinality == "many") == (sub in SEVERAL)


@pytest.mark.parametrize("task", [task for task in MAKERS if ANNOTATED[task]])
def test_each_sub_dimension_has_at_least_two_tags_in_use(task):
    tags: dict[str, set] = {}
    for item in items(task, count=16):
        for segment in segments_of(item):
            for subs in segment.get("labels", {}).values():
                for sub, tag in subs.items():
                    tags.setdefault(sub, set()).add(tag[0] if isinstance(tag, list) else tag)
    assert all(len(used) >= 2 for used in tags.values()), tags


def test_the_first_shot_has_no_transition_and_every_later_one_has():
    for item in items("cut_point_detection"):
        first, *later = segments_of(item)
        assert first["labels"] == {}
        assert later and all("transition_type" in segment["labels"]["editing"] for segment in later)


def test_a_hard_cut_is_the_largest_change_of_its_film():
    for item in items("cut_point_detection", count=40):
        _, *later = segments_of(item)
        if later[0]["labels"]["editing"]["transition_type"] == "hard cut":
            change = np.abs(np.diff(item.pixels.astype(float), axis=0)).mean((1, 2, 3))
            cuts = {round(segment["start"] * FPS) for segment in later}
            assert {int(frame) + 1 for frame in np.argsort(change)[-len(cuts) :]} == cuts


def test_a_film_that_fades_to_black_is_dark_at_its_cut():
    for item in items("cut_point_detection", count=40):
        _, *later = segments_of(item)
        if later[0]["labels"]["editing"]["transition_type"] == "fade to black":
            assert all(item.pixels[round(segment["start"] * FPS)].mean() < 20 for segment in later)


def test_the_event_is_seen_in_its_interval_and_nowhere_else():
    for item in items("temporal_action_localization"):
        (segment,) = segments_of(item)
        start, stop = round(segment["start"] * FPS), round(segment["end"] * FPS)
        bright = (item.pixels.max(-1) >= 250).sum(
            (1, 2)
        ) >= 32 * 32  # footage is halved, so only the square is that bright
        assert bright.nonzero()[0].tolist() == list(range(start, stop))
        assert item.query.startswith("a ") and item.query.endswith(" square is visible")


def test_a_high_key_film_is_brighter_than_a_low_key_one_and_a_warm_one_redder_than_a_cool_one():
    for item in items("lighting_and_color", count=30):
        labels = segments_of(item)[0]["labels"]["aesthetics"]
        mean = item.pixels.mean()
        low, high = {"low key": (0, 95), "normal key": (95, 150), "high key": (150, 255)}[labels["key_tone"]]
        assert low <= mean <= high
        cast = float(item.pixels[..., 0].mean()) - float(item.pixels[..., 2].mean())
        assert {"cool tone": cast < -25, "neutral tone": abs(cast) < 25, "warm tone": cast > 25}[
            labels["color_temperature"]
        ]


def test_a_static_shot_moves_less_than_a_shaken_one():
    moved: dict[str, list[float]] = {"static shot": [], "handheld": []}
    for item in items("camera_movement", count=60):
        segments = segments_of(item)
        tag = segments[0]["labels"]["camera_language"]["camera_movement"][0]
        if tag in moved:
            shot = item.pixels[: round(segments[0]["end"] * FPS)].astype(float)
            moved[tag].append(float(np.abs(np.diff(shot, axis=0)).mean()))
    assert moved["static shot"] and moved["handheld"]
    assert np.median(moved["static shot"]) < np.median(moved["handheld"]) / 2


def test_the_counted_squares_are_there():
    for item in items("visual_reasoning", count=30):
        red, green, blue = (
            item.pixels[-1, 16::32, 16::32, channel].astype(int) for channel in range(3)
        )  # cell centres
        counts = {"red": int(((red > 200) & (green < 90)).sum()), "blue": int(((blue > 200) & (green < 130)).sum())}
        if item.query.startswith("How many"):
            color = item.query.split()[2]
            assert counts[color] == "ABCD".index(item.ground_truth) + 1
            assert item.thought.startswith(f"{counts[color]} {color} square")
        else:
            first = item.thought.split(" then ")[0]
            assert counts == {"red": 1, "blue": 1} and item.ground_truth == "AB"[["red", "blue"].index(first)]


def test_handwritten_strings_are_four_digits_of_their_split():
    for item in items("ocr_handwritten"):
        assert len(item.ground_truth) == 4 and item.ground_truth.isdigit()


# ---- held-out footage is other footage ----------------------------------------------------------------------------------
def test_held_out_frames_come_after_the_training_frames_of_their_clip():
    def used(split):
        framed = [framing.source for framing in FRAMINGS[split] if not isinstance(framing.source, str)]
        return [*RUNS[split].values(), *framed]

    for clip in {run.clip for run in used("heldout")}:
        last = max(run.stop for run in used("train") if run.clip == clip)
        assert min(run.start for run in used("heldout") if run.clip == clip) >= last


def test_held_out_photographs_words_faces_and_digits_are_not_trained_on():
    def photos(split):
        framed = {framing.source for framing in FRAMINGS[split] if isinstance(framing.source, str)}
        return set(PHOTOS[split]) | framed | {name for name, _ in INSERTS[split]}

    assert not photos("train") & photos("heldout")
    assert not {word for word, _ in WORDS["train"]} & {word for word, _ in WORDS["heldout"]}
    assert len(faces("train")) + len(faces("heldout")) == 100
    assert len(digits("train")[0]) + len(digits("heldout")[0]) == 1797


def test_every_named_picture_exists_and_colourful_ones_have_colour():
    for split in ("train", "heldout"):
        for name in PHOTOS[split]:
            colour = photo(name).astype(int).max(-1) - photo(name).astype(int).min(-1)
            assert (colour.mean() > 20) >= (name in COLOURFUL)


def test_a_stretch_of_a_run_stays_inside_it():
    run = RUNS["train"]["truck"]
    stock, rng = Stock("train"), np.random.default_rng(0)
    lengths = [stock.frames(run, count, rng).shape[0] for count in (1, 4, 32, 100)]
    assert lengths == [1, 4, 32, 100]
