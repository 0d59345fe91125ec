"""The mixture for people outside verl: a stateful `torch.utils.data.Sampler` over a dataset of rows, and which part of a batch
is whose (section 5.2.4). For torch's DataLoader, torchdata's StatefulDataLoader, Accelerate and TRL."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from torch.utils.data import Sampler

from .exhaustion import Policy
from .mixture import Mixture
from .segments import Weights
from .sharding import batch_shard


class MixtureSampler(Sampler[int]):
    """Indices of a dataset's rows in the order of a mixture, endless in passes of `length`, the share of one rank.

    Every batch is cut into contiguous chunks, one a rank, so that all ranks together draw the mixture, whatever their number.
    The state is the position in the stream: it resumes with another number of dataloader workers, ranks or prompts a batch.

    Args:
        tasks: the task of each row of the dataset, as `dataset["task"]`; the mixture has them in alphabetical order.
        batch_size: prompts of a step, over all ranks. A DataLoader of one rank takes `batch_size // world * repeats` samples.
        length: prompts of a pass over the sampler, usually of the whole run; whole batches are drawn.
        weights, seed, exhausted: as of `Mixture`; weights for exactly the tasks that have rows.
        on_change: when a loaded state has other weights, "refuse" it or "carry" on (`Mixture.resume`).
        rank, world: which share; leave both where the trainer itself deals batches to its ranks (Accelerate, TRL).
        repeats: how often each index comes in a row: the size of a group, where every rollout is a sample (TRL).
        passes: how often each batch comes in a row (TRL: num_iterations x steps_per_generation).

    Raises:
        ValueError: the mixture ends before `length`, a batch does not divide over the ranks, or a number is below 1.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        batch_size: int,
        length: int,
        weights: Weights | None = None,
        seed: int = 0,
        exhausted: Policy = "repeat",
        on_change: Literal["refuse", "carry"] = "refuse",
        rank: int = 0,
        world: int = 1,
        repeats: int = 1,
        passes: int = 1,
    ):
        for name, value in (("batch_size", batch_size), ("repeats", repeats), ("passes", passes)):
            if value < 1:
                raise ValueError(f"{name}={value}; it is 1 or more")
        names, of_row, sizes = np.unique(np.asarray(tasks), return_inverse=True, return_counts=True)
        self.mixture = Mixture(dict(zip(names.tolist(), sizes.tolist(), strict=True)), weights, seed, exhausted)
        self.length = length // batch_size * batch_size
        if self.length < 1:
            raise ValueError(
                f"length={length} holds no batch of {batch_size} prompts; give the prompts of the whole run"
            )
        self.mixture.require(self.length, batch_size)
        self.batch_size, self.repeats, self.passes = batch_size, repeats, passes
        self.shard = batch_shard(batch_size, rank, world)
        self.world, self.on_change = world, on_change
        self.position, self.taken = 0, 0
        self._rows = np.argsort(of_row, kind="stable")  # rows by task, and where each task begins among them
        self._first = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def __len__(self) -> int:
        """Indices that this rank draws in a pass."""
        return self.length // self.batch_size * self._share

    @property
    def _share(self) -> int:
        """Samples of a batch that this rank draws."""
        return len(self.shard) * self.repeats * self.passes

    @property
    def _plain(self) -> bool:
        """Whether each sample drawn is the next position of the stream."""
        return self.world == self.repeats == self.passes == 1

    def __iter__(self) -> Iterator[int]:
        end = (self.position // self.length + 1) * self.length
        while self.position < end:
            indices = self._batch(self.position)
            for index in indices[self.taken :]:
                self.taken += 1
                if self.taken == len(indices):
                    self.position, self.taken = self.position + self.batch_size, 0
                yield index

    def _batch(self, start: int) -> list[int]:
        places = self.mixture.places(range(start + self.shard.start, start + self.shard.stop))
        return np.tile(
            np.repeat(self._rows[self._first[places.tasks] + places.rows], self.repeats), self.passes
        ).tolist()

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of a pass, as Accelerate asks before each; a pass that a state was loaded in is gone on with."""
        if epoch != self.position // self.length:
            self.position, self.taken = epoch * self.length, 0

    def state_dict(self) -> dict[str, Any]:
        """The position and what the stream depends on, plain JSON under 1 KB.

        It counts indices that were drawn: workers of a plain DataLoader draw ahead, so save `state_after(step)` with it.
        """
        position = self.position + (self.taken if self._plain else 0)
        return {**self.mixture.state(position), "taken": 0 if self._plain else self.taken, "share": self._share}

    def state_after(self, steps: int) -> dict[str, Any]:
        """The state of a run that has trained on so many batches since position 0."""
        return {**self.mixture.state(steps * self.batch_size), "taken": 0, "share": self._share}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was saved.

        Raises:
            MixtureMismatch: another mixture saved it.
            ValueError: it was saved within a batch and this sampler cuts batches differently.
        """
        self.mixture, position = self.mixture.resume(state, self.on_change)
        if state["taken"] and state["share"] != self._share:
            raise ValueError(
                f"this state was saved after {state['taken']} of {state['share']} samples of a rank's batch, and a batch now has "
                f"{self._share}; save between two steps, or resume with the ranks, batch size and repeats of before"
            )
        self.position, self.taken = position, int(state["taken"])
        if self._plain:  # batches stay where they were, so that the pass ends where it would have
            self.taken = position % self.batch_size
            self.position -= self.taken
