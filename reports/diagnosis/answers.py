"""Rules on what the answers say, read from the recorded texts: labels that fell to one tag, times on another clock."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
from scipy.stats import entropy

from ...rewards.rescoring.explain_segments import Pair
from .evidence import Evidence
from .finding import Finding, Unjudged, rule


@rule(
    "Labels fall to a constant tag: one tag for everything, whatever the shot shows.",
    share=0.9,
    entropy_share=0.25,
    tags=20,
)
def constant_tag(seen: Evidence, share: float, entropy_share: float, tags: float) -> Iterator[Finding]:
    """Entropy of the tags of a sub-dimension in the last third of the run, against that of the true ones."""
    last = _tags(seen.answers("last"))
    if not any(sum(said.values()) >= tags for said, _ in last.values()):
        raise Unjudged(f"fewer than {tags:g} recorded answers with labels in the last third (sv6d.record_responses)")
    first = _tags(seen.answers("first"))
    for (task, name), (said, true) in last.items():
        said_bits, true_bits = _bits(said), _bits(true)
        ((tag, count),) = said.most_common(1) or [("", 0)]
        often = count / max(sum(said.values()), 1)
        if sum(said.values()) >= tags and often > share and said_bits < entropy_share * true_bits:
            before = f"{_bits(first[task, name][0]):.2f} -> " if (task, name) in first else ""
            yield Finding(
                "constant_tag",
                "warning",
                task,
                seen.last_steps,
                f"{name} is always {tag!r}",
                f"{often:.0%} of the answers, {true[tag] / sum(true.values()):.0%} of the truth; "
                f"label entropy {before}{said_bits:.2f} bits, true {true_bits:.2f} "
                f"(seen from {share:.0%} and below {entropy_share:.0%} of the true entropy)",
                "A tag in the middle of its scale earns part of Label for every shot. Rows that are balanced over the tags, a "
                "larger w_k for this dimension, or rewards.mode/distances under which the mean tag does not pay.",
            )


def _tags(pairs: dict[str, list[Pair]]) -> dict[tuple[str, str], tuple[Counter, Counter]]:
    """(task, sub-dimension) -> how often each tag was said, and was true, in matched segments."""
    counts: dict = defaultdict(lambda: (Counter(), Counter()))
    for task, found in pairs.items():
        for pair in found:
            for tag in pair.tags:
                counts[task, tag.name][0].update(tag.predicted)
                counts[task, tag.name][1].update(tag.true)
    return dict(counts)


def _bits(counts: Counter) -> float:
    return float(entropy(list(counts.values()), base=2)) if counts else 0.0


@rule(
    "Answers run on another clock: their times are the true ones, all scaled or shifted alike.",
    scale=0.08,
    shift=0.4,
    times=30,
)
def video_clock(seen: Evidence, scale: float, shift: float, times: float) -> Iterator[Finding]:
    """Boundaries inside the video, predicted against true. A policy that is merely wrong errs both ways; a wrong clock
    errs alike everywhere: the spread (quartiles) of the error is then smaller than the error."""
    judged = 0
    for task, pairs in seen.answers("last").items():
        predicted, true = _inner_times(pairs)
        if len(true) < times:
            continue
        judged += 1
        faults = [
            (true, predicted / true - 1.0, scale, "{:+.0%} of the true time"),
            (true, predicted - true, shift, "{:+.2f} s"),
        ]
        for _, error, least, unit in faults:
            low, middle, high = np.percentile(error, [25, 50, 75])
            if abs(middle) > least and high - low < abs(middle) / 2:
                yield Finding(
                    "video_clock",
                    "alarm",
                    task,
                    seen.last_steps,
                    "The answers' clock is not the video's",
                    f"{len(true)} boundaries are off by {unit.format(middle)} in the middle, half of them between {unit.format(low)} and "
                    f"{unit.format(high)} (seen from {unit.format(least)} with half the spread)",
                    "Compare the times that the model is told with the file's: sv6d check RECIPE. Frames that were sampled "
                    "beforehand, sampled twice, or given without their rate shift every time.",
                )
                break
    if not judged:
        raise Unjudged(f"fewer than {times:g} boundaries in recorded answers of any task (sv6d.record_responses)")


def _inner_times(pairs: list[Pair]) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of matched segments that overlap, those at 0 left out: nothing can be told from them."""
    both = [(p, t) for pair in pairs if pair.iou > 0 for p, t in zip(pair.predicted, pair.true, strict=True)]
    table = np.array([(p, t) for p, t in both if t > 0.25], dtype=float).reshape(-1, 2)
    return table[:, 0], table[:, 1]
