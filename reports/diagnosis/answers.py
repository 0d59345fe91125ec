"""Rules on what the answers say, read from the recorded texts: labels that fell to one tag, times on another clock."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain

import numpy as np
import pandas as pd
from scipy.stats import entropy

from ...rewards.rescoring.explain_segments import Segments
from .evidence import Evidence
from .finding import Finding, Unjudged, rule

FOLLOWS = 0.7  # correlation from which answers' times are said to follow the true ones


@rule(
    "Labels fall to a constant tag: one tag for everything, whatever the shot shows.",
    share=0.9,
    entropy_share=0.25,
    tags=20,
)
def constant_tag(seen: Evidence, share: float, entropy_share: float, tags: float) -> Iterator[Finding]:
    """Entropy of the tags of a sub-dimension in the last third of the run, against that of the true ones."""
    last = _tags(seen.last_answers)
    if not any(said.total() >= tags for said, _ in last.values()):
        raise Unjudged(f"fewer than {tags:g} recorded answers with labels in the last third (sv6d.record_responses)")
    first = _tags(seen.first_answers)
    for (task, name), (said, true) in last.items():
        said_bits, true_bits = _bits(said), _bits(true)
        ((tag, count),) = said.most_common(1) or [("", 0)]
        often = count / max(said.total(), 1)
        if said.total() >= tags and often > share and said_bits < entropy_share * true_bits:
            before = f"{_bits(first[task, name][0]):.2f} -> " if (task, name) in first else ""
            yield Finding(
                "constant_tag",
                "warning",
                task,
                seen.last_third,
                f"{name} is {'always' if count == said.total() else 'nearly always'} {tag!r}",
                f"{often:.0%} of the answers, {true[tag] / true.total():.0%} of the truth; "
                f"label entropy {before}{said_bits:.2f} bits, true {true_bits:.2f} "
                f"(seen from {share:.0%} and below {entropy_share:.0%} of the true entropy)",
                "A tag in the middle of its scale earns part of Label for every shot. Rows that are balanced over the tags, a "
                "larger w_k for this dimension, or rewards.mode/distances under which the mean tag does not pay.",
            )


def _tags(answers: dict[str, list[Segments]]) -> dict[tuple[str, str], tuple[Counter, Counter]]:
    """(task, sub-dimension) -> how often each tag was said, and was true, in matched segments."""
    counts: dict = defaultdict(lambda: (Counter(), Counter()))
    for task, found in answers.items():
        for pair in chain.from_iterable(answer.pairs for answer in found):
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
    """The boundaries of answers with the right number of segments, in their order, against the true ones: paired by overlap
    a clock that runs at half the speed would meet the wrong shots. A policy that is merely wrong errs both ways, or says the
    same of every video; a clock that is wrong follows the truth, and put right it leaves less than a third of the error."""
    judged = 0
    for task, answers in seen.last_answers.items():
        predicted, true, place = _boundaries(answers)
        if len(true) < times:
            continue
        judged += 1
        late = true >= np.median(true)  # an error of a frame says little of the speed where the time is short
        factor, offset = float(np.median(predicted[late] / true[late])), float(np.median(predicted - true))
        error, scaled, shifted = (np.median(abs(predicted - put)) for put in (true, factor * true, true + offset))
        kinds = [
            (scaled, abs(factor - 1.0) > scale, f"{factor - 1.0:+.0%} of the true time", scale),
            (shifted, abs(offset) > shift, f"{offset:+.2f} s", shift),
        ]
        left, wrong, off, least = min(kinds)
        if wrong and left < error / 3 and _follows(predicted, true, place):
            yield Finding(
                "video_clock",
                "alarm",
                task,
                seen.last_third,
                "The answers' clock is not the video's",
                f"{len(true)} boundaries are off by {off} ({error:.2f} s in the middle, {left:.2f} s without it; seen from {least:g})",
                "Compare the times that the model is told with the file's: sv6d check RECIPE. Frames that were sampled "
                "beforehand, sampled twice, or given without their rate shift every time.",
            )
    if not judged:
        raise Unjudged(f"fewer than {times:g} boundaries in recorded answers of any task (sv6d.record_responses)")


def _boundaries(answers: list[Segments]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted and true starts and ends, those that are truly at 0 left out (nothing can be told from them), and a number
    for the place of each: the same in answers of as many segments."""
    rows = []
    for answer in answers:
        predicted = sorted(
            [*(pair.predicted for pair in answer.pairs), *(lone.times for lone in answer.unmatched_predicted)]
        )
        true = sorted([*(pair.true for pair in answer.pairs), *(lone.times for lone in answer.unmatched_true)])
        if len(predicted) == len(true) and not answer.unusable:
            both = zip(np.ravel(predicted), np.ravel(true), strict=True)
            rows += [(p, t, 1000 * len(true) + i) for i, (p, t) in enumerate(both) if t > 0.25]
    table = np.array(rows, dtype=float).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _follows(predicted: np.ndarray, true: np.ndarray, place: np.ndarray) -> bool:
    """Whether answers differ where the truth does: their times correlate within the places."""
    table = pd.DataFrame({"predicted": predicted, "true": true})
    apart = table - table.groupby(place).transform("mean")
    return bool(apart["predicted"].corr(apart["true"]) > FOLLOWS)
