"""Rules on what the reward says: hacked, constant, without a gradient, or withheld from a task."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import binom

from ..means import mean
from ..numbers import COMPONENT_MEASURES
from .evidence import SIGMAS, Evidence, as_curve
from .finding import Finding, Unjudged, rule

WIRING = (
    "Score a ground truth as if it were the answer (sv6d check does): less than 1 is a wiring error (data_source, "
    "ground_truth, the answer's format). If it is 1, the task is out of the model's reach: SFT first."
)
READ = "Read the best-paid answers of the last steps beside the truth (the page shows some; sv6d score --explain accounts for each)."


@rule(
    "Reward hacking: the training reward rises while the held-out reward or a component of it falls.",
    gain=0.05,
    heldout=0.02,
    heldout_task=0.15,
    component=0.1,
)
def reward_hacking(
    seen: Evidence, gain: float, heldout: float, heldout_task: float, component: float
) -> Iterator[Finding]:
    reward = seen.change("reward")
    if reward is None:
        raise Unjudged(f"fewer than {2 * seen.window} steps")
    yield from _heldout(seen, gain, heldout, heldout_task)
    for task in (None, *seen.tasks):
        score = seen.change("reward", task)
        for name in COMPONENT_MEASURES:
            part = seen.change(name, task)
            if score and part and score.rose(gain) and part.fell(component):
                yield Finding(
                    "reward_hacking",
                    "warning" if task else "alarm",
                    task,
                    seen.last_steps,
                    f"The reward rises and {name} falls",
                    f"reward {score.first:.3f} -> {score.last:.3f}, {name} {part.first:.3f} -> {part.last:.3f} "
                    f"(seen from +{gain:g} and -{component:g})",
                    f"The policy trades {name} for what is cheaper. {READ}",
                )


def _heldout(seen: Evidence, gain: float, heldout: float, heldout_task: float) -> Iterator[Finding]:
    """The mean of all tasks has to fall by three standard errors over the tasks as well: a few held-out rows scatter."""
    steps = np.array(seen.shown["heldout"]["steps"])
    tasks = {task: as_curve(scores) for task, scores in seen.shown["heldout"]["tasks"].items()}
    tasks = {task: scores for task, scores in tasks.items() if len(scores)}
    if not tasks:
        return
    table = np.stack(list(tasks.values()))
    for task, scores in {None: np.nanmean(table, axis=0), **tasks}.items():
        best, last = _best_and_last(scores)
        falls = table[:, best] - table[:, last] if task is None else np.array([])
        falls = falls[np.isfinite(falls)]
        error = SIGMAS * falls.std(ddof=1) / np.sqrt(len(falls)) if len(falls) > 2 else 0.0
        reward = seen.since(steps[best], "reward", task)
        least = heldout_task if task else heldout
        if reward and reward.rose(gain) and scores[best] - scores[last] > max(least, error):
            yield Finding(
                "reward_hacking",
                "warning" if task else "alarm",
                task,
                (int(steps[best]), seen.steps[-1]),
                "The training reward rises and the held-out reward falls",
                f"training reward {reward.first:.3f} -> {reward.last:.3f}, held-out {scores[best]:.3f} -> {scores[last]:.3f} "
                f"(seen from +{gain:g} and -{least:g})",
                f"The policy learns these rows, or their flaws. More or other rows of the task, fewer passes. {READ}",
            )


def _best_and_last(scores: np.ndarray) -> tuple[int, int]:
    """The best validation, and the better of the last two, so that one that is merely unlucky does not count; of fewer than four,
    the first and the last."""
    measured = np.flatnonzero(np.isfinite(scores))
    if len(measured) < 4:
        return measured[0], measured[-1]
    earlier, latest = measured[:-2], measured[-2:]
    return earlier[scores[earlier].argmax()], latest[scores[latest].argmax()]


@rule("A reward that never moves: a wiring error, or a task out of reach.", rollouts=24, steps=3)
def constant_reward(seen: Evidence, rollouts: float, steps: float) -> Iterator[Finding]:
    rows = seen.run.rollouts
    if rows.empty:
        yield from _constant_reward_of_batches(seen, steps)
        return
    rows = rows.loc[rows["failed"] != 1.0, ["task", "step", "score"]]  # the others have what a failure is given
    by = rows.groupby("task", observed=True).agg(
        low=("score", "min"), high=("score", "max"), size=("score", "count"), steps=("step", "nunique"),
        start=("step", "min"), end=("step", "max"),
    )  # fmt: skip
    for task, row in by.iterrows():
        if row["size"] >= rollouts and row["steps"] >= steps and row["high"] - row["low"] < 1e-9:
            yield Finding(
                "constant_reward",
                "alarm",
                str(task),
                (int(row["start"]), int(row["end"])),
                f"The reward is always {row['low']:g}",
                f"{int(row['size'])} rollouts in {int(row['steps'])} steps, every score {row['low']:g}",
                WIRING,
            )


def _constant_reward_of_batches(seen: Evidence, steps: float) -> Iterator[Finding]:
    """Of a run whose rollouts were not recorded, by what verl's loggers have."""
    low, high = (seen.metric(f"critic/score/{name}") for name in ("min", "max"))
    if min(len(low), len(high)) < steps:
        raise Unjudged(f"no rollouts were recorded, and critic/score/min and max of fewer than {steps:g} steps")
    if high.max() - low.min() < 1e-9:
        yield Finding(
            "constant_reward",
            "alarm",
            None,
            (seen.steps[0], seen.steps[-1]),
            f"The reward is always {low[0]:g}",
            f"every score of {len(low)} steps is {low[0]:g}",
            WIRING,
        )


@rule("Dead groups: all rewards of a group are equal, so it teaches nothing.", share=0.5, task_share=0.8)
def dead_groups(seen: Evidence, share: float, task_share: float) -> Iterator[Finding]:
    if not len(seen.curve("dead_groups")):
        raise Unjudged("no groups of two or more rollouts were recorded")
    for task in (None, *seen.tasks):
        curve, reward = (seen.curve(name, task)[-seen.window :] for name in ("dead_groups", "reward"))
        dead, least = mean(curve), task_share if task else share
        if dead > least:
            yield Finding(
                "dead_groups",
                "warning" if task else "alarm",
                task,
                seen.last_steps,
                "Most groups teach nothing",
                f"{dead:.0%} of the groups are dead in the last steps, at a mean reward of {mean(reward):.3f} (seen from {least:.0%})",
                "Near 1 the rows are too easy, near 0 too hard: other rows, or a smaller weight for the task "
                "(data.mixture.weights). In between, all G answers are the same: the policy is certain. Groups without a "
                "gradient can be replaced by others of the task (algorithm.filter_groups).",
            )


@rule("A starved task: it trains on much less than its share of the mixture.", share=0.5, chance=0.001)
def starved_task(seen: Evidence, share: float, chance: float) -> Iterator[Finding]:
    """Less than `share` of what is due, and less than tasks drawn by lot would have with more than `chance`: in a run of few
    groups a step some task has none for a while."""
    asked = _requested(seen)
    rows = seen.last_rollouts
    if not asked or rows.empty:
        raise Unjudged("the mixture that was asked for was not recorded (about.json), or no rollouts were")
    groups = rows.drop_duplicates(["step", "group"])["task"].value_counts()
    count = int(groups.sum())
    for task, due in asked.items():
        trained = int(groups.get(task, 0))
        got = trained / count
        if due > 0 and got < share * due and binom.cdf(trained, count, due) < chance:
            lost = seen.metric(f"mixture/{task}/replaced")[-seen.window :].sum()
            yield Finding(
                "starved_task",
                "alarm",
                task,
                seen.last_steps,
                "The task is starved",
                f"{trained} of the {count} groups of the last steps, {got:.1%}; {due:.1%} asked for (seen below {share:.0%} of it, "
                f"where chance explains it in fewer than {chance:g} of the cases)"
                + (f"; {lost:.0f} groups were lost and replaced" if lost else ""),
                "Look for its failures (skipped_rows.jsonl, train.log): rows that do not load, rollouts that time out. "
                "BalancedReplayBuffer gives every step each task's share.",
            )


def _requested(seen: Evidence) -> dict[str, float]:
    """Shares asked of the last steps: as the trainer logged them where weights change, else the run's."""
    logged = {task: mean(seen.metric(f"mixture/{task}/requested")[-seen.window :]) for task in seen.tasks}
    logged = {task: share for task, share in logged.items() if np.isfinite(share)}
    weights = seen.run.about.get("mixture") or {}
    return {task: weight / sum(weights.values()) for task, weight in weights.items()} | logged
