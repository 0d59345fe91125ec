"""Advantages beyond Table 3, on plain arrays: each task's own moving deviation in the place of the group's (EMA-GRPO,
arXiv 2512.03043, eq. 9-11), and VL-Cogito's weights by difficulty and length reward (arXiv 2507.22607; formulas as in its
authors' code).

A group that has one sample compares it with nothing: its advantage is 0 and no average sees it. So a sample that the judge
could not judge (`judging.py` gives it a group of its own) changes nothing, and earns nothing.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .settings import Beyond, Difficulty, Length

EPSILON = 1e-6  # verl's, beside the deviation


class Rollouts(NamedTuple):
    """A step's samples, in any order: group and task of each, its reward, its response's tokens, and its score in [0, 1], which
    is the reward but for a KL penalty."""

    groups: Sequence[str]
    tasks: Sequence[str]
    rewards: np.ndarray
    lengths: np.ndarray
    scores: np.ndarray


class Advantages(NamedTuple):
    """By sample: the advantage, the weight of its group, and the length reward in [-1, 0]; by task the deviation that
    advantages were divided by (EMA-GRPO alone)."""

    values: np.ndarray
    weights: np.ndarray
    lengths: np.ndarray
    deviations: dict[str, float]


class TaskMoments:
    """Moving first and second moments of each task's rewards (eq. 9): m(t) = decay m(t-1) + (1 - decay) mean(t). The first
    step of a task sets them."""

    def __init__(self, decay: float, moments: Mapping[str, Sequence[float]] | None = None):
        self.decay = decay
        self.moments = {task: (float(first), float(second)) for task, (first, second) in (moments or {}).items()}

    def update(self, task: str, rewards: np.ndarray) -> None:
        """Take in a step's rewards of a task; none changes nothing."""
        if not len(rewards):
            return
        now = float(np.mean(rewards)), float(np.mean(np.square(rewards)))
        before = self.moments.get(task, now)
        self.moments[task] = tuple(self.decay * b + (1 - self.decay) * n for b, n in zip(before, now, strict=True))

    def deviation(self, task: str) -> float:
        """sqrt(m2 - m1^2) (eq. 10); 0 for a task that was never seen."""
        first, second = self.moments.get(task, (0.0, 0.0))
        return float(np.sqrt(max(second - first**2, 0.0)))

    def state(self) -> dict[str, list[float]]:
        """The moments by task, as plain JSON."""
        return {task: list(moments) for task, moments in self.moments.items()}


def advantages(
    rollouts: Rollouts, beyond: Beyond, moments: TaskMoments | None, *, by_std: bool, longest: int
) -> Advantages:
    """Advantages of a step's samples.

    Args:
        moments: where `beyond.task_ema` is on; this step is taken in before its advantages are computed, as in the paper.
        by_std: whether GRPO divides by the group's deviation (Table 3 does), where `task_ema` is off.
        longest: tokens at which a response is cut off.
    """
    group = np.unique(rollouts.groups, return_inverse=True)[1]
    size = np.bincount(group)
    compared = size[group] > 1
    lengths = np.zeros(len(group))
    rewards = rollouts.rewards
    if beyond.length:
        lengths = length_rewards(rollouts, group, beyond.length, longest) * compared
        rewards = combined(rewards, lengths, beyond.length.weight)
    values = (rewards - _means(group, rewards)) * compared
    deviations: dict[str, float] = {}
    if moments is not None:
        tasks = np.asarray(rollouts.tasks, dtype=object)
        for task in sorted(set(rollouts.tasks)):
            moments.update(task, rewards[(tasks == task) & compared])
            deviations[task] = moments.deviation(task)
        values = values / (np.array([deviations[task] for task in rollouts.tasks]) + EPSILON)
        values = np.clip(values, -beyond.task_ema.clip, beyond.task_ema.clip)
    elif by_std:
        variance = _means(group, np.square(values)) * (size / np.maximum(size - 1, 1))[group]
        values = values / (np.sqrt(variance) + EPSILON)
    weights = np.ones(len(group))
    if beyond.difficulty:
        weights = difficulty_weights(_means(group, rollouts.scores), beyond.difficulty)
    return Advantages(values * weights, weights, lengths, deviations)


def difficulty_weights(earned: np.ndarray, difficulty: Difficulty) -> np.ndarray:
    """Weights in [0, 1] of groups with these mean scores, of which those outside [0, 1] count as 0 and 1: sin(pi earned),
    highest where half is right. The easy stage keeps 1 above one half, the hard stage below it, save for a group that earns
    nothing."""
    earned = np.clip(earned, 0.0, 1.0)
    bell = np.sin(np.pi * earned)
    if difficulty.stage == "easy":
        return np.where(earned > 0.5, 1.0, bell)
    if difficulty.stage == "medium":
        return bell
    return np.where(earned > 0.5, bell, np.where(earned > 0, 1.0, difficulty.all_wrong))


def length_rewards(rollouts: Rollouts, group: np.ndarray, settings: Length, longest: int) -> np.ndarray:
    """In [-1, 0]: 0 for right answers. A wrong one is to be about as long as the right ones of its group are on average:
    -1 for no tokens, 0 at that length, -1 again from twice it on, along a cosine. Where none is right it is to have
    `target` tokens at least, and not to be cut off."""
    right = rollouts.scores >= settings.correct
    counts = np.bincount(group, weights=right)
    typical = (np.bincount(group, weights=rollouts.lengths * right) / np.maximum(counts, 1))[group]
    beside_right = counts[group] > 0
    aim = np.where(beside_right, np.maximum(typical, 1), settings.target)
    progress = rollouts.lengths / aim
    shaped = -(1 + np.cos(np.pi * np.minimum(progress, 2))) / 2
    alone = np.where(rollouts.lengths >= longest, -1.0, np.where(progress >= 1, 0.0, shaped))
    return np.where(right, 0.0, np.where(beside_right, shaped, alone))


def combined(rewards: np.ndarray, length_rewards: np.ndarray, weight: float) -> np.ndarray:
    """(r + weight (1 + l)) / (1 + weight): in [0, 1] as r is, and in GRPO, which subtracts a mean and divides by a
    deviation, the same as r + weight l."""
    return (rewards + weight * (1 + length_rewards)) / (1 + weight)


def _means(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Each sample's group's mean."""
    return (np.bincount(group, weights=values) / np.bincount(group))[group]
