"""Which row comes at which position: the plan picks the task, a keyed shuffle of that task's rows picks the row.

Everything follows from the position alone, so a run resumes from one number, and from the mixture's identity, which refuses
the state of another mixture (section 5.2.4 of the report).
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from .exhaustion import Policy, use_up
from .schedules.plan import Plan
from .schedules.schedule import Mode
from .segments import Weights, ahead, moved, read_segments


class MixtureMismatch(ValueError):
    """A saved state belongs to another mixture; the message says what differs and how to go on."""


class Location(NamedTuple):
    """A row of a source: task name, row index in 0..size-1, and how often the source was used up before (epoch)."""

    task: str
    row: int
    epoch: int


class Places(NamedTuple):
    """The rows of consecutive positions: task (index in the order of `sizes`), row and epoch, int64 (n,) each."""

    tasks: np.ndarray
    rows: np.ndarray
    epochs: np.ndarray


class Mixture:
    """A deterministic stream over several sources, with random access.

    Every epoch of a task visits each of its rows once, in an order of its own that depends on (seed, task, epoch) only:
    adding or resizing one task leaves the row order of the others as it was.

    Args:
        sizes: rows by task; the order of the tasks breaks the schedule's ties.
        weights: share by task (any scale), for exactly the tasks of `sizes`, or a plan's segments, which may give a task
            nothing for a while; None weighs them equally.
        seed: key of the shuffles.
        exhausted: what happens when a task's rows are used up. "repeat": it begins its next epoch, the stream is endless.
            "stop": the stream ends before the first draw that would repeat a row. "renormalise": the task leaves and the
            others share its place in the ratio of their weights, debts carried, until every row was drawn once.
        mode: of the schedule, "prefix" or "window".

    Attributes:
        length: positions of the stream; None when it is endless.
        exhaustions: when each task's rows are used up for the first time, in the order of the positions.
        plan: the tasks in their order, by position; `agreed` is the same before sources were used up ("renormalise").
        identity: what the stream depends on, small enough to be saved with every step: sizes and segments packed.
        fingerprint: hash of all that the stream depends on: equal fingerprints give equal streams.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        weights: Weights | None = None,
        seed: int = 0,
        exhausted: Policy = "repeat",
        mode: Mode = "prefix",
    ):
        for task, size in sizes.items():
            if size < 1:
                raise ValueError(f"task {task!r} has {size} rows; give it rows or leave it out of the mixture")
        self.sizes = {task: int(size) for task, size in sizes.items()}
        self.seed, self.mode = int(seed), mode
        self._follow(Plan(read_segments(self.sizes, weights), mode), exhausted)

    def _follow(self, agreed: Plan, exhausted: str) -> None:
        self.agreed = agreed
        self.exhausted = exhausted
        self.plan, self.exhaustions, self.length = use_up(agreed, self.sizes, exhausted)
        self._orders: dict[str, dict[int, np.ndarray]] = {}
        self._sizes = np.array([self.sizes[task] for task in self.plan.tasks], np.int64)
        self.identity, self.fingerprint = self._identify()

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.sizes)

    def locate(self, position: int) -> Location:
        """The row at a position (>= 0); needs no earlier position to have been asked for."""
        self.require(position + 1)
        index, number = self.plan.draw(position)
        task = self.plan.tasks[index]
        epoch, place = divmod(number, self.sizes[task])
        return Location(task, int(self._order(task, epoch)[place]), epoch)

    def places(self, positions: range) -> Places:
        """The rows of consecutive positions, all at once.

        Raises:
            ValueError: the range has a stride (the message says which tasks it would see), or passes the stream's end.
        """
        if positions.step != 1:
            raise ValueError(self._why_no_stride(positions))
        self.require(positions.stop)
        tasks = self.plan.take(positions.start, positions.stop).astype(np.int64)
        before = self.plan.drawn(positions.start)
        epochs, rows = np.empty_like(tasks), np.empty_like(tasks)
        for index in np.unique(tasks):
            mine = np.flatnonzero(tasks == index)
            epoch, place = np.divmod(before[index] + np.arange(len(mine)), self._sizes[index])
            epochs[mine] = epoch
            for number in range(epoch[0], epoch[-1] + 1):
                rows[mine[epoch == number]] = self._order(self.plan.tasks[index], number)[place[epoch == number]]
        return Places(tasks, rows, epochs)

    def refill(self, task: str, number: int) -> Location:
        """The row of a task's refill `number` (0, 1, ...): from shuffles of its own, off the stream."""
        epoch, place = divmod(number, self.sizes[task])
        return Location(task, int(self._order(task, epoch, "refill/")[place]), epoch)

    def _order(self, task: str, epoch: int, kind: str = "") -> np.ndarray:
        """A task's rows in the order of an epoch; built when first asked for, the last two are held."""
        held = self._orders.setdefault(kind + task, {})
        if epoch not in held:
            if len(held) == 2:
                del held[next(iter(held))]
            held[epoch] = permutation(f"{self.seed}/{kind}{epoch}/{task}", self.sizes[task])
        return held[epoch]

    def requested(self, start: int, stop: int) -> dict[str, int]:
        """Draws of each task at the positions start..stop-1: what a step, or a run, asks for."""
        counts = self.plan.drawn(stop) - self.plan.drawn(start)
        return dict(zip(self.plan.tasks, counts.tolist(), strict=True))

    def epochs(self, position: int) -> dict[str, float]:
        """How often each task's rows have been gone through before a position; 1.5 is once and a half."""
        return {task: count / self.sizes[task] for task, count in self.requested(0, position).items()}

    def require(self, length: int, step: int | None = None) -> None:
        """Refuse a run that is longer than the stream.

        Raises:
            ValueError: says at which position (and step, given its prompts) which task's rows are used up.
        """
        if self.length is None or length <= self.length:
            return
        end = self.exhaustions[-1].task
        if self.exhausted == "stop":
            end = next(t for t, _ in self.exhaustions if self.plan.position_of(t, self.sizes[t]) == self.length)
        in_step = f" (step {self.length // step + 1})" if step else ""
        raise ValueError(
            f"the run needs {length:,} prompts and the mixture ends at position {self.length:,}{in_step}: there the "
            f"{self.sizes[end]:,} rows of {end} are used up. Shorten the run, or set exhausted='repeat'"
        )

    def _why_no_stride(self, positions: range) -> str:
        window = np.arange(positions.start, positions.start + 1_000 * positions.step, positions.step)
        seen = [self.plan.tasks[index] for index in np.unique(self.plan.at(window))]
        few = f"it would see {len(seen)} of {len(self.sizes)} tasks ({', '.join(seen[:3])}{', ...' if len(seen) > 3 else ''})"
        return (
            f"a stride of {positions.step} does not keep the mixture's shares: from position {positions.start}, {few} in its "
            f"first 1,000 draws. Give each rank a contiguous chunk of every batch (`sv6d.data_mixers.sharding.batch_shard`)"
        )

    def _identify(self) -> tuple[dict[str, Any], str]:
        rest = {"seed": self.seed, "exhausted": self.exhausted}
        plan = self.agreed.identity
        return {"plan": plan, "sizes": _packed_sizes(self.sizes), **rest}, _digest(
            [plan, list(self.sizes.items()), rest]
        )

    def state(self, position: int) -> dict[str, Any]:
        """What resuming needs, as plain JSON under 1 KB: the position and the mixture's identity."""
        return {"position": position, "hash": self.fingerprint, **self.identity}

    def resume(
        self, state: Mapping[str, Any], on_change: Literal["refuse", "carry"] = "refuse"
    ) -> tuple["Mixture", int]:
        """The mixture to go on with, and the position of a saved state.

        Args:
            state: of `state`.
            on_change: when this mixture has other weights than the saved one: "refuse" it, or "carry" on, which begins a
                segment with the weights of this mixture at the saved position; what tasks are owed is repaid in it.

        Raises:
            MixtureMismatch: the state was saved by another mixture; names all that differs.
        """
        if not {"position", "hash", "plan"} <= state.keys():
            raise MixtureMismatch(
                f"this is no state of a mixture, it holds {', '.join(map(str, state))}. In verl, go on with the trainer that "
                f"saved it: ours (trainer.v1.trainer_mode=sv6d_...) and verl's own save different states"
            )
        position = int(state["position"])
        if state["hash"] == self.fingerprint:
            return self, position
        differences = self._differences(state)
        if differences:
            raise MixtureMismatch(
                f"this state was saved with another mixture: {'; '.join(differences)}. "
                f"Resuming would change the order of prompts: restore its data and settings, or start a new run"
            )
        saved = Plan.restore(self.plan.tasks, state["plan"])
        now, then = ahead(self.agreed, position), ahead(saved, position)
        if now == then:  # only the past differs: earlier weights were carried, or written into the settings since
            return self._with(saved), position
        if on_change == "refuse":
            raise MixtureMismatch(
                f"this state was saved with other weights ({moved(then, now)}). To go on with those of now from position "
                f"{position:,}, and repay what tasks are owed, set on_change=carry (in verl data.mixture.on_change); else "
                f"restore the weights"
            )
        for segment in now:
            start = max(segment.start, position)
            saved = saved.change(start, segment.weights, max(segment.start + segment.ramp - start, 0))
        return self._with(saved), position

    def _with(self, agreed: Plan) -> "Mixture":
        other = object.__new__(Mixture)
        other.sizes, other.seed, other.mode = self.sizes, self.seed, self.mode
        other._follow(agreed, self.exhausted)
        return other

    def _differences(self, state: Mapping[str, Any]) -> list[str]:
        """What differs between a saved state and this mixture, weights aside."""
        found = []
        if state["plan"]["tasks"] != self.agreed.identity["tasks"]:
            found.append(f"other tasks (now {', '.join(self.sizes)})")
        elif state["sizes"] != self.identity["sizes"]:
            found.append(f"sizes ({_changed_sizes(state['sizes'], self.sizes)})")
        kept = {"seed": state["seed"], "exhausted": state["exhausted"], "mode": state["plan"]["mode"]}
        mine = {"seed": self.seed, "exhausted": self.exhausted, "mode": self.mode}
        return found + [f"{key} (saved {kept[key]}, now {mine[key]})" for key in mine if kept[key] != mine[key]]


def permutation(key: str, size: int) -> np.ndarray:
    """A shuffle of 0..size-1 that depends on the key only, on any machine and NumPy version: sorted by SplitMix64."""
    start = np.frombuffer(hashlib.blake2b(key.encode(), digest_size=8).digest(), "<u8")
    x = start + np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    keys = x ^ (x >> np.uint64(31))
    # all distinct, since the mixing is a bijection: every way of sorting gives this order
    order = np.argsort(keys).astype(np.int32 if size < 2**31 else np.int64)
    order.flags.writeable = False
    return order


def _packed_sizes(sizes: Mapping[str, int]) -> list[int] | str:
    """The sizes themselves where they are few; else a hash of all, and of up to 64 two bytes each to tell which differ."""
    plain = list(sizes.values())
    if len(json.dumps(plain)) <= 160:
        return plain
    each = b"".join(_hash(size, 2) for size in plain) if len(plain) <= 64 else b""
    return base64.b64encode(_hash(plain, 8) + each).decode()


def _changed_sizes(saved: list[int] | str, sizes: Mapping[str, int]) -> str:
    if isinstance(saved, str):
        old = base64.b64decode(saved)[8:]
        if not old:
            return f"some of {len(sizes)}"
        pairs = ((old[2 * i : 2 * i + 2], _hash(size, 2), task, size) for i, (task, size) in enumerate(sizes.items()))
        changed = [f"{task} now {size}" for before, now, task, size in pairs if before != now]
    else:
        changed = [
            f"{task} {old} -> {new}" for old, (task, new) in zip(saved, sizes.items(), strict=True) if old != new
        ]
    return ", ".join(changed)


def _hash(value: Any, size: int) -> bytes:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=size).digest()


def _digest(value: Any) -> str:
    return _hash(value, 16).hex()
