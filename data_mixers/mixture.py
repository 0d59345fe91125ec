"""Which row comes at which position: the schedule picks the task, a keyed shuffle of that task's rows picks the row.

Everything follows from the position alone, so a run resumes from one number (section 5.2.4 of the report).
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from .schedule import Schedule


class MixtureMismatch(ValueError):
    """A saved state belongs to another mixture; the message says what differs and how to go on."""


class Location(NamedTuple):
    """A row of a source: task name, row index in 0..size-1, and how often the source was exhausted before (epoch)."""

    task: str
    row: int
    epoch: int


class Mixture:
    """A deterministic, endless stream over several sources, with random access.

    Every epoch of a task visits each of its rows once, in an order of its own that depends on (seed, task, epoch) only:
    adding or resizing one task leaves the row order of the others as it was.

    Args:
        sizes: rows by task; the order of the tasks breaks the schedule's ties.
        weights: share by task (any scale), for exactly the tasks of `sizes`; None weighs them equally.
        seed: key of the shuffles.
    """

    def __init__(self, sizes: Mapping[str, int], weights: Mapping[str, int | float] | None = None, seed: int = 0):
        weights = dict.fromkeys(sizes, 1) if weights is None else weights
        _check_sources(sizes, weights)
        self.sizes = {task: int(size) for task, size in sizes.items()}
        self.seed = int(seed)
        self.schedule = Schedule({task: weights[task] for task in sizes})

    def locate(self, position: int) -> Location:
        """The row at a position (>= 0); needs no earlier position to have been asked for."""
        index, number = self.schedule.draw(position)
        task = self.schedule.tasks[index]
        epoch, place = divmod(number, self.sizes[task])
        order = permutation(f"{self.seed}/{epoch}/{task}", self.sizes[task])
        return Location(task, int(order[place]), epoch)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the stream depends on: tasks and their order (hashed), rows and draws a period by task, seed."""
        return {
            "tasks": _digest(list(self.sizes)),
            "sizes": list(self.sizes.values()),
            "weights": self.schedule.counts.tolist(),
            "seed": self.seed,
        }

    @property
    def fingerprint(self) -> str:
        """Hash of the identity: equal fingerprints give equal streams."""
        return _digest(self.identity)

    def state(self, position: int) -> dict[str, Any]:
        """What resuming needs, as plain JSON under 1 KB: the position and the mixture's identity."""
        return {"position": position, **self.identity}

    def resume(self, state: Mapping[str, Any]) -> int:
        """The position of a saved state.

        Raises:
            MixtureMismatch: the state was saved by another mixture.
        """
        self.check(state)
        return int(state["position"])

    def check(self, state: Mapping[str, Any]) -> None:
        """Raise `MixtureMismatch` unless `state` (a state, or an identity) was saved by an equal mixture."""
        differences = [
            _difference(key, state.get(key), mine, tuple(self.sizes))
            for key, mine in self.identity.items()
            if state.get(key) != mine
        ]
        if differences:
            raise MixtureMismatch(
                f"this state was saved with another mixture: {'; '.join(differences)}. "
                f"Resuming would change the order of prompts: restore its data and settings, or start a new run"
            )


@lru_cache(maxsize=128)  # two epochs of 64 tasks
def permutation(key: str, size: int) -> np.ndarray:
    """A shuffle of 0..size-1 that depends on the key only, on any machine and NumPy version: sorted by SplitMix64."""
    start = np.frombuffer(hashlib.blake2b(key.encode(), digest_size=8).digest(), "<u8")
    x = start + np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    order = np.argsort(x ^ (x >> np.uint64(31)), kind="stable")
    order.flags.writeable = False
    return order


def _check_sources(sizes: Mapping[str, int], weights: Mapping[str, int | float]) -> None:
    for task, size in sizes.items():
        if size < 1:
            raise ValueError(f"task {task!r} has {size} rows; give it rows or leave it out of the mixture")
    if set(weights) != set(sizes):
        unknown, missing = sorted(set(weights) - set(sizes)), sorted(set(sizes) - set(weights))
        what = "; ".join(
            [f"weight for {task!r}, which has no rows" for task in unknown]
            + [f"no weight for {task!r}" for task in missing]
        )
        raise ValueError(f"weights and sources differ: {what}. Weigh exactly the tasks that have rows")


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()


def _difference(key: str, saved: Any, mine: Any, tasks: tuple[str, ...]) -> str:
    if key == "tasks" or not isinstance(saved, list) or len(saved) != len(mine):
        return f"{key} (saved {saved}, now {mine})" if key == "seed" else f"other {key}"
    changed = [f"{task} {old} -> {new}" for task, old, new in zip(tasks, saved, mine, strict=True) if old != new]
    return f"{key} ({', '.join(changed)})"
