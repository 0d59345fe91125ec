"""How others interleave, to compare with: independent random draws, Megatron's greedy and smooth weighted round robin."""

import numpy as np


def random_draws(counts: np.ndarray, draws: int, seed: int = 0) -> np.ndarray:
    """An independent draw at every position, as `datasets.interleave_datasets` and torchdata's weighted sampler do."""
    return np.random.default_rng(seed).choice(len(counts), draws, p=counts / counts.sum()).astype(np.int16)


def megatron_greedy(counts: np.ndarray, draws: int) -> np.ndarray:
    """The task farthest behind at each draw, as in `build_blending_indices` of Megatron-LM (in double precision, like it)."""
    order, drawn, weights = np.empty(draws, np.int16), np.zeros(len(counts)), counts / counts.sum()
    for t in range(draws):
        order[t] = behind = (weights * max(t, 1) - drawn).argmax()
        drawn[behind] += 1
    return order


def round_robin(counts: np.ndarray) -> np.ndarray:
    """One period of smooth weighted round robin (nginx): each task earns its weight, the richest is drawn and pays."""
    period = int(counts.sum())
    order, credit = np.empty(period, np.int16), np.zeros(len(counts), np.int64)
    for t in range(period):
        credit += counts
        order[t] = richest = credit.argmax()
        credit[richest] -= period
    return order
