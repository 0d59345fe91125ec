"""A dataloader whose state is a position: a run resumes exactly with another number of workers or another batch size.

torchdata's StatefulDataLoader saves what each worker did, and refuses a state that other workers saved. The mixture needs none
of that (section 5.2.4): the batch at a position follows from the position.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch.utils.data import DataLoader


class PositionLoader(DataLoader):
    """Batches of a dataset that is indexed by position (`MixtureDataset`), in passes of its length.

    A pass goes on where the last one ended, so prompts that are fetched beyond the run are new ones.

    Args:
        dataset: indexed by position; its `state(position)` is saved, and its `resume(state)` gives the position back.
        batch_size: prompts a batch; whole batches only.
        num_workers: processes that prepare batches ahead.
        collate_fn: makes a batch of items.

    Raises:
        ValueError: a batch is larger than the dataset, or empty.
    """

    def __init__(self, dataset, batch_size: int, num_workers: int = 0, collate_fn: Callable | None = None):
        if not 1 <= batch_size <= len(dataset):
            raise ValueError(f"a batch of {batch_size} prompts out of {len(dataset)}; give 1 to the prompts of the run")
        self.position = 0
        self.step = batch_size
        super().__init__(dataset, batch_sampler=_Onwards(self), num_workers=num_workers, collate_fn=collate_fn)

    def __iter__(self) -> Iterator[Any]:
        for batch in super().__iter__():
            self.position += self.step
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch that was handed out, whatever workers have prepared beyond it."""
        return self.dataset.state(self.position)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved position.

        Raises:
            MixtureMismatch: another mixture saved it.
        """
        self.position = self.dataset.resume(state)


class _Onwards:
    """The positions of each batch, from the loader's own on to the end of a pass."""

    def __init__(self, loader: PositionLoader):
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader.dataset) // self.loader.step

    def __iter__(self) -> Iterator[list[int]]:
        start, step = self.loader.position, self.loader.step
        length = len(self) * step
        for position in range(start, (start // length + 1) * length, step):
            yield list(range(position, position + step))
