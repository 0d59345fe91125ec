"""The three outputs of Appendix B: the report's own samples as it prints them, and what is wrong with others."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sv6d.schema.clock import Span
from sv6d.schema.outputs import find_tags, read_edit_plan, read_ranking, read_steps

SAMPLES = Path(__file__).parent / "appendix_b"


@pytest.fixture(scope="module")
def sample():
    return lambda name: (SAMPLES / f"{name}.txt").read_text()


def told(reading, level):
    return [f"{p.place}: {p.message}" for p in reading.problems if p.level == level]


def test_the_report_s_edit_plan(sample):
    """Three retained spans lie inside discarded ones, and 24.7 s are kept where 20 were asked: warnings, not errors."""
    reading = read_edit_plan(sample("edit_plan"), duration=58.0, target=20.0)
    assert reading.sound
    assert reading.value.retained[0] == Span(0.0, 4.4) and len(reading.value.retained) == 6
    assert reading.value.discarded[-1] == Span(49.8, 54.0) and len(reading.value.discarded) == 4
    assert reading.value.retained_seconds == pytest.approx(24.7)
    assert reading.value.rationale.startswith("The video unfolds") and reading.value.rationale.endswith(
        "conversion rates."
    )
    assert told(reading, "warning") == [
        "retained: 00:00:09.5–00:00:13.3 shares 3.8 s with discarded 00:00:04.4–00:00:17.9",
        "retained: 00:00:26.8–00:00:31.7 shares 4.9 s with discarded 00:00:21.8–00:00:39.3",
        "retained: 00:00:43.4–00:00:47.2 shares 3.8 s with discarded 00:00:39.3–00:00:49.8",
        "retained: comes to 24.7 s, 20 s were asked; retain more or less",
    ]


def test_an_edit_plan_s_errors_have_their_place():
    reading = read_edit_plan("**Retained:** [00:05–00:02], scene 3, [00:10–01:40]\nDiscarded:\n", duration=60.0)
    assert told(reading, "error") == [
        "retained: 00:00:05.0–00:00:02.0: a start lies before its end",
        "retained: 00:00:10.0–00:01:40.0 ends after the video (60 s)",
        "rationale: is missing; a line `Rationale:` gives the reason",
    ]
    assert told(reading, "warning") == ["retained: 'scene3' is no span and was left out"]
    assert told(read_edit_plan("I would keep the start."), "error")[0].startswith("retained: holds no span")


@pytest.mark.parametrize("told", ["none", "None.", "", "[]", "Nothing", "N/A", "**no cuts**"])
def test_a_plan_may_cut_nothing(told):
    reading = read_edit_plan(f"Retained: [00:00–00:05]\nDiscarded: {told}\nRationale: all of it serves.", duration=5.0)
    assert reading.problems == () and reading.value.discarded == ()


def test_a_plan_that_says_what_it_cuts_says_when():
    reading = read_edit_plan("Retained: [00:00–00:05]\nDiscarded: the end\nRationale: it drags.", duration=5.0)
    assert told(reading, "error") == ["discarded: holds no span; write [MM:SS.s–MM:SS.s]"]
    assert told(read_edit_plan("Retained: none\nRationale: it drags."), "error")[0].startswith(
        "retained: holds no span"
    )


def test_the_report_s_steps(sample):
    """Visible and verbal ranges overlap on purpose, and nobody says what depends on what."""
    reading = read_steps(sample("steps"), duration=38.0)
    assert reading.problems == ()
    kinds = [step.kind for step in reading.value]
    assert kinds == ["visible"] * 3 + ["verbal"] * 2
    assert (reading.value[3].start, reading.value[3].end) == (16.5, 18.5)
    assert reading.value[2].details.startswith("By displaying the iPhone") and reading.value[2].depends_on == ()


def steps(**change):
    item = {"step": "cut", "time_range": ["00:00:01.0", "00:00:02.0"], "details": "d", "evidence": "e"} | change
    return json.dumps({"visibly demonstrated actions": [item], "verbally stated instructions": []})


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (
            {"time_range": ["00:00:02.0", "00:00:01.0"]},
            "time_range: 00:00:02.0–00:00:01.0: a start lies before its end",
        ),
        (
            {"time_range": ["00:00:01.0", "00:00:10.6"]},
            "time_range: 00:00:01.0–00:00:10.6 ends after the video (10.5 s)",
        ),
        ({"time_range": ["soon", "00:00:10.6"]}, "time_range: 'soon' is no time; write HH:MM:SS.s or MM:SS.s"),
        ({"time_range": "00:00:01.0"}, 'time_range: is no pair ["HH:MM:SS.s", "HH:MM:SS.s"]'),
        ({"evidence": 3}, "evidence: is missing or no text"),
        ({"depends_on": "the first"}, "depends_on: is no list of the steps that come first"),
    ],
)
def test_a_step_s_errors_have_their_place(change, error):
    (found,) = told(read_steps(steps(**change), duration=10.0), "error")
    assert found.startswith(f"visibly demonstrated actions[0].{error}")


def test_a_step_may_say_what_comes_first():
    assert read_steps(steps(depends_on=["wash"])).value[0].depends_on == ("wash",)
    assert read_steps(steps(time_range=["00:00:01.0", "00:00:10.5"]), duration=10.0).sound


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("no list here", "answer: is no JSON object"),
        ("[1, 2]", "answer: is a JSON list; give an object with two lists"),
        ('{"visibly demonstrated actions": []}', "verbally stated instructions: is missing or no list"),
    ],
)
def test_a_step_list_s_errors(text, error):
    assert told(read_steps(text), "error")[0].startswith(error)


def test_the_report_s_ranking(sample):
    reading = read_ranking(sample("ranking"), duration=25.0)
    assert reading.problems == ()  # the third span starts a second after the second ends: spans need not tile
    assert [segment.rank for segment in reading.value] == [1, 2, 3]
    assert reading.value[0].title == "Surreal Opening at the Supermarket Checkout" and reading.value[2].span == Span(
        7, 9
    )
    scales = [find_tags(s.fields["Shot Scale"], "camera_language", "shot_size") for s in reading.value]
    assert scales == [["medium shot"], ["close-up"], ["medium close-up"]]
    assert all(
        set(s.fields) == {"Content Structure", "Visual Aesthetics", "Shot Scale", "Rationale"} for s in reading.value
    )


def test_a_ranking_s_errors_have_their_place(sample):
    text = sample("ranking").replace("2. Segment 2", "4. Segment 2").replace("*Shot Scale*", "*Size*", 1)
    assert told(read_ranking(text, duration=8.0), "error") == [
        "segments[0].Shot Scale: is missing; give each segment the four fields",
        "segments[1].rank: is 4; ranks run from 1 without a gap",
        "segments[2].span: 00:00:07.0–00:00:09.0 ends after the video (8 s)",
    ]
    assert told(read_ranking("The first five seconds."), "error")[0].startswith("answer: holds no heading")


def test_the_longest_phrase_counts():
    """`close-up shot` is an alias of `close-up`; `medium close-up` holds two other tags' names and is neither."""
    size = lambda text: find_tags(text, "camera_language", "shot_size")  # noqa: E731
    assert size("A Medium Close-Up, then a close-up shot; a medium close-up again") == ["medium close-up", "close-up"]
    assert size("an upshot of closeups") == []


@given(st.text(max_size=300))
def test_no_text_is_too_odd_to_be_read(text):
    for read in (read_edit_plan, read_steps, read_ranking):
        reading = read(text, 10.0)
        assert reading.problems or reading.value
