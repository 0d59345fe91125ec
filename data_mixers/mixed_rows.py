"""Rows of several sources by position, without torch or verl: a mixture that one can index."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from .exhaustion import Policy
from .mixture import Mixture
from .rows import read_rows
from .schedules.schedule import Mode
from .segments import Weights

Source = str | Path | Sequence[Any]
"""A row file (parquet, JSON lines, a saved dataset), or anything with a length and an index, such as a `datasets.Dataset`."""


class MixedRows:
    """The rows of a mixture, position by position; a dataset for torch's loaders, for `PositionLoader`, or for a loop.

    Args:
        sources: a source by task.
        length: positions, usually the prompts of the whole run; None for a mixture that ends by itself.
        weights, seed, exhausted, mode, on_change: as of `Mixture` and its `resume`.

    Raises:
        ValueError: a source is empty; the mixture is endless and has no `length`, or ends before it.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        length: int | None = None,
        weights: Weights | None = None,
        seed: int = 0,
        exhausted: Policy = "repeat",
        mode: Mode = "prefix",
        on_change: Literal["refuse", "carry"] = "refuse",
    ):
        self.sources = {
            task: read_rows(source) if isinstance(source, str | Path) else source for task, source in sources.items()
        }
        sizes = {task: len(source) for task, source in self.sources.items()}
        self.mixture = Mixture(sizes, weights, seed, exhausted, mode)
        self.on_change = on_change
        length = self.mixture.length if length is None else length
        if length is None:
            raise ValueError("a mixture whose sources repeat is endless: give the length of the run")
        self.mixture.require(length)
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """The rows of the run; by index there are more, where the sources repeat."""
        return map(self.__getitem__, range(self.length))

    def __getitem__(self, position: int) -> tuple[str, Any]:
        """The task at a position and its row."""
        task, row, _ = self.mixture.locate(position)
        return task, self.sources[task][row]

    def __getitems__(self, positions: list[int]) -> list[tuple[str, Any]]:
        """Several positions, as torch's loaders ask for a batch; consecutive ones are looked up together."""
        if positions != list(range(positions[0], positions[-1] + 1)):
            return [self[position] for position in positions]
        places = self.mixture.places(range(positions[0], positions[-1] + 1))
        tasks = [self.mixture.tasks[index] for index in places.tasks]
        return [(task, self.sources[task][row]) for task, row in zip(tasks, places.rows.tolist(), strict=True)]

    def state(self, position: int) -> dict[str, Any]:
        """What a run saves to go on at a position: plain JSON under 1 KB."""
        return self.mixture.state(position)

    def resume(self, state: Mapping[str, Any]) -> int:
        """The position to go on at. Raises `MixtureMismatch` for the state of another mixture."""
        self.mixture, position = self.mixture.resume(state, self.on_change)
        return position
