"""Where each point of a reward went: the losses of one response, which sum to 1 - score (Table 4, eq. 5-10).

Everything here is plain data; `explain_text.py` draws it.
"""

import re
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from ...schema import Taxonomy
from ...schema.answer import TAGS, answer_text
from ...schema.ground_truth import read_true_answer
from .. import action_localization, chain_of_thought, ocr, temporal_grounding
from ..config import RewardConfig
from ..families import find_family
from ..score import Score
from .explain_segments import Loss, Segments, explain_segments
from .rollouts import Rollout


class Edit(NamedTuple):
    """A run of characters that differ, or, with `kind` "equal", that do not."""

    kind: str
    """`equal`, `replace`, `insert` (true text that the answer lacks) or `delete` (text that only the answer has)."""
    answer: str
    truth: str


class Judged(NamedTuple):
    """What the judge compared."""

    answer: str
    truth: str


class Explanation(NamedTuple):
    """One scored response and where its points went."""

    rollout: Rollout
    score: Score
    losses: tuple[Loss, ...]
    """Their points sum to 1 - score."""
    segments: Segments | None = None
    edits: tuple[Edit, ...] = ()
    judged: Judged | None = None
    unread: str = ""
    """Why nothing of the response could be read; empty where something was."""


def explain(rollout: Rollout, score: Score, taxonomy: Taxonomy, config: RewardConfig) -> Explanation:
    """Where the points of one rollout went, whose score under that taxonomy and config is `score`."""
    task, response, truth = rollout.task, rollout.response, rollout.ground_truth
    reward = find_family(task).reward
    if reward in (temporal_grounding.reward, action_localization.reward):
        labelled = reward is temporal_grounding.reward
        segments = explain_segments(response, truth, taxonomy, config, labelled)
        return Explanation(rollout, score, segments.losses, segments=segments, unread=segments.unread)
    if reward is ocr.reward:
        return _explain_ocr(rollout, score)
    if reward is chain_of_thought.reward:
        return _explain_reasoning(rollout, score, config)
    losses = (Loss("score", 1.0 - score.value, f"{task} is a family of another package, which scores as a whole"),)
    return Explanation(rollout, score, losses[: score.value < 1.0])


def _explain_ocr(rollout: Rollout, score: Score) -> Explanation:
    """Each edit of the Levenshtein distance costs one character of the longer text."""
    answer = answer_text(rollout.response)
    if answer is None:
        why = "a <think> is still open: there is no answer"
        return Explanation(rollout, score, (Loss("similarity", 1.0, why),), unread=why)
    answer, truth, excess = ocr.compared_texts(answer, rollout.ground_truth)
    longer = max(len(answer), len(truth)) + excess
    losses, edits = [], []
    for kind, i, i_end, j, j_end in Levenshtein.opcodes(answer, truth):
        edits.append(Edit(kind, answer[i:i_end], truth[j:j_end]))
        if kind != "equal":
            losses.append(Loss("similarity", max(i_end - i, j_end - j) / longer, _said(edits[-1])))
    if excess:
        losses.append(Loss("similarity", excess / longer, f"{excess} characters beyond what is compared"))
    return Explanation(rollout, score, tuple(losses), edits=tuple(edits))


def _said(edit: Edit) -> str:
    if edit.kind == "insert":
        return f"missing {edit.truth!r}"
    return f"added {edit.answer!r}" if edit.kind == "delete" else f"{edit.answer!r} for {edit.truth!r}"


def _explain_reasoning(rollout: Rollout, score: Score, config: RewardConfig) -> Explanation:
    weights, components = config.chain_of_thought, score.components
    whole = weights.format + weights.judge
    judged = Judged((answer_text(rollout.response) or "").strip(), read_true_answer(rollout.ground_truth))
    verdict = "there is no answer to judge" if not judged.answer else f"the judge gave {components['judge']:.3f}"
    if components["failed"]:
        verdict += ", in place of the one that failed"
    losses = (
        Loss("format", weights.format / whole * (1.0 - components["format"]), form_fault(rollout.response) or ""),
        Loss("judge", weights.judge / whole * (1.0 - components["judge"]), verdict),
    )
    return Explanation(rollout, score, tuple(loss for loss in losses if loss.points), judged=judged)


def form_fault(response: str) -> str | None:
    """Why a response is not one think and then one answer; None where it is."""
    if chain_of_thought.well_formed(response):
        return None
    for tag in TAGS:
        if response.count(tag) != 1:
            return f"{tag} stands there {response.count(tag)} times, not once"
    form = re.fullmatch(r"(.*)<think>(.*)</think>(.*)<answer>(.*)</answer>(.*)", response, re.DOTALL)
    if not form:
        return "the tags are not in the order <think></think><answer></answer>"
    for place, text in zip(
        ("before <think>", "between think and answer", "after </answer>"), form.group(1, 3, 5), strict=True
    ):
        if text.strip():
            return f"text {place}: {text.strip()[:60]!r}"
    return f"the {'answer' if form[2].strip() else 'think'} is empty"
