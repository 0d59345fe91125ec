"""Shots, skeleton segments (Definition 2) and the structural document (eq. 4)."""

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sv6d.schema import Document, DocumentError, Shot, check_document, merge_shots, read_document
from sv6d.schema.clock import read_time, write_time
from sv6d.schema.document import examine_document, shown_time

SOUND = Document(
    video="a.mp4",
    duration=9.0,
    skeleton_type="dramatic_arc",
    shots=(
        Shot(0.0, 4.4, "exposition", {"camera_language": {"shot_size": "medium shot"}}),
        Shot(4.4, 6.0, "exposition", {"camera_language": {"camera_movement": ["push in", "roll"]}}),
        Shot(6.0, 9.0, "climax", {"subject": {"framing_type": "objective", "configuration": "group"}}),
    ),
)


def problems(document):
    return [f"{p.place}: {p.message}" for p in check_document(document)]


def with_shot(i, **changes):
    shots = list(SOUND.shots)
    shots[i] = replace(shots[i], **changes)
    return replace(SOUND, shots=tuple(shots))


def test_skeleton_merges_neighbours_of_one_role():
    first, second = SOUND.skeleton
    assert (first.role, first.first, first.last, first.start, first.end) == ("exposition", 0, 1, 0.0, 6.0)
    assert (second.role, second.first, second.last, second.start, second.end) == ("climax", 2, 2, 6.0, 9.0)


@given(st.lists(st.sampled_from("abc"), max_size=12))
def test_skeleton_is_a_homogeneous_maximal_partition(roles):
    shots = [Shot(i, i + 1, role) for i, role in enumerate(roles)]
    segments = merge_shots(shots)
    assert [i for s in segments for i in range(s.first, s.last + 1)] == list(range(len(roles)))
    assert all(roles[i] == s.role for s in segments for i in range(s.first, s.last + 1))
    assert all(a.role != b.role for a, b in itertools.pairwise(segments))
    assert all((s.start, s.end) == (s.first, s.last + 1) for s in segments)


def test_json_round_trip():
    assert read_document(SOUND.to_json()) == SOUND
    assert check_document(SOUND) == []


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (with_shot(1, start=4.6), "shots[1].start: is 4.6, the end of shots[0] is at 4.4: gap"),
        (with_shot(1, start=4.0), "overlap"),
        (with_shot(0, start=0.5), "the video's start"),
        (with_shot(2, end=8.0), "the video ends at 9.0"),
        (with_shot(0, start=5.0), "a start lies before its end"),
        (with_shot(0, role="climx"), "did you mean 'climax'"),
        (replace(SOUND, skeleton_type="three_acts"), "'three_act'"),
        (with_shot(0, labels={"camera_language": {"shot_size": "MCU"}}), "use 'medium close-up'"),
        (with_shot(0, labels={"camera": {"shot_size": "medium shot"}}), "'camera_language'"),
        (with_shot(0, labels={"camera_language": {"shot_size": ["medium shot", "close-up"]}}), "takes one tag"),
        (with_shot(0, labels={"camera_language": {"camera_movement": ["roll", "Roll"]}}), "twice"),
        (
            with_shot(0, labels={"subject": {"framing_type": "insert", "configuration": "group"}}),
            "a detail cannot hold",
        ),
        (replace(SOUND, shots=()), "at least one shot"),
        (replace(SOUND, duration=0.0), "duration"),
        (replace(SOUND, video=""), "video: is missing; name the video's file"),
    ],
)
def test_each_fault_is_named(document, said):
    assert any(said in problem for problem in problems(document)), problems(document)


def test_a_suspicious_pair_is_a_warning():
    shot = {"subject": {"framing_type": "insert", "configuration": "two-person"}}
    (problem,) = check_document(with_shot(2, labels=shot))
    assert problem.level == "warning"


def test_a_shot_whose_times_print_alike_is_a_warning():
    document = replace(SOUND, shots=(*SOUND.shots[:2], Shot(6.0, 6.003), replace(SOUND.shots[2], start=6.003)))
    (problem,) = check_document(document)
    assert problem.level == "warning" and problem.place == "shots[2]" and "join it to its neighbour" in problem.message


@given(st.floats(0, 1e5))
def test_shown_times_are_printed_times(seconds):
    assert shown_time(seconds) == read_time(write_time(seconds))


def test_the_reports_accent_is_read():
    assert check_document(with_shot(2, role="d\u00e9nouement")) == []


def test_roles_and_skeletons_become_the_taxonomy_s_own():
    """Else one role in two spellings would be two skeleton segments."""
    told = json.loads(SOUND.to_json())
    told["shots"][0]["role"], told["shots"][2]["role"] = "Exposition", "De\u0301nouement"
    document = read_document(told)
    assert [segment.role for segment in document.skeleton] == ["exposition", "denouement"]
    told |= {"skeleton_type": "ki_sh\u014d_ten_ketsu", "shots": [{**told["shots"][0], "role": "Ki", "end": 9.0}]}
    document = read_document(told)
    assert (document.skeleton_type, document.shots[0].role) == ("ki_sho_ten_ketsu", "ki")
    assert read_document({**told, "skeleton_type": "mine"}).shots[0].role == "Ki"


def test_clock_times_are_read():
    told = json.loads(SOUND.to_json()) | {"duration": "00:00:09.0"}
    told["shots"][0]["end"] = told["shots"][1]["start"] = "00:04.4"
    assert read_document(told) == SOUND
    told["shots"][0]["end"] = "4.4"
    with pytest.raises(
        DocumentError, match=r"not a structural document: shots\[0\]\.end: '4\.4' is no time; write HH:MM"
    ):
        read_document(told)


def test_keys_that_nobody_reads_are_warned_of():
    told = json.loads(SOUND.to_json()) | {"schema_version": 1, "durations": 9}
    told["shots"][1]["evidence"] = {"shot_size": "face"}
    told["shots"][1]["lables"] = told["shots"][1].pop("labels")
    document, problems = examine_document(json.dumps(told))
    assert document.shots[1].labels == {}
    assert [str(problem) for problem in problems] == [
        "warning: document: key 'durations' is not read; did you mean 'duration'?",
        "warning: shots[1]: key 'lables' is not read; did you mean 'labels'?",
    ]
    assert examine_document("{")[0] is None


@pytest.mark.parametrize("text", ["", "[]", '{"shots": []}', '{"shots": [{"start": "0"}], "duration": 1}', "[" * 10**5])
def test_what_is_no_document_is_refused(text):
    with pytest.raises(DocumentError, match="not a structural document"):
        read_document(text)
