"""A rank whose disk is full tells the others, so that all of them go on, or end, together: two real processes over gloo."""

import errno

import pytest
import torch.distributed as dist
from safetensors import SafetensorError
from sv6d.verl_plugin.surviving.saving_together import RankNotSaved, SavesTogether, _failure


class Manager:
    """A double of verl's checkpoint manager: a shard a rank, with a barrier before and after, as verl has them."""

    should_save_hf_model = False

    def __init__(self, rank, full):
        self.rank, self.full = rank, full

    def save_checkpoint(self, local_path):
        dist.barrier()
        if self.rank in self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        (local_path / f"rank{self.rank}").touch()
        dist.barrier()


class Engine:
    """A double of verl's engine, which ends its saving with a barrier of its own."""

    def __init__(self, manager):
        self.checkpoint_manager = manager

    def save_checkpoint(self, local_path):
        self.checkpoint_manager.save_checkpoint(local_path)
        dist.barrier()


class Ours(SavesTogether, Engine):
    pass


def attempt(rank, folder, full):
    """Save; what a rank is told stands in a file."""
    try:
        Ours(Manager(rank, full)).save_checkpoint(folder)
    except RankNotSaved as error:
        where = next(parent for parent in folder.parents if parent.is_dir())
        (where / f"{folder.name} told {rank}").write_text(str(error))


def meet_every_obstacle(rank, folder):
    """After each failure the ranks are where they were, or the next save would hang."""
    attempt(rank, folder / "rank 1 has no room", full=[1])
    attempt(rank, folder / "nobody has", full=[0, 1])
    attempt(rank, folder / "file" / "no folder", full=[])
    attempt(rank, folder / "all is well", full=[])


@pytest.mark.parametrize("error", [OSError, RuntimeError, SafetensorError, Exception])
def test_whatever_a_library_calls_a_full_disk_is_put_in_words(error):
    """tokenizers raises a bare Exception."""

    def save(path):
        raise error("No space left on device (os error 28)")

    assert _failure(save, "tokenizer.json") == f"{error.__name__}: No space left on device (os error 28)"


def test_what_a_rank_cannot_save_is_told_by_all_and_they_go_on(two_ranks, tmp_path):
    (tmp_path / "file").touch()
    two_ranks(meet_every_obstacle, tmp_path)
    full = "OSError: [Errno 28] No space left on device"
    reason = f"NotADirectoryError: [Errno 20] Not a directory: '{tmp_path}/file/no folder'"
    no_folder = f"rank 0: {reason}; rank 1: {reason}"
    told = {path.name: path.read_text() for path in tmp_path.glob("* told *")}
    assert told == {
        "rank 1 has no room told 0": f"rank 1: {full}",
        "rank 1 has no room told 1": f"rank 1: {full}",
        "nobody has told 0": f"rank 0: {full}; rank 1: {full}",
        "nobody has told 1": f"rank 0: {full}; rank 1: {full}",
        "no folder told 0": no_folder,
        "no folder told 1": no_folder,
    }
    assert sorted(path.name for path in (tmp_path / "all is well").iterdir()) == ["rank0", "rank1"]
