"""Rules on the three curves of Figure 3: entropy that is gone, answers that grow for nothing, a policy that fell apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .evidence import Change, Evidence, change
from .finding import Finding, Unjudged, rule


@rule("The policy has stopped exploring: its entropy is nearly gone.", floor=0.05, share=0.15)
def entropy_collapse(seen: Evidence, floor: float, share: float) -> Iterator[Finding]:
    _change(seen, "entropy")
    for task in (None, *seen.tasks):
        entropy = seen.change("entropy", task)
        if not entropy or entropy.last >= max(floor, share * entropy.first):
            continue
        fell = entropy.fell(0)
        yield Finding(
            "entropy_collapse",
            "alarm" if fell and not task else "warning",
            task,
            seen.last_steps,
            "Entropy has collapsed" if fell else "Entropy is nearly gone from the start",
            f"entropy {entropy.first:.3f} -> {entropy.last:.3f} nats (seen below {floor:g} nats, or {share:.0%} of the start; "
            "an alarm where that of all tasks fell)",
            "Lower the learning rate, raise clip_ratio_high (clip-higher) or rollout temperature, go back to a checkpoint "
            "from before the fall, or mix in tasks whose groups still differ.",
        )


@rule("The policy fell apart: the reward lost most of what it had gained.", lost=0.5, least=0.1)
def policy_collapse(seen: Evidence, lost: float, least: float) -> Iterator[Finding]:
    """Against the gain, and not against the reward itself: rewards may lie around 0, or below it."""
    first = _change(seen, "reward").first
    curve = seen.curve("reward")
    windows = np.lib.stride_tricks.sliding_window_view(curve[np.isfinite(curve)], seen.window)
    best = windows[windows.mean(axis=1).argmax()]
    since = change(np.concatenate([best, windows[-1]]), seen.window)
    gained = since.first - first
    if since.fell(max(lost * gained, least)):
        yield Finding(
            "policy_collapse",
            "alarm",
            None,
            seen.last_steps,
            "The policy fell apart",
            f"mean reward {first:.3f} at first, {since.first:.3f} at its best, {since.last:.3f} now: of {gained:.3f} gained "
            f"{-since.gain:.3f} are lost (alarm above {lost:.0%} of the gain and above {least:g})",
            "Go back to a checkpoint from before the fall. Then a lower learning rate, rollouts that run less far ahead "
            "(num_warmup_batches), or weights on stale tokens (algorithm.rollout_correction.rollout_is=token).",
        )


@rule(
    "Length hacking: answers grow while the reward does not, or reach the limit, or are paid by the token.",
    growth=1.5,
    gain=0.02,
    truncated=0.1,
    correlation=0.4,
)
def length_hacking(
    seen: Evidence, growth: float, gain: float, truncated: float, correlation: float
) -> Iterator[Finding]:
    _change(seen, "length")
    for task in (None, *seen.tasks):
        level = "warning" if task else "alarm"
        length, reward, cut = (seen.change(name, task) for name in ("length", "reward", "truncated"))
        if length and reward and length.last > growth * length.first and length.rose(0) and reward.gain < gain:
            yield Finding(
                "length_hacking",
                level,
                task,
                seen.last_steps,
                "Answers grow and earn nothing by it",
                f"length {length.first:.1f} -> {length.last:.1f} tokens, reward {reward.first:.3f} -> {reward.last:.3f} "
                f"(seen from {growth:g} times the length and less than +{gain:g})",
                "Read the longest answers of the last steps. Lower data.max_response_length to what true answers need, or "
                "turn on the dynamic length reward.",
            )
        if cut and cut.last > truncated:
            yield Finding(
                "length_hacking",
                level if cut.rose(0) else "warning",
                task,
                seen.last_steps,
                "Answers run into the length limit",
                f"{cut.first:.1%} -> {cut.last:.1%} of the rollouts truncated (seen from {truncated:.0%})",
                "A truncated answer is rarely readable. Raise data.max_response_length if true answers need it; otherwise see "
                "what the long ones repeat.",
            )
        if task and length and length.last > 1.2 * length.first and length.rose(0):
            paid = _pay_for_length(seen, task)
            if paid > correlation:
                yield Finding(
                    "length_hacking",
                    "warning",
                    task,
                    seen.last_steps,
                    "Within a group the longer answer earns more",
                    f"correlation of length and reward within groups {paid:.2f} in the last steps (seen from {correlation:g}), "
                    f"length {length.first:.1f} -> {length.last:.1f} tokens",
                    "Right where long truths need long answers. Else see which component pays: sv6d score --explain.",
                )


def _pay_for_length(seen: Evidence, task: str) -> float:
    """Correlation of length and score within the groups of the last window; 0 where nothing varies."""
    rows = seen.last_rollouts
    if rows.empty:
        return 0.0
    rows = rows.loc[(rows["task"] == task) & rows["score"].notna(), ["step", "group", "response_length", "score"]]
    if rows.empty:
        return 0.0
    apart = rows[["response_length", "score"]] - rows.groupby(["step", "group"], observed=True).transform("mean")
    deviations = apart.std()
    return 0.0 if (deviations < 1e-9).any() or deviations.isna().any() else float(apart.corr().iloc[0, 1])


def _change(seen: Evidence, measure: str) -> Change:
    found = seen.change(measure)
    if found is None:
        raise Unjudged(f"{measure} was measured at fewer than {2 * seen.window} steps")
    return found
