"""How close does an interleaving stay to its weights? Both modes against the installed peers, over many draws.

    python benchmarks/mixers.py [--draws 1000000] [--vectors 50]

Errors are in draws, exact, the worst over all tasks: of any prefix |count - w t|, of any window of 390 draws (Table 3's step)
and of any window of any length. Of several vectors of weights: the mean over them, and the worst. Peers: Hugging Face
`datasets.interleave_datasets` with probabilities, torchdata's `MultiNodeWeightedSampler`, Megatron-LM's greedy blending
(`build_blending_indices`) and smooth weighted round robin (nginx). Peers that take microseconds a draw run fewer draws where
there are many vectors; the column says how many. Times are those of the processor, so a busy machine does not change them much.
"""

import json
import time
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import click
import datasets
import numpy as np
import torchdata.nodes
from rich.console import Console
from rich.table import Table
from sv6d.data_mixers import Mixture, Schedule
from sv6d.data_mixers.schedules.certificate import length_error, sequence_errors
from sv6d.data_mixers.schedules.peers import megatron_greedy, round_robin
from sv6d.data_mixers.schedules.weights import integer_counts

SKEWED = [0.20, 0.15, 0.12, 0.10, 0.10, 0.08, 0.07, 0.06, 0.05, 0.03, 0.02, 0.01, 0.01]
STEP = 390
PERIOD = 10_000


class Mixer(NamedTuple):
    """draw: (counts a period, draws) -> task indices; most: draws for each of many vectors."""

    name: str
    draw: Callable[[np.ndarray, int], np.ndarray]
    most: int


def ours(mode: str) -> Callable[[np.ndarray, int], np.ndarray]:
    def draw(counts: np.ndarray, draws: int) -> np.ndarray:
        return Schedule(dict(enumerate(counts.tolist())), mode, PERIOD).take(0, draws)

    return draw


def smooth_round_robin(counts: np.ndarray, draws: int) -> np.ndarray:
    return np.resize(round_robin(counts), draws)  # it repeats exactly


def interleave_datasets(counts: np.ndarray, draws: int) -> np.ndarray:
    share = counts / counts.sum()
    sizes = (share * draws * 1.2 + 2_000).astype(int)  # enough that none is exhausted before `draws`
    sources = [datasets.Dataset.from_dict({"task": np.full(size, task, np.int16)}) for task, size in enumerate(sizes)]
    mixed = datasets.interleave_datasets(sources, probabilities=share.tolist(), seed=0)
    return mixed.with_format("arrow")[:draws]["task"].to_numpy()


class Endless(torchdata.nodes.BaseNode):
    """A source that yields its task for ever."""

    def __init__(self, task: int):
        super().__init__()
        self.task = task

    def next(self) -> int:
        return self.task

    def get_state(self) -> dict:
        return {}


def torchdata_sampler(counts: np.ndarray, draws: int) -> np.ndarray:
    nodes = {str(task): Endless(task) for task in range(len(counts))}
    weights = {str(task): share for task, share in enumerate((counts / counts.sum()).tolist())}
    sampler = torchdata.nodes.MultiNodeWeightedSampler(nodes, weights, "CYCLE_FOREVER", rank=0, world_size=1, seed=0)
    return np.fromiter(islice(torchdata.nodes.Loader(sampler), draws), np.int16, draws)


MIXERS = [
    Mixer("ours, prefix", ours("prefix"), 1_000_000),
    Mixer("ours, window", ours("window"), 1_000_000),
    Mixer("smooth round robin", smooth_round_robin, 1_000_000),
    Mixer("Megatron greedy", megatron_greedy, 2 * PERIOD),
    Mixer("torchdata", torchdata_sampler, 2 * PERIOD),
    Mixer("datasets", interleave_datasets, 2 * PERIOD),
]


def errors(order: np.ndarray, counts: np.ndarray) -> tuple[float, float, float]:
    """Worst error of any prefix, of any window of STEP draws and of any window."""
    prefix, window = sequence_errors(order, counts)
    return float(prefix), float(length_error(order, counts, STEP)), float(window)


def cases(vectors: int) -> dict[str, list[np.ndarray]]:
    random = np.random.default_rng(0)

    def counts(weights: list[float]) -> np.ndarray:
        return integer_counts(dict(enumerate(weights)), PERIOD).counts

    def dirichlet(n: int) -> list[np.ndarray]:
        return [counts(np.maximum(random.dirichlet(np.ones(n)), 2e-4).tolist()) for _ in range(vectors)]

    return {
        "13 equal": [counts([1] * 13)],
        "13 skewed": [counts(SKEWED)],
        f"13 random ({vectors})": dirichlet(13),
        f"64 random ({vectors})": dirichlet(64),
    }


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--draws", default=1_000_000, show_default=True, help="Draws to measure over.")
@click.option("--vectors", default=50, show_default=True, help="Random vectors of weights at n = 13 and at n = 64.")
def main(draws: int, vectors: int) -> None:
    start = time.process_time()
    table = Table(title="worst error, in draws: mean over the vectors / worst of them", box=None)
    for heading in ("weights", "mixer", "draws", "any prefix", f"any {STEP}", "any window", "draws/s"):
        table.add_column(heading, justify="left" if heading in ("weights", "mixer") else "right", no_wrap=True)
    for case, many in cases(vectors).items():
        for mixer in MIXERS:
            count = draws if len(many) == 1 else min(draws, mixer.most)
            began = time.process_time()
            orders = [mixer.draw(counts, count) for counts in many]
            speed = len(many) * count / (time.process_time() - began)
            worst = np.array([errors(order, counts) for order, counts in zip(orders, many, strict=True)])
            cells = (_spread(column) for column in worst.T)
            table.add_row(case, mixer.name, f"{count:,}", *cells, f"{speed:,.0f}")
        table.add_row(case, "Tijdeman's bound", "", f"{1 - 1 / (2 * len(many[0]) - 2):.4f}", "", "", "")
        table.add_section()
    console = Console(width=125)
    console.print(table)
    console.print(
        *_speeds(),
        *_resumption(),
        f"the whole benchmark: {time.process_time() - start:.0f} s of one core",
        sep="\n",
        highlight=False,
    )


def _spread(errors: np.ndarray) -> str:
    return f"{errors[0]:.4f}" if len(errors) == 1 else f"{errors.mean():.3f} / {errors.max():.3f}"


def _speeds() -> list[str]:
    weights = [dict(enumerate(counts.tolist())) for counts in cases(20)["64 random (20)"]]
    built = [_seconds(lambda w=w: Schedule(w, max_period=PERIOD)) for w in weights]
    searched = _seconds(lambda: Schedule(weights[0], "window", PERIOD))
    schedule = Schedule(weights[0], max_period=PERIOD)
    positions = np.random.default_rng(1).integers(0, 10**12, 1_000_000)
    sequential = 10**7 / _seconds(lambda: [schedule.take(t, t + STEP) for t in range(0, 10**7, STEP)])
    return [
        f"ours: a period of {PERIOD:,} draws of 64 tasks built in {np.median(built) * 1e3:.2f} ms "
        f"(median of 20, slowest {max(built) * 1e3:.2f} ms); in window mode in {searched:.2f} s",
        f"ours: {sequential / 1e6:,.0f} M draws/s one after the other, in steps of {STEP}",
        f"ours: {1e6 / _seconds(lambda: schedule.at(positions)) / 1e6:,.0f} M positions/s at random",
    ]


def _resumption() -> list[str]:
    lines = []
    for tasks in (13, 64):
        mixture = Mixture(
            {f"task_{i:02}": 20_000 + i for i in range(tasks)}, {f"task_{i:02}": 1 + i for i in range(tasks)}
        )
        text = json.dumps(mixture.state(10**6))
        resumed = _seconds(lambda m=mixture, t=text: [m.resume(json.loads(t)) for _ in range(1_000)]) / 1_000
        first, then = (_seconds(lambda m=mixture, s=s: m.places(range(s, s + STEP))) for s in (10**6, 10**6 + STEP))
        lines.append(
            f"ours: a mixture of {tasks} sources resumes from {len(text)} bytes in {resumed * 1e6:.0f} us; its first step of "
            f"{STEP} rows in {first * 1e3:.1f} ms (shuffles of 20,000 rows are built), the next in {then * 1e3:.2f} ms"
        )
    return lines


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
