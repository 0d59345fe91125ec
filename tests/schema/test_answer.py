"""Reading a model's answer (readings 8 and 11): where it stands, what is used of it, and which checks it fails."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sv6d.schema.answer import (
    MAX_DEPTH,
    UNREADABLE,
    Faults,
    answer_text,
    final_answer,
    json_text,
    parse_time,
    read_segments,
)

LABELS = {"camera_language": {"shot_size": "medium shot"}}


def read(text, dimensions=("camera_language",)):
    return read_segments(text, dimensions, max_length=100_000)


def one(**changes):
    """The answer with one segment, some of its fields changed; None removes a field."""
    segment = {"start": 0.0, "end": 4.4, "labels": LABELS, **changes}
    return json.dumps({"segments": [{k: v for k, v in segment.items() if v is not None}]})


def times(answer):
    return [(s.start, s.end) for s in answer.segments]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("plain", "plain"),
        ("<think>a</think>b", "b"),
        ("<think>a</think>b</think>c", "c"),
        ("a</think>b", "b"),
        ("<think>never closed", None),
        ("<think>a</think>b<think>c", None),
    ],
)
def test_the_answer_follows_the_last_closed_think(text, answer):
    assert final_answer(text) == answer


def test_the_text_inside_the_last_answer_tags_counts():
    assert answer_text("<think>x</think><answer>a</answer> b <answer>c</answer> d") == "c"
    assert answer_text("<answer>not closed") == "not closed"
    assert answer_text("<answer>a</answer><think>b</think>c") == "c"


@pytest.mark.parametrize(
    ("text", "json"),
    [
        ("no json", None),
        ('so: {"a": 1} bye', '{"a": 1} bye'),
        ("[1] {2}", "[1] {2}"),
        ("```json\n[1]\n``` and\n```\n[2]\n```", "[2]\n"),
        ("```json\n[1]\n```\n```python\nprint()\n```", "[1]\n"),
        ("```\n[1]\n```\n```json\n[2", "[2"),  # an unterminated last block counts
        ("{0} ```[1]```", "[1]"),
        ("{0} ```text``` tail", "{0} ```text``` tail"),  # no block begins with { or [
        ("```json\n[1]\n```\n{2}", "[1]\n"),
    ],
)
def test_the_last_fenced_json_block_counts_else_the_first_bracket(text, json):
    assert json_text(text) == json


def test_a_bare_list_stands_for_its_segments_and_what_trails_is_ignored():
    bare = json.dumps(json.loads(one())["segments"])
    assert times(read(bare)) == times(read(one())) == times(read(one() + " That is all.")) == [(0.0, 4.4)]
    assert read(one() + " NaN {").faults == Faults()


FAULTS = {
    "sound": (one(), "", 1),
    "no object": ("nothing", "syntax fields timestamps types", 0),
    "trailing comma": ('{"segments": [1,]}', "syntax fields timestamps types", 0),
    "comment": ('{"segments": [] /* none */}', "syntax fields timestamps types", 0),
    "NaN": (one(start=float("nan")), "syntax fields timestamps types", 0),
    "Infinity": (one(end=float("inf")), "syntax fields timestamps types", 0),
    "single quotes": ("{'segments': []}", "syntax fields timestamps types", 0),
    "no segments": ("{}", "fields", 0),
    "segments is no list": ('{"segments": 3}', "types", 0),
    "empty": ('{"segments": []}', "", 0),
    "no start": (one(start=None), "fields", 0),
    "no labels": (one(labels=None), "fields", 1),
    "dimension key missing": (one(labels={"subject": {"configuration": "group"}}), "fields", 1),
    "negative": (one(start=-1.0), "timestamps", 0),
    "reversed": (one(start=9), "timestamps", 0),
    "1e999": (one().replace("4.4", "1e999"), "timestamps", 0),
    "400 digits": (one().replace("4.4", "9" * 400), "timestamps", 0),
    "5000 digits": (one().replace("4.4", "9" * 5000), "timestamps", 0),
    "time in text": (one(end="4.4"), "types", 1),
    "clock in text": (one(end="00:00:04.4"), "types", 1),
    "negative in text": (one(start="-1"), "timestamps types", 0),
    "no time in text": (one(end="soon"), "types", 0),
    "boolean": (one(start=True), "types", 0),
    "null": ('{"segments": [{"start": null, "end": 4.4, "labels": {"camera_language": {}}}]}', "types", 0),
    "segment is a number": ('{"segments": [7]}', "types", 0),
    "labels is a list": (one(labels=["medium shot"]), "types", 1),
    "dimension is a tag": (one(labels={"camera_language": "medium shot"}), "types", 1),
    "tag is a number": (one(labels={"camera_language": {"shot_size": 3}}), "types", 1),
    "list with a number": (one(labels={"camera_language": {"shot_size": ["medium shot", 3]}}), "types", 1),
    "deep": ("[" * 100_000, "syntax fields timestamps types", 0),
    "deep and closed": ("[" * 5000 + "]" * 5000, "syntax fields timestamps types", 0),
    "lone surrogate": (one(labels={"camera_language": {"shot_size": "\ud800"}}), "", 1),
    "raw surrogate": (one() + "\ud800", "", 1),
    "zero length": (one(end=0.0), "", 1),
}


@pytest.mark.parametrize(("text", "failed", "usable"), FAULTS.values(), ids=FAULTS)
def test_each_fault_fails_the_check_that_names_it(text, failed, usable):
    answer = read(text)
    assert [name for name, bad in answer.faults._asdict().items() if bad] == failed.split()
    assert len(answer.segments) == usable


def test_a_time_in_a_text_is_used():
    assert times(read(one(start="1", end="00:01:02.5"))) == [(1.0, 62.5)]


def test_an_unusable_segment_still_counts():
    answer = read(
        '[{"start": 2, "end": 1, "labels": {}}, 7, {"start": 0, "end": 1, "labels": {"camera_language": {}}}]'
    )
    assert answer.count == 3 and len(answer.segments) == 1


def test_labels_are_not_looked_at_where_none_are_asked():
    assert read(one(labels=[1, 2]), None).faults == Faults()
    assert read("[{'start': 1}]", None) == UNREADABLE


def test_nesting_is_read_to_a_fixed_depth_wherever_it_is_called_from():
    def nested(depth):
        return '{"segments": [], "x": ' + "[" * (depth - 1) + "]" * (depth - 1) + "}"

    assert read(nested(MAX_DEPTH)).stated
    assert read(nested(MAX_DEPTH + 1)) == UNREADABLE
    assert read('{"segments": [], "x": "' + "[" * 1000 + '"}').stated, "brackets in a string nest nothing"


def test_json_must_end_within_the_limit():
    assert read_segments(one(), None, max_length=len(one())).stated
    assert read_segments(one(), None, max_length=len(one()) - 1) == UNREADABLE
    assert read_segments(one() + "x" * 1000, None, max_length=len(one())).stated


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0),
        (" 2.5 ", 2.5),
        ("1e2", 100.0),
        ("01:02.5", 62.5),
        ("75:00", 4500.0),
        ("00:01:02.5", 62.5),
        ("1:00:00", 3600.0),
        ("-5", -5.0),
        ("1:60", None),
        ("1:2", None),
        ("5s", None),
        ("0x10", None),
        ("nan", None),
        ("\u0665", None),
        ("", None),
    ],
)
def test_times_in_text(text, seconds):
    assert parse_time(text) == seconds


@given(st.text(alphabet='{}[]",:\\`<>think/answer0123456789.eE-+ \n\ud800é', max_size=200))
def test_no_text_raises(text):
    answer = read(text)
    assert 0 <= len(answer.segments) <= answer.count and 0.0 <= answer.faults.share <= 1.0
