"""The mixture: every epoch visits each row once, positions need no history, sources may be used up, states are small and
checked, weights may change."""

import json
import pickle
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sv6d.data_mixers import Location, Mixture, MixtureMismatch, Segment
from sv6d.data_mixers import mixture as mixture_module
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


def test_two_shuffles_of_a_task_are_held_and_not_more(monkeypatch):
    """Epochs of 3 rows: going on builds each once; a look back at the first epoch builds it again."""
    built = []
    monkeypatch.setattr(mixture_module, "permutation", lambda key, size: built.append(key) or permutation(key, size))
    mixture = Mixture({"a": 3}, seed=5)
    rows = [mixture.locate(position) for position in range(12)]
    assert built == ["5/0/a", "5/1/a", "5/2/a", "5/3/a"]
    assert [mixture.locate(position) for position in (9, 6, 2, 0)] == [rows[9], rows[6], rows[2], rows[0]]
    assert built[4:] == ["5/0/a"]
    assert {kind: len(held) for kind, held in mixture._orders.items()} == {"a": 2}


def test_refills_visit_each_row_once_in_orders_of_their_own():
    mixture = Mixture({"a": 6, "b": 4}, seed=5)
    refills = [mixture.refill("a", number) for number in range(12)]
    assert [refill.epoch for refill in refills] == [0] * 6 + [1] * 6
    assert (
        sorted(refill.row for refill in refills[:6]) == sorted(refill.row for refill in refills[6:]) == list(range(6))
    )
    stream = [place.row for place in map(mixture.locate, range(12)) if place.task == "a"]
    assert [refill.row for refill in refills[:6]] != stream


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


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 5)), min_size=1, max_size=5),
    st.integers(0, 60),
    st.integers(0, 40),
)
def test_many_positions_at_once_are_the_single_ones(sources, start, count):
    sizes = {f"task{i}": size for i, (size, _) in enumerate(sources)}
    mixture = Mixture(sizes, {f"task{i}": weight for i, (_, weight) in enumerate(sources)}, seed=1)
    places = mixture.places(range(start, start + count))
    together = [Location(mixture.tasks[task], int(row), int(epoch)) for task, row, epoch in zip(*places, strict=True)]
    assert together == [mixture.locate(position) for position in range(start, start + count)]


def test_a_stride_is_refused_with_what_it_would_see():
    """13 equal tasks dealt to 13 ranks in turn: each rank would train one task."""
    mixture = Mixture({f"task{i:02}": 5 for i in range(13)})
    with pytest.raises(ValueError, match=r"stride of 13 .* it would see 1 of 13 tasks \(task02\).*contiguous chunk"):
        mixture.places(range(2, 390, 13))


def test_what_was_asked_for_is_counted():
    mixture = Mixture({"a": 3, "b": 5}, {"a": 1, "b": 2})
    assert mixture.requested(0, 30) == {"a": 10, "b": 20}
    assert mixture.epochs(30) == {"a": 10 / 3, "b": 4.0}


# Sources that are used up


def test_a_source_that_repeats_tells_when():
    # a b a b a b a ...: the three rows of a come at 0, 2, 4; the five of b at 1, 3, 5, 7, 9.
    mixture = Mixture({"a": 3, "b": 5})
    assert mixture.exhaustions == (("a", 5), ("b", 10))
    assert mixture.length is None
    assert mixture.locate(6) == ("a", mixture.locate(6).row, 1)


def test_a_source_that_stops_ends_the_stream_before_a_row_comes_twice():
    mixture = Mixture({"a": 3, "b": 5}, exhausted="stop")
    assert mixture.length == 6  # position 6 would be a's first row again
    repeating = Mixture({"a": 3, "b": 5})
    assert [mixture.locate(position) for position in range(6)] == [repeating.locate(position) for position in range(6)]
    with pytest.raises(
        ValueError, match="needs 7 prompts and the mixture ends at position 6: there the 3 rows of a are used up"
    ):
        mixture.locate(6)
    with pytest.raises(ValueError, match=r"ends at position 6 \(step 4\)"):
        mixture.require(8, step=2)


def test_the_task_that_ends_the_stream_is_named():
    """a's two rows are used up first, but a is drawn no more; b's fourth draw would repeat a row."""
    mixture = Mixture({"a": 2, "b": 3}, [Segment(0, {"a": 1, "b": 1}), Segment(4, {"b": 1})], exhausted="stop")
    assert (mixture.exhaustions, mixture.length) == ((("a", 3), ("b", 5)), 5)
    with pytest.raises(ValueError, match="the 3 rows of b are used up"):
        mixture.require(6)


def test_a_task_that_is_drawn_no_more_does_not_stop_the_stream():
    """Its 5 rows are used up at position 9, just before its weight goes: nothing would be repeated."""
    segments = [Segment(0, {"a": 1, "b": 1}), Segment(10, {"b": 1})]
    mixture = Mixture({"a": 5, "b": 25}, segments, exhausted="stop")
    assert (mixture.exhaustions, mixture.length) == ((("a", 9), ("b", 30)), 30)


def test_others_take_over_from_a_source_that_leaves():
    # a is used up after position 4; b alone goes on until its fifth row, position 7.
    mixture = Mixture({"a": 3, "b": 5}, exhausted="renormalise")
    assert [mixture.locate(position).task for position in range(8)] == list("abababbb")
    assert mixture.exhaustions == (("a", 5), ("b", 8))
    assert mixture.length == 8


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 5)), min_size=1, max_size=5))
def test_a_renormalised_mixture_draws_every_row_once_and_keeps_the_ratios(sources):
    """While tasks are left, each is within two draws of its share among those that are left."""
    sizes = {f"task{i}": size for i, (size, _) in enumerate(sources)}
    weights = {f"task{i}": weight for i, (_, weight) in enumerate(sources)}
    mixture = Mixture(sizes, weights, exhausted="renormalise")
    places = [mixture.locate(position) for position in range(mixture.length)]
    assert sorted((task, row) for task, row, _ in places) == sorted((t, r) for t in sizes for r in range(sizes[t]))
    start, left = 0, dict(weights)
    for task, end in mixture.exhaustions:
        drawn = Counter(place.task for place in places[start:end])
        for other, weight in left.items():
            assert abs(drawn[other] - (end - start) * weight / sum(left.values())) < 2
        start = end
        del left[task]


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="exhausted is 'shrink'; set it to repeat, stop or renormalise"):
        Mixture({"a": 1}, exhausted="shrink")


# Weights that change


def test_segments_may_give_a_task_nothing_for_a_while():
    segments = [{"start": 0, "weights": {"a": 1, "b": 1}}, Segment(10, {"a": 1, "b": 1, "c": 2})]
    mixture = Mixture({"a": 9, "b": 9, "c": 9}, segments)
    assert mixture.requested(0, 10) == {"a": 5, "b": 5, "c": 0}
    assert mixture.requested(10, 30) == {"a": 5, "b": 5, "c": 10}


def test_segments_weigh_exactly_the_sources():
    with pytest.raises(ValueError, match="no weight for 'c'"):
        Mixture({"a": 9, "c": 9}, [{"start": 0, "weights": {"a": 1}}])


OLD, NEW = {"a": 1, "b": 3}, {"a": 3, "b": 1}


def mixture(weights, **options):
    return Mixture({"a": 30, "b": 50}, weights, seed=2, **options)


def test_other_weights_are_refused_unless_they_are_carried():
    state = mixture(OLD).state(10)
    with pytest.raises(
        MixtureMismatch, match=r"other weights \(a 1 -> 3, b 3 -> 1\).*from position 10.*on_change=carry"
    ):
        mixture(NEW).resume(state)


def test_carried_weights_begin_where_the_state_was_saved_and_repay_what_is_owed():
    # 10 draws at 1 : 3 are 2.5 and 7.5; the schedule drew 3 and 7, so b is owed half a draw. Then 3 : 1.
    old = mixture(OLD)
    assert old.requested(0, 10) == {"a": 3, "b": 7}
    carried, position = mixture(NEW).resume(old.state(10), on_change="carry")
    assert position == 10
    assert [carried.locate(p) for p in range(10)] == [old.locate(p) for p in range(10)]
    for stop in range(11, 60):
        entitled = 2.5 + 0.75 * (stop - 10)
        assert abs(carried.requested(0, stop)["a"] - entitled) <= 1


def test_a_carried_run_resumes_without_being_asked_again():
    carried, _ = mixture(NEW).resume(mixture(OLD).state(10), on_change="carry")
    again, position = mixture(NEW).resume(json.loads(json.dumps(carried.state(33))))
    assert position == 33
    assert [again.locate(p) for p in range(80)] == [carried.locate(p) for p in range(80)]


def test_a_carried_change_keeps_what_is_planned_after_it():
    planned = [Segment(0, NEW), Segment(40, {"a": 1, "b": 1}, ramp=20)]
    carried, _ = mixture(planned).resume(mixture(OLD).state(10), on_change="carry")
    assert carried.requested(16, 40) == {"a": 18, "b": 6}
    assert carried.requested(60, 100)["a"] in (20, 21)
    again, _ = mixture(planned).resume(carried.state(33))
    assert again.fingerprint == carried.fingerprint


def test_a_plan_that_differs_in_the_past_only_is_the_same_run():
    """The change was made by hand at 10; the settings were then written as a plan with that change."""
    carried, _ = mixture(NEW).resume(mixture(OLD).state(10), on_change="carry")
    written = mixture([Segment(0, OLD), Segment(10, NEW)])
    resumed, _ = written.resume(carried.state(50))
    assert resumed.fingerprint == carried.fingerprint


def test_a_carried_change_moves_when_sources_are_used_up():
    old = Mixture({"a": 4, "b": 50}, OLD, exhausted="renormalise")
    carried, _ = Mixture({"a": 4, "b": 50}, NEW, exhausted="renormalise").resume(old.state(8), on_change="carry")
    assert old.exhaustions[0].position > carried.exhaustions[0].position > 8
    assert carried.length == old.length == 54
    places = [carried.locate(position) for position in range(54)]
    assert len({(place.task, place.row) for place in places}) == 54


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["repeat", "renormalise"]),
    st.lists(
        st.tuples(st.integers(0, 25), st.lists(st.integers(1, 4), min_size=3, max_size=3)), min_size=1, max_size=4
    ),
)
def test_any_chain_of_resumptions_goes_on_with_the_same_past(exhausted, changes):
    """Resumed again and again with other weights, each time through JSON in a new process: what was drawn stays as it was,
    and a process that resumes without a change draws what the one before would have."""
    sizes = {"a": 30, "b": 40, "c": 50}
    now, position = Mixture(sizes, seed=3, exhausted=exhausted), 0
    for more, weights in changes:
        position += more
        past = [now.locate(p) for p in range(position)]
        state = json.loads(json.dumps(now.state(position)))
        now, _ = Mixture(sizes, dict(zip("abc", weights, strict=True)), 3, exhausted).resume(state, on_change="carry")
        assert [now.locate(p) for p in range(position)] == past
        again, _ = Mixture(sizes, dict(zip("abc", weights, strict=True)), 3, exhausted).resume(now.state(position + 5))
        assert [again.locate(p) for p in range(position, 110)] == [now.locate(p) for p in range(position, 110)]
    assert exhausted == "repeat" or sorted(now.locate(p)[:2] for p in range(120)) == [
        (task, row) for task in "abc" for row in range(sizes[task])
    ]


def test_a_change_after_a_source_was_used_up_leaves_it_out():
    """a's 4 rows are gone at position 14; at 20 the weights change, in a's favour too, which has nothing left."""
    sizes = {"a": 4, "b": 50, "c": 50}
    old = Mixture(sizes, {"a": 1, "b": 2, "c": 1}, exhausted="renormalise")
    assert old.exhaustions[0] == ("a", 14)
    carried, _ = Mixture(sizes, {"a": 5, "b": 1, "c": 3}, exhausted="renormalise").resume(
        old.state(20), on_change="carry"
    )
    assert [carried.locate(p) for p in range(20)] == [old.locate(p) for p in range(20)]
    assert carried.exhaustions[0] == ("a", 14)
    drawn = carried.requested(20, 60)
    assert drawn["a"] == 0
    assert abs(drawn["c"] - 30) <= 2
    assert carried.length == sum(sizes.values())


def test_a_stream_ends_where_nothing_is_left_to_draw():
    """From 10 on only a has a weight, and its 8 rows are gone three draws later."""
    mixture = Mixture({"a": 8, "b": 50}, [Segment(0, {"a": 1, "b": 1}), Segment(10, {"a": 1})], exhausted="renormalise")
    assert (mixture.length, mixture.exhaustions) == (13, (("a", 13),))


# States


@pytest.mark.parametrize(("tasks", "exhausted"), [(1, "stop"), (13, "renormalise"), (64, "repeat")])
def test_a_state_is_small_plain_and_resumes(tasks, exhausted):
    sizes = {f"a_rather_long_task_name_{i}": 10**6 + i for i in range(tasks)}
    weights = {task: 1 + i**2 for i, task in enumerate(sizes)}
    mixture = Mixture(sizes, weights, exhausted=exhausted)
    state = json.dumps(mixture.state(position=58_500))
    assert len(state) < 1_024
    resumed, position = Mixture(sizes, weights, exhausted=exhausted).resume(json.loads(state))
    assert (resumed.fingerprint, position) == (mixture.fingerprint, 58_500)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (Mixture({"a": 3, "b": 4}, seed=2), r"seed \(saved 1, now 2\)"),
        (Mixture({"a": 3, "b": 5}, seed=1), r"sizes \(b 4 -> 5\)"),
        (Mixture({"a": 3, "b": 4}, {"a": 2, "b": 1}, seed=1), r"other weights \(a 1 -> 2\)"),
        (Mixture({"a": 3, "c": 4}, seed=1), r"other tasks \(now a, c\)"),
        (Mixture({"a": 3, "b": 4}, seed=1, exhausted="stop"), r"exhausted \(saved repeat, now stop\)"),
        (Mixture({"a": 3, "b": 4}, seed=1, mode="window"), r"mode \(saved prefix, now window\)"),
        (Mixture({"a": 5, "b": 4}, seed=3), r"sizes \(a 3 -> 5\); seed \(saved 1, now 3\)"),
    ],
)
def test_the_state_of_another_mixture_is_refused_with_what_differs(other, difference):
    saved = Mixture({"a": 3, "b": 4}, seed=1).state(position=10)
    with pytest.raises(MixtureMismatch, match=difference):
        other.resume(saved)


@pytest.mark.parametrize("position", [36, 40, 49, 50, 90])
def test_weights_carried_within_a_ramp_are_gone_on_with_unasked(position):
    sizes, equal = {"a": 7, "b": 11}, Segment(0, {"a": 1, "b": 1})
    saved = Mixture(sizes, [equal, Segment(30, {"a": 1, "b": 4}, 20)]).state(35)
    now = [equal, Segment(30, {"a": 9, "b": 4}, 20)]
    carried, _ = Mixture(sizes, now).resume(saved, "carry")
    again, start = Mixture(sizes, now).resume(json.loads(json.dumps(carried.state(position))))
    assert (again.fingerprint, start) == (carried.fingerprint, position)


def test_what_is_no_state_is_told():
    with pytest.raises(MixtureMismatch, match=r"no state of a mixture, it holds _num_yielded.*trainer that saved it"):
        Mixture({"a": 3}).resume({"_num_yielded": 3})


def test_of_many_sources_those_that_differ_are_named():
    sizes = {f"task{i}": 10**6 + i for i in range(64)}
    with pytest.raises(MixtureMismatch, match=r"sizes \(task7 now 12\)"):
        Mixture({**sizes, "task7": 12}).resume(Mixture(sizes).state(3))


def test_of_very_many_sources_it_is_only_told_that_some_differ():
    sizes = {f"task{i}": 10**6 + i for i in range(300)}
    state = Mixture(sizes).state(3)
    assert len(json.dumps(state)) < 1_024
    with pytest.raises(MixtureMismatch, match=r"sizes \(some of 300\)"):
        Mixture({**sizes, "task7": 12}).resume(state)


@pytest.mark.parametrize("segments", [[{"start": 0, "weigths": {"a": 1}}], [1, 2], "ab"])
def test_settings_that_are_no_segments_are_refused_with_their_form(segments):
    with pytest.raises(ValueError, match=r"is no segment; write \{start: position, weights: \{task: number\}"):
        Mixture({"a": 1}, segments)


def test_a_task_without_rows_is_refused():
    with pytest.raises(ValueError, match="'b' has 0 rows"):
        Mixture({"a": 1, "b": 0})


def test_weights_for_other_tasks_than_the_sources_are_refused():
    with pytest.raises(ValueError, match="weight for 'ocr', which has no rows; no weight for 'b'"):
        Mixture({"a": 1, "b": 1}, {"a": 1, "ocr": 1})
