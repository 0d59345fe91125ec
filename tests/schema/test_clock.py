"""Clock times are written in one form and read in few."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sv6d.schema.clock import Span, find_spans, read_time, write_time


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00:00.0"), (59.96, "00:01:00.0"), (3599.95, "01:00:00.0"), (4.4, "00:00:04.4"), (360000, "100:00:00.0")],
)
def test_times_are_written_with_tenths_that_carry(seconds, text):
    assert write_time(seconds) == text


@given(st.integers(0, 10**7))
def test_what_is_written_is_read_again(tenths):
    assert read_time(write_time(tenths / 10)) == pytest.approx(tenths / 10)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("00:04.4", 4.4), ("01:02:03", 3723), ("75:10", 4510), (" 00:05 ", 5), (2.5, 2.5), (0, 0)],
)
def test_what_is_read(value, seconds):
    assert read_time(value) == seconds


@pytest.mark.parametrize(
    "value",
    ["75", "-00:05", "00:60", "01:60:00", "0:5", "5 s", "", -1, float("nan"), float("inf"), True, None, "٠٠:٠٥"],
)
def test_what_is_no_time_is_refused_with_the_form_that_is(value):
    with pytest.raises(ValueError, match=r"is no time; write HH:MM:SS\.s or MM:SS\.s"):
        read_time(value)


@pytest.mark.parametrize("dash", ["-", "‐", "‑", "‒", "–", "—", "~", " to ", " – "])
def test_spans_are_found_whatever_the_dash(dash):
    assert find_spans(f"keep [00:01.0{dash}00:02.5] and 00:10:00{dash}00:10:30") == [Span(1.0, 2.5), Span(600, 630)]


def test_a_time_that_cannot_be_is_no_time():
    with pytest.raises(ValueError, match="-1 is no time in a video"):
        write_time(-1)
    assert find_spans("12:34:56:00 - 00:01 and 3-4 and 00:61-00:62") == []
