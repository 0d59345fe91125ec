"""The quick reader: it takes what keeps to the form, and reads it as the lenient reader does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from sv6d.schema.answer import Faults, read_json
from sv6d.schema.form import form_reader

SIZE, MOVEMENT = ("camera_language", "shot_size"), ("camera_language", "camera_movement")
ROLE = ("narrative", "segment_function")
read = form_reader((MOVEMENT, SIZE, ROLE), required=("camera_language",))
FULL = {"camera_language": {"shot_size": "long shot", "camera_movement": ["roll", "arc"]}, "narrative": {}}


def one(labels, **more):
    return {"start": 1, "end": 2.5, "labels": labels, **more}


def test_a_row_is_start_end_and_what_is_said_in_each_sub_dimension():
    row = (1.0, 2.5, ("roll", "arc"), "long shot", UNSET)
    assert read(json.dumps({"segments": [one(FULL)]})) == read(json.dumps([one(FULL)])) == [row]
    assert read(json.dumps([one({"camera_language": {"shot_size": []}})])) == [(1.0, 2.5, UNSET, (), UNSET)]
    assert read("[]") == []


def test_what_trails_is_left_out():
    text = json.dumps([one(FULL)])
    assert read(text + " That is all.\n") == read(text) is not None
    assert read(json.dumps({"segments": []}) + "]") == []
    assert read(text + " []") is None, "for the lenient reader, as is everything unusual"


@pytest.mark.parametrize(
    "value",
    [
        [one({"narrative": {}})],  # a required dimension is missing
        [one(FULL | {"editing": {}})],
        [one({"camera_language": {"shot_size": "long shot", "size": "long shot"}})],
        [one({"camera_language": {"shot_size": 3}})],
        [one(FULL) | {"start": "1"}],
        [{"start": 1, "end": 2}],
        {"segments": None},
        {},
    ],
)
def test_anything_else_is_left_to_the_lenient_reader(value):
    assert read(json.dumps(value)) is None


def test_keys_beside_the_form_are_passed_over_unless_they_nest_too_deep():
    plain = read(json.dumps({"segments": [one(FULL)]}))
    assert read(json.dumps({"note": [{}], "segments": [one(FULL, note={"a": [1]})]})) == plain
    deep = json.dumps({"segments": [one(FULL)], "x": 0})
    assert read(deep.replace("0}", "[" * 400 + "]" * 400 + "}")) == plain
    assert read(deep.replace("0}", "[" * 500 + "]" * 500 + "}")) is None


@pytest.mark.parametrize("text", ["[", "{", "[NaN]", "[" * 100_000, '["\ud800"]', "{]"])
def test_broken_json_is_left_to_it_too(text):
    assert read(text) is None


def test_a_dimension_may_have_any_name():
    odd = form_reader((("a b.c", "class"), ("_", "d0")), ("_",))
    assert odd('[{"start":0,"end":1,"labels":{"_":{"d0":"x"},"a b.c":{"class":"y"}}}]') == [(0.0, 1.0, "y", "x")]


def test_without_labels_there_must_be_none():
    spans = form_reader(None)
    assert spans('[{"start":0,"end":1}]') == [(0.0, 1.0)]
    assert spans('[{"start":0,"end":1,"labels":{"x":3}}]') == [(0.0, 1.0)], "labels are passed over"


tags = st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=3) | st.just(3)
labels = st.fixed_dictionaries(
    {"camera_language": st.fixed_dictionaries({}, optional={"shot_size": tags, "camera_movement": tags})},
    optional={"narrative": st.fixed_dictionaries({}, optional={"segment_function": tags})},
)
others = st.dictionaries(
    st.sampled_from(["note", "labels2"]), st.recursive(st.floats() | st.text(max_size=3), st.lists)
)
numbers = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.fixed_dictionaries({"start": numbers, "end": numbers, "labels": labels}), max_size=4), others, st.text()
)
def test_what_it_reads_the_lenient_reader_reads_alike(items, others, trail):
    text = json.dumps([{**others, **item} for item in items]) + trail
    rows = read(text)
    if rows is not None:
        answer = read_json(text, ("camera_language",))
        assert answer.count == len(rows)
        assert answer.faults == Faults(timestamps=any(not 0 <= start <= end for start, end, *_ in rows))
        usable = [(start, end) for start, end, *_ in rows if 0 <= start <= end]
        assert [(s.start, s.end) for s in answer.segments] == usable
