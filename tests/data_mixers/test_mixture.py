"""The mixture: every epoch visits each row once, positions need no history, states are small and checked."""

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sv6d.data_mixers import Mixture, MixtureMismatch
from sv6d.data_mixers.mixture import permutation


@given(st.integers(1, 500), st.text(max_size=5))
def test_a_permutation_holds_each_row_once(size, key):
    assert sorted(permutation(key, size).tolist()) == list(range(size))


def test_a_permutation_does_not_drift_between_versions():
    # A golden: these values must stay, or a resumed run would see other prompts.
    assert permutation("0/0/subject", 8).tolist() == [4, 6, 0, 1, 3, 5, 2, 7]


def test_keys_shuffle_differently():
    assert len({tuple(permutation(str(key), 20).tolist()) for key in range(100)}) == 100


def test_first_places_are_spread_evenly():
    # 6 orders of 3 rows over 6000 keys: 1000 each expected, standard deviation about 29.
    orders = [tuple(permutation(f"key{i}", 3).tolist()) for i in range(6_000)]
    assert all(850 < orders.count(order) < 1_150 for order in set(orders))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 3))
def test_every_epoch_of_a_task_visits_each_row_once(sizes, seed):
    mixture = Mixture({f"task{i}": size for i, size in enumerate(sizes)}, seed=seed)
    seen: dict[tuple[str, int], list[int]] = {}
    for position in range(len(sizes) * max(sizes) * 2):
        task, row, epoch = mixture.locate(position)
        seen.setdefault((task, epoch), []).append(row)
    for (task, epoch), rows in seen.items():
        last = max(e for t, e in seen if t == task)
        assert len(set(rows)) == len(rows)
        assert epoch == last or len(rows) == mixture.sizes[task]


def test_positions_can_be_asked_in_any_order():
    sizes = {"a": 7, "b": 3, "c": 11}
    forward = Mixture(sizes, {"a": 1, "b": 2, "c": 3}, seed=5)
    backward = Mixture(sizes, {"a": 1, "b": 2, "c": 3}, seed=5)
    expected = [forward.locate(position) for position in range(200)]
    assert [backward.locate(position) for position in reversed(range(200))] == expected[::-1]


def test_a_mixture_travels_to_other_processes():
    mixture = Mixture({"a": 7, "b": 3}, seed=5)
    mixture.locate(3)
    assert pickle.loads(pickle.dumps(mixture)).locate(8) == mixture.locate(8)


def test_another_task_leaves_a_tasks_row_order_alone():
    def rows(mixture):
        located = (mixture.locate(position) for position in range(100))
        return [location.row for location in located if location.task == "a"][:9]

    assert rows(Mixture({"a": 9, "b": 4})) == rows(Mixture({"a": 9, "b": 5, "c": 2}))
    assert rows(Mixture({"a": 9}, seed=0)) != rows(Mixture({"a": 9}, seed=1))


def test_equal_mixtures_have_equal_fingerprints():
    assert Mixture({"a": 3, "b": 4}).fingerprint == Mixture({"a": 3, "b": 4}, {"a": 0.5, "b": 0.5}).fingerprint
    others = [Mixture({"b": 4, "a": 3}), Mixture({"a": 3, "b": 5}), Mixture({"a": 3, "b": 4}, seed=1)]
    assert len({mixture.fingerprint for mixture in [*others, Mixture({"a": 3, "b": 4})]}) == 4


def test_a_state_is_small_plain_and_resumes():
    mixture = Mixture({f"a_rather_long_task_name_{i}": 10**6 + i for i in range(64)})
    state = json.dumps(mixture.state(position=58_500))
    assert len(state) < 1_024
    assert mixture.resume(json.loads(state)) == 58_500


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (Mixture({"a": 3, "b": 4}, seed=2), r"seed \(saved 1, now 2\)"),
        (Mixture({"a": 3, "b": 5}, seed=1), r"sizes \(b 4 -> 5\)"),
        (Mixture({"a": 3, "b": 4}, {"a": 2, "b": 1}, seed=1), r"weights \(a 1 -> 2\)"),
        (Mixture({"a": 3, "c": 4}, seed=1), "other tasks"),
    ],
)
def test_the_state_of_another_mixture_is_refused_with_what_differs(other, difference):
    saved = Mixture({"a": 3, "b": 4}, seed=1).state(position=10)
    with pytest.raises(MixtureMismatch, match=difference):
        other.resume(saved)


def test_a_task_without_rows_is_refused():
    with pytest.raises(ValueError, match="'b' has 0 rows"):
        Mixture({"a": 1, "b": 0})


def test_weights_for_other_tasks_than_the_sources_are_refused():
    with pytest.raises(ValueError, match="weight for 'ocr', which has no rows; no weight for 'b'"):
        Mixture({"a": 1, "b": 1}, {"a": 1, "ocr": 1})
