"""Rows by position from sources of several kinds: files, `datasets.Dataset` objects, lists."""

import datasets
import pytest
from sv6d.data_mixers import Mixture
from sv6d.data_mixers.mixed_rows import MixedRows
from sv6d.data_mixers.torch_loader import PositionLoader


@pytest.fixture
def sources(data):
    hub = datasets.Dataset.from_list([{"text": f"hub {i}"} for i in range(4)])
    return {"subject": data / "rl" / "subject.parquet", "hub": hub, "plain": ["x", "y"]}


def test_any_source_can_be_indexed(sources):
    rows = MixedRows(sources, length=12, seed=1)
    mixture = Mixture({"subject": 3, "hub": 4, "plain": 2}, seed=1)
    names = {"subject": "abc", "hub": ["hub 0", "hub 1", "hub 2", "hub 3"], "plain": "xy"}
    for position in range(12):
        task, row = rows[position]
        name = row["extra_info"]["id"] if task == "subject" else row["text"] if task == "hub" else row
        place = mixture.locate(position)
        assert (task, name) == (place.task, names[place.task][place.row])


def test_a_batch_is_its_positions(sources):
    rows = MixedRows(sources, length=12)
    assert rows.__getitems__([3, 4, 5]) == [rows[3], rows[4], rows[5]]
    assert rows.__getitems__([7, 2]) == [rows[7], rows[2]]


def test_a_mixture_that_ends_has_its_own_length(sources):
    assert len(MixedRows(sources, exhausted="renormalise")) == 3 + 4 + 2
    with pytest.raises(ValueError, match="endless: give the length"):
        MixedRows(sources)
    with pytest.raises(ValueError, match="needs 10 prompts and the mixture ends at position 9"):
        MixedRows(sources, length=10, exhausted="renormalise")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_resumes_it(sources, workers):
    def loader(batch):
        return PositionLoader(MixedRows(sources, length=12), batch, workers, collate_fn=list)

    whole = [row for batch in loader(3) for row in batch]
    first = loader(3)
    batches = iter(first)
    seen = [*next(batches), *next(batches)]
    again = loader(2)
    again.load_state_dict(first.state_dict())
    assert seen + [row for batch in again for row in batch] == whole


def test_a_loop_over_it_ends_with_the_run(sources):
    rows = MixedRows(sources, 9)
    assert list(rows) == [rows[position] for position in range(9)]


@pytest.mark.parametrize("batch_size", [0, 10])
def test_a_batch_that_the_run_does_not_hold_is_refused(sources, batch_size):
    with pytest.raises(ValueError, match=f"a batch of {batch_size} prompts out of 9"):
        PositionLoader(MixedRows(sources, 9), batch_size)
