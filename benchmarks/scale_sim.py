"""The core of `scale.py`: rollouts and updates of GRPO as events, for the three ways in which verl shares GPUs between them.

An inference engine on a GPU takes in a prompt (nothing else moves meanwhile), then writes it beside up to `slots` others: one
iteration gives each a token and takes `decode_base + decode_each * others` seconds. What was begun when weights change is put
aside, and taken in again with what it has written so far, as verl's `abort_replicas` does. A group is finished with its last
sample; a step trains, of each task, as many groups as it dispatched, those that were dispatched first among the finished.
"""

import heapq
import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from sv6d.recipes.checking.batch import fitting_mini_batch

Mode = Literal["sync", "colocate_async", "separate_async"]
MODES: tuple[Mode, ...] = "sync", "colocate_async", "separate_async"


@dataclass(frozen=True)
class Costs:
    """Seconds of one GPU's (or rank's) work.

    Attributes:
        decode_base: an iteration of the engine, whatever it writes.
        decode_each: more for each sequence that is written.
        slots: sequences that an engine writes at a time, as its KV cache allows.
        train: of the trainer for a sequence: old log-probabilities and update.
        padding: of the trainer for a padding sequence.
        fixed: of a step, whatever the batch and the ranks: optimizer, advantages, records, the driver.
        sync: from the update to the first new rollout: weights sent, engines woken.
    """

    decode_base: float
    decode_each: float
    slots: int
    train: float
    padding: float
    fixed: float
    sync: float


class Writing(NamedTuple):
    """Of a task: tokens that responses have (drawn from these), and seconds that an engine takes to take a prompt in."""

    lengths: np.ndarray
    prefill: float


class Plan(NamedTuple):
    """A way to run: GPUs (one rank and, where they write, one engine each), and batches that rollouts run ahead."""

    mode: Mode
    trainers: int
    rollouts: int
    ahead: float = 0.0

    @property
    def gpus(self) -> int:
        return self.trainers + self.rollouts if self.mode == "separate_async" else self.trainers


class Outcome(NamedTuple):
    """Of the steps after the first ones: seconds of a step, seconds of it that waited for rollouts, share of all GPUs' time in
    which they neither wrote nor trained, and by sample the updates between its first token and its own."""

    step: float
    wait: float
    idle: float
    staleness: np.ndarray


@dataclass(eq=False)
class Sample:
    group: int
    task: str
    tokens: float
    """Still to be written."""
    version: int = -1
    """Of the weights that wrote the first token; -1 before that."""


@dataclass(eq=False)
class _Engine:
    waiting: deque[Sample] = field(default_factory=deque)
    active: list[tuple[float, int, Sample]] = field(default_factory=list)  # by the progress at which it is finished
    prefilling: tuple[float, Sample] | None = None  # and when it is taken in
    progress: float = 0.0  # tokens that a sequence has written that is there from the beginning
    seen: float = 0.0
    busy: float = 0.0
    load: int = 0
    stamp: int = 0


class Engines:
    """Engines that share what is submitted: each sample goes to the one with the fewest, as verl's balancer does."""

    def __init__(self, number: int, costs: Costs, writing: Mapping[str, Writing]):
        self.costs, self.writing, self.now, self.version = costs, writing, 0.0, 0
        self.paused = False
        self.engines = [_Engine() for _ in range(number)]
        self._loads = [(0, index) for index in range(number)]
        self._events: list[tuple[float, int, int]] = []
        self._tie = 0

    @property
    def busy(self) -> float:
        """Seconds in which engines wrote or took prompts in, together."""
        return sum(engine.busy for engine in self.engines)

    def submit(self, samples: list[Sample]) -> None:
        for sample in samples:
            load, index = heapq.heappop(self._loads)
            while self.engines[index].load != load:
                load, index = heapq.heappop(self._loads)
            self._loaded(index, 1)
            self.engines[index].waiting.append(sample)
            if not self.paused:
                self._start(index)

    def until(self, time: float) -> Iterator[Sample]:
        """Samples that are finished by then, one by one; stop whenever you like."""
        while self._events and self._events[0][0] <= time:
            at, index, stamp = heapq.heappop(self._events)
            if self.engines[index].stamp == stamp:
                self.now = at
                yield from self._happens(index)
        self.now = max(self.now, time) if math.isfinite(time) else self.now

    def pause(self) -> None:
        """Put aside what is being written; the samples keep their place and their tokens."""
        self.paused = True
        for engine in self.engines:
            self._settle(engine)
            begun = [sample for _, _, sample in sorted(engine.active)]
            for finish, _, sample in engine.active:
                sample.tokens = finish - engine.progress
            if engine.prefilling:
                begun.append(engine.prefilling[1])
            engine.waiting.extendleft(reversed(begun))
            engine.active, engine.prefilling = [], None
            engine.stamp += 1
        self._events.clear()

    def resume(self, time: float, version: int) -> None:
        """Go on at a later time, with the weights of a version."""
        self.paused, self.now, self.version = False, time, version
        for index, engine in enumerate(self.engines):
            engine.seen = time
            self._start(index)

    def _loaded(self, index: int, more: int) -> None:
        self.engines[index].load += more
        heapq.heappush(self._loads, (self.engines[index].load, index))

    def _settle(self, engine: _Engine) -> None:
        passed = self.now - engine.seen
        if engine.prefilling or engine.active:
            engine.busy += passed
        if engine.active and not engine.prefilling:
            engine.progress += passed / self._iteration(engine)
        engine.seen = self.now

    def _iteration(self, engine: _Engine) -> float:
        return self.costs.decode_base + self.costs.decode_each * len(engine.active)

    def _start(self, index: int) -> None:
        """Take in the next prompt where one waits and there is room, and foresee what happens next."""
        engine = self.engines[index]
        if engine.prefilling:
            return
        self._settle(engine)
        while engine.waiting and len(engine.active) < self.costs.slots:
            sample = engine.waiting.popleft()
            seconds = self.writing[sample.task].prefill
            if seconds:
                engine.prefilling = self.now + seconds, sample
                break
            self._write(engine, sample)
        self._foresee(index)

    def _write(self, engine: _Engine, sample: Sample) -> None:
        if sample.version < 0:
            sample.version = self.version
        self._tie += 1
        heapq.heappush(engine.active, (engine.progress + sample.tokens, self._tie, sample))

    def _foresee(self, index: int) -> None:
        engine = self.engines[index]
        engine.stamp += 1
        if engine.prefilling:
            at = engine.prefilling[0]
        elif engine.active:
            at = self.now + max(engine.active[0][0] - engine.progress, 0) * self._iteration(engine)
        else:
            return
        heapq.heappush(self._events, (at, index, engine.stamp))

    def _happens(self, index: int) -> Iterator[Sample]:
        engine = self.engines[index]
        self._settle(engine)
        if engine.prefilling:
            _, sample = engine.prefilling
            engine.prefilling = None
            self._write(engine, sample)
            self._start(index)
        else:
            engine.progress, _, sample = heapq.heappop(engine.active)
            self._loaded(index, -1)
            self._start(index)
            yield sample


class Run:
    """Steps of one plan.

    Args:
        groups: prompts a step, spread evenly over the tasks of `writing`, in turn.
        group_size: samples a prompt.
    """

    def __init__(
        self, plan: Plan, costs: Costs, writing: Mapping[str, Writing], groups: int, group_size: int, seed: int = 0
    ):
        self.plan, self.costs, self.writing, self.groups, self.group_size = plan, costs, writing, groups, group_size
        self.engines = Engines(plan.rollouts if plan.mode == "separate_async" else plan.trainers, costs, writing)
        self.random = np.random.default_rng(seed)
        self.samples: list[list[Sample]] = []
        self.left: list[int] = []
        self.finished: dict[str, list[int]] = {task: [] for task in writing}
        self.owed: deque[str] = deque()

    def steps(self, number: int, warm: int = 2) -> Outcome:
        """Train so many steps after `warm` others."""
        training = training_seconds(self.costs, self.groups, self.group_size, self.plan.trainers)
        trained = (training - self.costs.fixed) * self.plan.trainers * number
        now = began = waited = wrote = 0.0
        staleness: list[int] = []
        self._dispatch(math.floor(self.plan.ahead * self.groups))
        for step in range(warm + number):
            if step == warm:
                began, waited, wrote = now, 0.0, self.engines.busy
            self._dispatch(self.groups)
            batch = self._wait()
            waited += self.engines.now - now
            now = self._update(self.engines.now + training, step + 1)
            if step >= warm:
                staleness += [step - sample.version for group in batch for sample in self.samples[group]]
            for group in batch:
                self.samples[group] = []
        elapsed, wrote = now - began, self.engines.busy - wrote
        idle = 1 - (trained + wrote) / (elapsed * self.plan.gpus)
        return Outcome(elapsed / number, waited / number, idle, np.array(staleness))

    def _dispatch(self, groups: int) -> None:
        tasks = list(self.writing)
        samples = []
        for group in range(len(self.samples), len(self.samples) + groups):
            task = tasks[group % len(tasks)]
            tokens = self.random.choice(self.writing[task].lengths, self.group_size)
            self.samples.append([Sample(group, task, float(count)) for count in tokens])
            self.left.append(self.group_size)
            self.owed.append(task)
            samples += self.samples[group]
        self.engines.submit(samples)

    def _wait(self) -> list[int]:
        """Groups of the next step, as soon as each of its tasks has enough."""
        due = Counter(self.owed.popleft() for _ in range(self.groups))
        lacking = {task: count - len(self.finished[task]) for task, count in due.items()}
        missing = sum(count > 0 for count in lacking.values())
        writing = self.engines.until(math.inf)
        while missing:
            if task := self._finish(next(writing)):
                lacking[task] = lacking.get(task, 0) - 1
                missing -= lacking[task] == 0
        chosen = {task: sorted(self.finished[task])[:count] for task, count in due.items()}
        for task, groups in chosen.items():
            self.finished[task] = [group for group in self.finished[task] if group not in set(groups)]
        return [group for groups in chosen.values() for group in groups]

    def _finish(self, sample: Sample) -> str | None:
        """The task of the sample's group, where it was the last of it."""
        self.left[sample.group] -= 1
        if self.left[sample.group]:
            return None
        self.finished[sample.task].append(sample.group)
        return sample.task

    def _update(self, trained_at: float, version: int) -> float:
        """Train and send the weights; when the engines go on."""
        if self.plan.mode == "separate_async":
            for sample in self.engines.until(trained_at):
                self._finish(sample)
        self.engines.pause()
        self.engines.resume(trained_at + self.costs.sync, version)
        return trained_at + self.costs.sync


def masked_rows(groups: int, group_size: int, ranks: int) -> int:
    """Rows that verl adds to a step whose mini-batch is the smallest one that divides over the ranks; with one that does not,
    such as 390 prompts over 32 ranks, its workers stop."""
    return (fitting_mini_batch(groups, group_size, ranks) - groups) * group_size


def training_seconds(costs: Costs, groups: int, group_size: int, ranks: int) -> float:
    """A step's training on so many ranks, in one update."""
    sequences, padding = groups * group_size, masked_rows(groups, group_size, ranks)
    return costs.fixed + (sequences * costs.train + padding * costs.padding) / ranks
