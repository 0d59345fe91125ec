"""The memo: each value is computed once, also by many at a time; failures are not kept; memory is bounded."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from sv6d.data_mixers.memo import Memo
from transformers import BatchFeature


def test_a_value_is_computed_once():
    memo, calls = Memo(1_000), []
    results = [memo.begin("key", lambda: calls.append(1) or len(calls)).result() for _ in range(8)]
    assert (results, calls) == ([1] * 8, [1])


def test_those_who_ask_while_it_is_computed_wait_for_the_same():
    memo, calls, go = Memo(1_000), [], threading.Event()

    def slow():
        go.wait(5)
        calls.append(1)
        return "value"

    with ThreadPoolExecutor(1) as pool:
        futures = [memo.begin("key", slow, pool.submit) for _ in range(8)]
        assert not futures[0].done()
        go.set()
        assert [future.result(5) for future in futures] == ["value"] * 8
    assert calls == [1]


def test_a_failure_reaches_the_caller_and_is_forgotten():
    memo = Memo(1_000)
    with pytest.raises(OSError, match="gone"):
        memo.begin("key", lambda: (_ for _ in ()).throw(OSError("gone"))).result()
    assert memo.begin("key", lambda: "back").result() == "back"


def test_the_least_recently_used_goes_first():
    memo = Memo(capacity=250)
    for key in ("a", "b"):
        memo.begin(key, lambda: np.zeros(100, np.uint8))
    memo.begin("a", lambda: pytest.fail("a is held"))
    memo.begin("c", lambda: [np.zeros(100, np.uint8)])
    assert memo.held == 200
    memo.begin("a", lambda: pytest.fail("a was used after b"))
    assert memo.begin("b", lambda: "again").result() == "again"


def test_images_count_by_their_pixels():
    memo = Memo(10_000)
    memo.begin("key", lambda: {"images": [Image.new("RGB", (10, 20))], "none": None})
    assert memo.held == 600


def test_what_a_processor_gives_counts_by_its_tensors():
    """It is a mapping, and no dict."""
    memo = Memo(10_000)
    memo.begin("key", lambda: (BatchFeature({"pixel_values": np.zeros((10, 20), np.float32)}), [np.zeros(5, np.uint8)]))
    assert memo.held == 805


def test_what_is_too_large_to_hold_is_still_handed_out():
    memo = Memo(capacity=10)
    assert memo.begin("key", lambda: np.zeros(100, np.uint8)).result().size == 100
    assert memo.held == 0
