"""How close does an interleaving stay to its weights? Ours against two peers, over many draws.

    python benchmarks/mixers.py [--draws 200000]

Errors are in draws: of any prefix |count - w t|, of any window of 390 (Table 3's step) and of any window at all. Peers:
Hugging Face `datasets.interleave_datasets` (a random source for each draw) and smooth weighted round robin (nginx).
"""

import time

import click
import datasets
import numpy as np
from rich.console import Console
from rich.table import Table
from sv6d.data_mixers import Schedule

UNEVEN = [3, 3, 1, 1, 3, 3, 4, 1, 3, 1, 3, 3, 1]
SKEWED = [0.20, 0.15, 0.12, 0.10, 0.10, 0.08, 0.07, 0.06, 0.05, 0.03, 0.02, 0.01, 0.01]
STEP = 390


def ours(weights: list[float], draws: int) -> np.ndarray:
    return schedule_of(weights).take(0, draws)


def round_robin(weights: list[float], draws: int) -> np.ndarray:
    """Smooth weighted round robin: every task earns its weight, the richest is drawn and pays the total."""
    counts = schedule_of(weights).counts
    period = int(counts.sum())
    order, credit = np.empty(period, np.int16), np.zeros(len(counts), np.int64)
    for t in range(period):
        credit += counts
        order[t] = credit.argmax()
        credit[order[t]] -= period
    return np.resize(order, draws)


def interleave_datasets(weights: list[float], draws: int) -> np.ndarray:
    share = np.array(weights) / sum(weights)
    sizes = (share * draws * 1.2 + 2_000).astype(int)  # enough that none is exhausted before `draws`
    sources = [datasets.Dataset.from_dict({"task": np.full(size, task, np.int16)}) for task, size in enumerate(sizes)]
    mixed = datasets.interleave_datasets(sources, probabilities=share.tolist(), seed=0)
    return np.array(mixed.with_format("numpy")[:draws]["task"])


def schedule_of(weights: list[float]) -> Schedule:
    return Schedule({str(task): weight for task, weight in enumerate(weights)}, max_period=10_000)


def errors(order: np.ndarray, weights: list[float]) -> np.ndarray:
    """Worst error of any prefix, of any window of STEP draws and of any window, over all tasks."""
    counts = schedule_of(weights).counts
    worst = np.zeros(3)
    for task, share in enumerate(counts / counts.sum()):
        excess = np.concatenate([[0.0], np.cumsum(order == task) - share * np.arange(1, len(order) + 1)])
        step = np.abs(excess[STEP:] - excess[:-STEP]).max()
        worst = np.maximum(worst, [np.abs(excess).max(), step, excess.max() - excess.min()])
    return worst


def cases() -> dict[str, list[list[float]]]:
    random = np.random.default_rng(0)

    def dirichlet(n: int) -> list[list[float]]:
        return [np.maximum(random.dirichlet(np.ones(n)), 2e-4).tolist() for _ in range(5)]

    return {
        "13 equal": [[1] * 13],
        "13 uneven": [UNEVEN],
        "13 skewed": [SKEWED],
        "13 random (5)": dirichlet(13),
        "64 random (5)": dirichlet(64),
    }


@click.command()
@click.option("--draws", default=200_000, show_default=True, help="Draws to measure over.")
def main(draws: int) -> None:
    table = Table(title=f"worst error, in draws, over {draws:,} draws", box=None)
    for heading in ("weights", "mixer", "prefix", "bound", f"any {STEP}", "any window", "draws/s"):
        table.add_column(heading, justify="left" if heading in ("weights", "mixer") else "right")
    for case, vectors in cases().items():
        for name, mixer in (("ours", ours), ("round robin", round_robin), ("datasets", interleave_datasets)):
            start = time.perf_counter()
            orders = [mixer(weights, draws) for weights in vectors]
            speed = len(vectors) * draws / (time.perf_counter() - start)
            pairs = zip(orders, vectors, strict=True)
            worst = np.max([errors(order, weights) for order, weights in pairs], axis=0)
            bound = f"{float(schedule_of(vectors[0]).certificate.bound):.4f}" if mixer is ours else "none"
            prefix, step, window = (f"{error:.4f}" for error in worst)
            table.add_row(case, name, prefix, bound, step, window, f"{speed:,.0f}")
        table.add_section()
    Console().print(table)
    Console().print(_speeds(draws), highlight=False)


def _speeds(draws: int) -> str:
    weights = np.random.default_rng(1).dirichlet(np.ones(13)).tolist()
    start = time.perf_counter()
    schedule = schedule_of(weights)
    built = time.perf_counter()
    schedule.take(0, draws)
    speed = draws / (time.perf_counter() - built)
    return f"ours: a period of {schedule.period:,} built in {(built - start) * 1e3:.1f} ms, then {speed:,.0f} draws/s"


if __name__ == "__main__":
    main()
