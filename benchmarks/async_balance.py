"""What asynchronous rollouts do to the mixture: verl's replay buffer, one in strict order, and ours, simulated.

    python benchmarks/async_balance.py [--steps 150] [--seed 0]

13 equal tasks, 30 groups of each a step. Rollouts take heavy-tailed times that differ by task (OCR short, grounding long)
and are lost with probabilities of 0 to 60 % by task. The events are simulated; what "ours" selects and sends out is
decided by the code that trains (`sv6d.data_mixers.quota`). verl's policy follows `verl/trainer/ppo/v1/replay_buffer.py`, 0.9.1:
`wait_for_sampleable` goes as soon as a batch is finished, `_select_prompt_uids` takes the earliest dispatched of those,
`_stale_terminal_keys` evicts, and `refill_fn` asks for as many prompts of whatever task comes next.
"""

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from sv6d.data_mixers import Schedule
from sv6d.data_mixers.quota import Patience, Quota
from sv6d.schema import TASKS

BATCH = 390  # Table 3: 13 tasks x 30
STALE = 8  # steps a group may be old: verl's max_off_policy_threshold, strategy "drop"
UPDATE = 90.0  # seconds of a gradient step; rollouts go on meanwhile, as in separate_async
SLOTS = 640  # groups that are rolled out at a time; the others queue
POLL = 1.0  # seconds between two looks
SECONDS = {"ocr": 6, "action_localization": 15, "chain_of_thought": 30, "temporal_grounding": 45}  # a group's median


class Loss(NamedTuple):
    """How rollouts are lost: probability by task; a task that hands in nothing between two times (seconds)."""

    rate: dict[str, float]
    absent: tuple[str, float, float] = ("", 0, 0)


class Group(NamedTuple):
    name: str
    task: str
    step: int  # of its dispatch: verl's `global_steps`


class Rollouts:
    """The inference engine: `SLOTS` groups at a time in the order of submission, each for a random time."""

    def __init__(self, loss: Loss, seed: int):
        self.loss, self.random = loss, random.Random(seed)
        self.running: list[tuple[float, int, Group]] = []
        self.queue: deque[Group] = deque()
        self.started = 0

    def submit(self, group: Group, now: float) -> None:
        self.queue.append(group)
        self._start(now)

    def until(self, now: float) -> Iterator[tuple[Group, bool]]:
        """Groups that end up to `now`, and whether they ended well."""
        while self.running and self.running[0][0] <= now:
            end, _, group = heapq.heappop(self.running)
            self._start(end)
            yield group, self.random.random() >= self.loss.rate[group.task]

    def _start(self, now: float) -> None:
        while self.queue and len(self.running) < SLOTS:
            group, self.started = self.queue.popleft(), self.started + 1
            end = now + self._seconds(group.task)
            task, absent_from, absent_to = self.loss.absent
            if group.task == task and absent_from < end < absent_to:
                end += absent_to - absent_from
            heapq.heappush(self.running, (end, self.started, group))

    def _seconds(self, task: str) -> float:
        """Lognormal (a tenth takes over twice the median); one group in fifty has a straggler, with a Pareto tail up to the
        tenfold, where a response ends by its limit."""
        tail = min(self.random.paretovariate(1.0), 10.0) if self.random.random() < 0.02 else 1.0
        return SECONDS[TASKS[task].family] * self.random.lognormvariate(0, 0.6) * tail


@dataclass
class FirstFinished:
    """verl's policy."""

    groups: dict[str, Group] = field(default_factory=dict)  # in flight, in the order of dispatch

    def dispatch(self, groups: list[Group]) -> None:
        self.groups.update({group.name: group for group in groups})

    def lose(self, group: Group, stale: bool) -> dict[str, str] | None:
        """What to send out for a lost group, `{name: task}`; None for the stream's next prompt."""
        del self.groups[group.name]
        return None

    def next_batch(self) -> int:
        return BATCH

    def choose(self, finished: Collection[str], now: float) -> list[str] | None:
        if len(finished) < BATCH:
            return None
        return sorted(finished, key=lambda name: self.groups[name].step)[:BATCH]

    def train(self, names: list[str], now: float) -> None:
        for name in names:
            del self.groups[name]


class InOrder(FirstFinished):
    """Waits for the groups that were dispatched first, whatever they are; losses as in verl."""

    def choose(self, finished: Collection[str], now: float) -> list[str] | None:
        oldest = list(self.groups)[:BATCH]
        return oldest if len(oldest) == BATCH and all(name in finished for name in oldest) else None


class Balanced:
    """`Quota`, fed as the replay buffer feeds it."""

    def __init__(self, *settings):
        self.quota = Quota(*settings)

    def dispatch(self, groups: list[Group]) -> None:
        self.quota.dispatch({group.name: group.task for group in groups})

    def lose(self, group: Group, stale: bool) -> dict[str, str]:
        if stale:
            self.quota.repeat(group.name)
            return {group.name: group.task}
        tasks = self.quota.lose([group.name])
        refills = {f"{task}/refill/{self.quota.refill_number(task)}": task for task in tasks}
        self.quota.refill(refills)
        return refills

    def next_batch(self) -> int:
        return self.quota.next_batch(BATCH)

    def choose(self, finished: Collection[str], now: float) -> list[str] | None:
        return self.quota.choose(finished, BATCH, now)

    def train(self, names: list[str], now: float) -> None:
        self.quota.train(names, now)


class Result(NamedTuple):
    trained: np.ndarray  # (steps, tasks) groups
    staleness: np.ndarray  # (steps, BATCH) steps between a group's dispatch and its training
    hours: float
    rollouts: int  # groups that were begun
    debts: np.ndarray  # (steps,) largest debt of a task after the step, in groups; zero where nobody keeps books


def simulate(policy: FirstFinished | Balanced, loss: Loss, ahead: int, steps: int, seed: int) -> Result:
    """Train `steps` steps, rollouts `ahead` batches ahead: dispatch a batch, look until the policy has one, update."""
    schedule, engine, now = Schedule(dict.fromkeys(TASKS, 1)), Rollouts(loss, seed), 0.0
    order = [schedule.tasks[i] for i in schedule.take(0, 4 * (steps + ahead) * BATCH)]
    stream = (Group(f"{position}", task, 0) for position, task in enumerate(order))
    flying: dict[str, Group] = {}
    finished: dict[str, Group] = {}

    def send(groups: list[Group]) -> None:
        for group in groups:
            flying[group.name] = group
            engine.submit(group, now)

    def dispatch(count: int) -> None:
        groups = [next(stream)._replace(step=step) for _ in range(count)]
        policy.dispatch(groups)
        send(groups)

    def replace(group: Group, stale: bool) -> None:
        new = policy.lose(group, stale)
        dispatch(1) if new is None else send([Group(name, task, step) for name, task in new.items()])

    trained, staleness, debts = np.zeros((steps, len(TASKS)), int), np.zeros((steps, BATCH), int), np.zeros(steps, int)
    step = 1
    dispatch(ahead * BATCH)
    for step in range(1, steps + 1):
        dispatch(policy.next_batch())
        chosen = None
        while chosen is None:
            for group, well in list(engine.until(now)):
                if well:
                    finished[group.name] = group
                else:
                    replace(group, stale=False)
            for group in [group for group in finished.values() if step - group.step + 1 > STALE]:
                del finished[group.name]
                replace(group, stale=True)
            chosen = policy.choose(finished, now)
            now += POLL * (chosen is None)
        policy.train(chosen, now)
        groups = [finished.pop(name) for name in chosen]
        count = Counter(group.task for group in groups)
        trained[step - 1] = [count[task] for task in TASKS]
        staleness[step - 1] = [step - group.step for group in groups]
        debts[step - 1] = max(policy.quota.debt.values()) if isinstance(policy, Balanced) else 0
        now += UPDATE
    return Result(trained, staleness, now / 3600, engine.started, debts)


Policies = dict[str, Callable[[], FirstFinished | Balanced]]
POLICIES: Policies = {"verl": FirstFinished, "strict order": InOrder, "ours": Balanced}


class Scenario(NamedTuple):
    title: str
    loss: Loss
    ahead: int  # batches that rollouts run ahead: verl's num_warmup_batches
    variant: Policies


def scenarios(seed: int) -> list[Scenario]:
    tasks = list(TASKS)
    rates = dict(zip(random.Random(seed).sample(tasks, len(tasks)), np.linspace(0, 0.6, len(tasks)), strict=True))
    none = dict.fromkeys(tasks, 0.0)
    absent = Loss(none, (tasks[0], 3600, 5400))
    eager: Policies = {"ours, wait_for_oldest=0": lambda: Balanced(Patience(oldest=0))}
    spares: Policies = {"ours, spares=0": lambda: Balanced(Patience(), 0.0)}
    hasty: Policies = {"ours, wait_for_task=30": lambda: Balanced(Patience(task=30))}
    return [
        Scenario("nothing lost", Loss(none), 1, eager),
        Scenario("nothing lost, rollouts two batches ahead", Loss(none), 2, eager),
        Scenario("0 to 60 % lost, by task", Loss(rates), 1, spares),
        Scenario(f"{tasks[0]} hands in nothing for half an hour", absent, 1, hasty),
    ]


def summary(result: Result, reference: Result) -> list[str]:
    """Shares are relative to the target: 1.00 is 30 groups a step."""
    off = np.abs(result.trained / (BATCH / len(TASKS)) - 1).max(1)
    share = result.trained.mean(0) / (BATCH / len(TASKS))
    late, speed = result.staleness, reference.hours / result.hours
    return [
        f"{off.mean():.0%}",
        f"{off.max():.0%}",
        f"{share.min():.2f} - {share.max():.2f}",
        f"{result.debts.max()} / {result.debts[-1]}",
        f"{len(result.trained) / result.hours:.1f}",
        f"{speed - 1:+.1%}",
        f"{result.rollouts / late.size:.2f}",
        f"{late.mean():.2f} / {np.percentile(late, 99):.0f} / {late.max()}",
    ]


@click.command()
@click.option("--steps", default=150, show_default=True, help="Gradient steps (Figure 3 has 150).")
@click.option("--seed", default=0, show_default=True, help="Of times and losses.")
def main(steps: int, seed: int) -> None:
    headings = "off: mean", "worst", "trained share", "debt: most / last", "steps/h", "to verl", "rollouts", "staleness"
    for title, loss, ahead, variant in scenarios(seed):
        table = Table("policy", title=title, title_justify="left", box=None)
        for heading in headings:
            table.add_column(heading, justify="right")
        results = {name: simulate(make(), loss, ahead, steps, seed) for name, make in (POLICIES | variant).items()}
        for name, result in results.items():
            table.add_row(name, *summary(result, results["verl"]))
        Console().print(table, "")
    Console().print(
        f"off: a step's worst task, relative to its {BATCH // len(TASKS)} groups. trained share: least and most trained task "
        f"over the run, 1 is the target.\nrollouts: begun for each one trained. staleness: steps from dispatch to training, "
        f"mean / 99th percentile / most."
    )


if __name__ == "__main__":
    main()
