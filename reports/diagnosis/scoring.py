"""Rules on what measures the policy: a judge that fails or drifts, scoring that fails, rollouts of another policy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .evidence import Evidence
from .finding import Finding, Unjudged, rule


@rule("Scoring fails: rollouts are given what a failure is given, and not what they are worth.", warn=0.01, alarm=0.1)
def failed_scoring(seen: Evidence, warn: float, alarm: float) -> Iterator[Finding]:
    rows = seen.run.rollouts
    if rows.empty or rows["failed"].isna().all():
        raise Unjudged("no rollouts with the column `failed` were recorded")
    table = rows.groupby("task", observed=True)["failed"].mean().to_frame("all")
    table["last"] = seen.last_rollouts.groupby("task", observed=True)["failed"].mean()
    for task, share in table.iterrows():
        if share.max() > warn:
            at = rows.loc[(rows["task"] == task) & (rows["failed"] == 1.0), "step"]
            yield Finding(
                "failed_scoring",
                "alarm" if share["last"] > alarm else "warning",
                str(task),
                (int(at.min()), int(at.max())),
                "Scoring fails",
                f"{share['last']:.1%} of the task's rollouts in the last steps, {share['all']:.1%} in the run "
                f"(warning from {warn:.0%} in either, alarm from {alarm:.0%} in the last steps)",
                "train.log names each failure: a judge that does not answer, a time limit, a family of one's own that raises.",
            )


@rule("The judge fails: too many of its verdicts never come.", warn=0.05, alarm=0.2)
def judge_failures(seen: Evidence, warn: float, alarm: float) -> Iterator[Finding]:
    asked, failed = (seen.metric(f"judge/{name}") for name in ("asked", "failed"))
    if not asked.any():
        raise Unjudged("no judge was asked (judge/asked)")
    last, whole = (failed[-n:].sum() / max(asked[-n:].sum(), 1.0) for n in (seen.window, len(asked)))
    if max(last, whole) > warn:
        yield Finding(
            "judge_failures",
            "alarm" if last > alarm else "warning",
            None,
            seen.last_steps if last > warn else (seen.steps[0], seen.steps[-1]),
            "The judge fails",
            f"{last:.1%} of the questions in the last steps, {whole:.1%} of {asked.sum():.0f} in the run "
            f"(warning from {warn:.0%} in either, alarm from {alarm:.0%} in the last steps)",
            "Is the endpoint up, is its rate limit enough (judge.concurrency), do verdicts fit into judge.max_tokens? "
            "Until then judge.fallback=mask keeps failures out of the advantages.",
        )


@rule(
    "Judge drift: its marks jump from one step to the next while nothing else of the task does.",
    jump=0.2,
    other=0.5,
    errors=5,
)
def judge_drift(seen: Evidence, jump: float, other: float, errors: float) -> Iterator[Finding]:
    """A policy that learns moves all measures of a task, and over many steps; a judge that was changed moves one, at once."""
    if not seen.metric("judge/asked").any():
        raise Unjudged("no model judged (judge/asked); a rule does not drift")
    curves = {task: seen.curve("judge", task) for task in seen.tasks}
    judged = {task: np.flatnonzero(np.isfinite(curve)) for task, curve in curves.items()}
    judged = {task: at for task, at in judged.items() if len(at) >= 2 * seen.window}
    if not judged:
        raise Unjudged(f"no component `judge` over {2 * seen.window} steps")
    for task, measured in judged.items():  # a task need not be in every step
        at, size, error = _largest_jump(curves[task][measured], seen.window)
        others = [seen.curve(name, task) for name in ("format", "length", "entropy")]
        beside = [abs(_jump_at(curve[measured], at, seen.window)) for curve in others if len(curve)]
        beside = max((b for b in beside if np.isfinite(b)), default=0.0)
        before, after = (seen.steps[measured[i]] for i in (at - 1, at))
        if abs(size) > max(jump, errors * error) and beside < other:
            yield Finding(
                "judge_drift",
                "warning",
                task,
                (before, after),
                "The judge's marks jump",
                f"by {size:+.2f} on average between steps {before} and {after}, over {seen.window} steps "
                f"on either side (seen from {jump:g}); format, length and entropy of the task stay",
                "Was the judge's model, prompt or server changed? Give old answers to it again: sv6d score, and compare the marks.",
            )


def _largest_jump(curve: np.ndarray, window: int) -> tuple[int, float, float]:
    """Where the means of the two windows on either side differ most *and* the single step between them makes it: position of
    the first step after the jump, its size, its standard error."""
    best = (window, 0.0, np.inf)
    for at in range(window, len(curve) - window + 1):
        before, after = curve[at - window : at], curve[at : at + window]
        size = float(after.mean() - before.mean())
        if abs(size) > abs(best[1]) and abs(curve[at] - curve[at - 1]) > abs(size) / 2:
            best = (at, size, float(np.sqrt((before.var(ddof=1) + after.var(ddof=1)) / window)))
    return best


def _jump_at(curve: np.ndarray, at: int, window: int) -> float:
    """The difference of the two windows' means around a step, in terms of the earlier one; NaN where it was not measured."""
    before, after = curve[at - window : at].mean(), curve[at : at + window].mean()
    return float((after - before) / max(abs(before), 1e-9))


@rule(
    "Rollouts are not the trainer's policy: weights do not arrive, or the two see different prompts.",
    warn=0.95,
    alarm=0.8,
)
def rollout_mismatch(seen: Evidence, warn: float, alarm: float) -> Iterator[Finding]:
    """By the correlation of the tokens' probabilities, which holds for float32 and bfloat16 alike (their largest differences
    do not)."""
    found = seen.metric("training/rollout_actor_probs_pearson_corr")[-seen.window :]
    if not len(found):
        raise Unjudged(
            "no training/rollout_actor_probs_pearson_corr (actor_rollout_ref.rollout.calculate_log_probs=true)"
        )
    correlation = float(found.mean())
    if correlation < warn:
        yield Finding(
            "rollout_mismatch",
            "alarm" if correlation < alarm else "warning",
            None,
            seen.last_steps,
            "Rollouts and trainer disagree",
            f"correlation of the tokens' probabilities {correlation:.3f} in the last steps "
            f"(warning below {warn:g}, alarm below {alarm:g})",
            "Fresh rollouts must agree (sv6d/fresh_rollout_probs_diff_max): else weight sync or the video prompt is broken, see "
            "sv6d doctor. If only stale ones differ, let rollouts run less far ahead or weigh them "
            "(algorithm.rollout_correction.rollout_is=token).",
        )
