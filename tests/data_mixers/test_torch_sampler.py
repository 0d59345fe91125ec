"""The sampler for people outside verl: what it draws, how ranks share a batch, and what a state resumes."""

import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given, settings
from hypothesis import strategies as st
from sv6d.data_mixers import Mixture, MixtureMismatch
from sv6d.data_mixers.sharding import batch_shard
from sv6d.data_mixers.torch_sampler import MixtureSampler
from torch.utils.data import BatchSampler, DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

TASKS = [*"aabacbbaabc", *"ccaab"]  # a: 7 rows, b: 5, c: 4, in no order
WEIGHTS = {"a": 2, "b": 1, "c": 1}


def sampler(**options):
    return MixtureSampler(TASKS, **{"batch_size": 4, "length": 24, "weights": WEIGHTS, "seed": 5, **options})


def rows(stop, start=0):
    """The dataset's rows at positions of the mixture: task "a"'s row 2 is the third "a" of TASKS."""
    mixture = Mixture({"a": 7, "b": 5, "c": 4}, WEIGHTS, seed=5)
    places = [mixture.locate(position) for position in range(start, stop)]
    return [int(np.flatnonzero(np.array(TASKS) == place.task)[place.row]) for place in places]


def test_it_draws_the_mixture():
    assert list(sampler()) == rows(24)
    assert len(sampler()) == 24


def test_a_second_pass_goes_on():
    twice = sampler()
    assert [*twice, *twice] == rows(48)


def test_the_length_is_in_whole_batches():
    assert list(sampler(length=23)) == rows(20)
    with pytest.raises(ValueError, match="length=3 holds no batch of 4 prompts"):
        sampler(length=3)


def test_a_run_longer_than_the_mixture_is_refused_with_its_end():
    # Half of the draws are of a, so its 7 rows are used up after about 14 draws: three batches of 4 fit, six do not.
    with pytest.raises(
        ValueError, match=r"24 prompts and the mixture ends at position 15 \(step 4\): there the 7 rows of a"
    ):
        sampler(exhausted="stop")
    assert list(sampler(exhausted="stop", length=15)) == rows(12)


def test_groups_and_repeated_batches():
    """As TRL wants them: each prompt G times in a row, each batch once for every step that trains on it."""
    drawn = list(sampler(length=8, repeats=2, passes=3))
    batches = [rows(4), rows(8, start=4)]
    assert drawn == [row for batch in batches for _ in range(3) for row in batch for _ in range(2)]
    assert len(sampler(length=8, repeats=2, passes=3)) == 48


@given(st.integers(1, 8), st.integers(1, 6))
def test_ranks_share_a_batch_in_contiguous_chunks(world, chunk):
    shards = [batch_shard(world * chunk, rank, world) for rank in range(world)]
    assert [place for shard in shards for place in shard] == list(range(world * chunk))
    assert {len(shard) for shard in shards} == {chunk}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((390, 0, 4), "390 prompts does not divide over 4 ranks.*take 388 or 392"),
        ((8, 2, 2), "rank 2 of 2 does not exist"),
    ],
)
def test_a_batch_that_does_not_divide_is_refused(arguments, error):
    with pytest.raises(ValueError, match=error):
        batch_shard(*arguments)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_all_ranks_together_draw_the_mixture(world):
    ranks = [list(sampler(rank=rank, world=world)) for rank in range(world)]
    chunk = 4 // world
    together = [row for step in range(6) for own in ranks for row in own[step * chunk : (step + 1) * chunk]]
    assert together == rows(24)


def test_accelerate_deals_contiguous_chunks_of_it():
    """Accelerate (and so TRL) gives whole batches to the ranks in turn: a step of all ranks is a window of the mixture."""
    shards = [BatchSamplerShard(BatchSampler(sampler(), 2, False), num_processes=2, process_index=i) for i in (0, 1)]
    steps = [left + right for left, right in zip(*shards, strict=True)]
    assert [row for step in steps for row in step] == rows(24)


# Resumption


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_state_resumes_with_any_batch_and_world(data):
    """Stopped after some steps, continued with another batch size and world, stopped and continued again."""
    position, drawn = 0, []
    state = None
    for _ in range(3):
        world, chunk = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
        steps = data.draw(st.integers(0, 3))
        size = world * chunk
        own = []
        for rank in range(world):
            each = sampler(batch_size=size, length=240, rank=rank, world=world)
            if state is not None:
                each.load_state_dict(json.loads(state))
            own.append([list(islice(each_iterator, chunk)) for each_iterator in [iter(each)] for _ in range(steps)])
            saved = json.dumps(each.state_dict())
        drawn += [row for step in range(steps) for rank in range(world) for row in own[rank][step]]
        position += steps * size
        state = saved
        assert len(state) < 1_024
    assert drawn == rows(position)


@pytest.mark.parametrize("workers", [0, 2])
def test_torchdatas_loader_saves_and_restores_it(workers):
    def loader():
        return StatefulDataLoader(TASKS, batch_size=4, sampler=sampler(), num_workers=workers, collate_fn=list)

    whole = list(loader())
    first = loader()
    batches = iter(first)
    for _ in range(2):
        next(batches)
    again = loader()
    again.load_state_dict(first.state_dict())
    assert list(again) == whole[2:]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_loader_resumes_by_the_steps_that_were_trained(workers):
    """Workers draw ahead of training, so the state is asked for by the step; another number of workers goes on with it."""
    first = sampler()
    loader = DataLoader(TASKS, batch_size=4, sampler=first, num_workers=workers, collate_fn=list)
    taken = list(islice(loader, 3))
    again = sampler()
    again.load_state_dict(first.state_after(3))
    rest = list(DataLoader(TASKS, batch_size=4, sampler=again, num_workers=2 - workers, collate_fn=list))
    assert taken + rest == [[TASKS[row] for row in rows(24)[i : i + 4]] for i in range(0, 24, 4)]


def test_a_state_within_a_batch_resumes_as_it_was_cut():
    whole = list(sampler(repeats=2))
    first = sampler(repeats=2)
    drawn = list(islice(first, 11))  # one batch of 8 and 3 samples
    state = first.state_dict()
    again = sampler(repeats=2)
    again.load_state_dict(state)
    assert drawn + list(again) == whole
    with pytest.raises(ValueError, match="after 3 of 8 samples of a rank's batch, and a batch now has 4"):
        sampler().load_state_dict(state)


def test_a_state_within_a_batch_of_one_rank_is_a_position():
    first = sampler()
    drawn = list(islice(first, 6))
    again = sampler(batch_size=2)
    again.load_state_dict(first.state_dict())
    assert drawn + list(again) == rows(24)


@pytest.mark.parametrize("drawn", [1, 4, 7, 23])
def test_a_pass_that_is_gone_on_with_ends_where_it_would_have(drawn):
    first, again = sampler(), sampler()
    before = list(islice(first, drawn))
    again.load_state_dict(first.state_dict())
    assert [*before, *again] == rows(24)
    assert list(again) == rows(48, start=24)


@pytest.mark.parametrize("option", ["batch_size", "repeats", "passes"])
def test_numbers_below_one_are_refused(option):
    with pytest.raises(ValueError, match=f"{option}=0; it is 1 or more"):
        sampler(**{option: 0})


def test_the_state_of_another_mixture_is_refused():
    with pytest.raises(MixtureMismatch, match=r"seed \(saved 5, now 6\)"):
        sampler(seed=6).load_state_dict(sampler().state_dict())


def test_other_weights_are_carried_where_one_says_so():
    first = sampler()
    drawn = [TASKS[row] for row in islice(first, 12)]
    state = first.state_dict()
    other = {"weights": {"a": 1, "b": 1, "c": 2}}
    with pytest.raises(MixtureMismatch, match=r"a 2 -> 1, c 1 -> 2"):
        sampler(**other).load_state_dict(state)
    again = sampler(**other, on_change="carry")
    again.load_state_dict(state)
    assert Counter(drawn) == {"a": 6, "b": 3, "c": 3}
    assert Counter(TASKS[row] for row in again) == {"a": 3, "b": 3, "c": 6}


def test_an_epoch_that_begins_is_a_pass():
    """As Accelerate announces it: the second epoch is the second pass, unless a state within it was loaded."""
    second = sampler()
    second.set_epoch(1)
    assert list(second) == rows(48, start=24)
    within = sampler()
    within.load_state_dict(sampler().state_after(7))
    within.set_epoch(1)
    assert list(within) == rows(48, start=28)
