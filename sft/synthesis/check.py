"""Every synthesised answer is scored by the rewards that its learner will meet: a true one earns 1, or it is not written.

Scored whole, an answer would cost more than to make it; so it is scored in its parts, each part once for all answers that share
it: the times of a document's answers together, as one localization (L_align), each tag by itself (L_struct), each final answer
by itself (Judge), and the form of each reasoning (Format). Every `AUDITED`-th answer is scored whole as well.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from ...rewards.chain_of_thought import well_formed
from ...rewards.config import RewardConfig
from ...rewards.families import find_family
from ...schema import Taxonomy
from .questions import QA

AUDITED = 50
GOLD = 1.0 - 1e-9


class Checker:
    """Counts what it checked; raises where a synthesised answer does not earn 1."""

    def __init__(self, taxonomy: Taxonomy):
        self.taxonomy, self.config = taxonomy, RewardConfig()
        self.checked = 0
        self._tag_earns, self._answer_earns = cache(self._score_tag), cache(self._score_answer)

    def check(self, qas: Sequence[QA]) -> None:
        """
        Args:
            qas: the questions of one document.

        Raises:
            AssertionError: with the question's kind, its answer and its truth. A mistake of ours, not of a document.
        """
        spans: dict[tuple[float, float], QA] = {}
        for qa in qas:
            self.checked += 1
            if not (self._reasons(qa) if qa.reward == "chain_of_thought" else self._locates(qa, spans)):
                raise _wrong(qa)
            if self.checked % AUDITED == 1 and not self._earns(qa.reward, qa.answer, qa.truth):
                raise _wrong(qa)
        if not self._times_earn(spans):
            raise _wrong(next(qa for span, qa in spans.items() if not self._times_earn([span])))

    def _earns(self, reward: str, answer: str, truth: str) -> bool:
        return find_family(reward).reward(answer, truth, self.taxonomy, self.config)["score"] >= GOLD

    def _reasons(self, qa: QA) -> bool:
        """Whether it is one thought and one answer, and the answer earns 1."""
        final = qa.answer[qa.answer.rfind("<answer>") :]
        return well_formed(qa.answer) and self._answer_earns(final, qa.truth)

    def _locates(self, qa: QA, spans: dict[tuple[float, float], QA]) -> bool:
        """Whether the answer holds the true segments as they are and its labels earn 1; its times are left in `spans`."""
        if qa.answer.rpartition("</think>")[2] != f'{{"segments":{qa.truth}}}':
            return False
        labelled = qa.reward == "temporal_grounding"
        for segment in msgspec.json.decode(qa.truth):
            spans[segment["start"], segment["end"]] = qa
            if labelled and not self._labels_earn(segment["labels"]):
                return False
        return True

    def _labels_earn(self, labels: Mapping[str, Mapping[str, Any]]) -> bool:
        for dimension, subs in labels.items():
            for sub, tags in subs.items():
                if tags.__class__ is str:
                    if not self._tag_earns(dimension, sub, tags):
                        return False
                elif len({*tags}) != len(tags) or not all(self._tag_earns(dimension, sub, tag) for tag in tags):
                    return False
        return bool(labels)

    def _times_earn(self, spans: Iterable[tuple[float, float]]) -> bool:
        truth = msgspec.json.encode([{"start": start, "end": end} for start, end in spans]).decode()
        return self._earns("action_localization", f'{{"segments":{truth}}}', truth)

    def _score_answer(self, final: str, truth: str) -> bool:
        return self._earns("chain_of_thought", f"<think>It is seen.</think>{final}", truth)

    def _score_tag(self, dimension: str, sub: str, tag: str) -> bool:
        segments = msgspec.json.encode([{"start": 0.0, "end": 1.0, "labels": {dimension: {sub: tag}}}]).decode()
        return self._earns("temporal_grounding", f'{{"segments":{segments}}}', segments)


def _wrong(qa: QA) -> AssertionError:
    return AssertionError(f"{qa.kind}: the answer {qa.answer} does not earn 1 against {qa.truth}")
