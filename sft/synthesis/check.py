"""Every synthesised answer is scored by the reward that its learner will meet: a true one earns 1, or it is not written.

A grounding answer is scored in its parts, because whole it would cost more than to make it: its times as a localization
(L_align), each of its labels by itself (L_struct), once for all answers that share it. Every `AUDITED`-th is scored whole.
"""

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

import msgspec

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
        self._label_earns = cache(self._score_label)
        self._times_earn = lru_cache(4096)(self._score_times)  # questions of one document share its shots

    def check(self, qa: QA) -> None:
        """
        Raises:
            AssertionError: with the question's kind, its answer and its truth. A mistake of ours, not of a document.
        """
        self.checked += 1
        whole = qa.reward != "temporal_grounding" or self.checked % AUDITED == 1
        if not (self._earns(qa.reward, qa.answer, qa.truth) if whole else self._in_parts(qa)):
            raise AssertionError(f"{qa.kind}: the answer {qa.answer} does not earn 1 against {qa.truth}")

    def _earns(self, reward: str, answer: str, truth: str) -> bool:
        return find_family(reward).reward(answer, truth, self.taxonomy, self.config)["score"] >= GOLD

    def _in_parts(self, qa: QA) -> bool:
        """Whether the answer holds the true segments as they are, and their times and labels earn 1."""
        if qa.answer.rpartition("</think>")[2] != f'{{"segments":{qa.truth}}}':
            return False
        segments = msgspec.json.decode(qa.truth)
        return self._times_earn(*((s["start"], s["end"]) for s in segments)) and all(
            self._labels_earn(segment["labels"]) for segment in segments
        )

    def _labels_earn(self, labels: Mapping[str, Mapping[str, Any]]) -> bool:
        return bool(labels) and all(
            self._label_earns(dimension, sub, tuple(tags) if isinstance(tags, list) else tags)
            for dimension, subs in labels.items()
            for sub, tags in subs.items()
        )

    def _score_times(self, *spans: tuple[float, float]) -> bool:
        truth = msgspec.json.encode([{"start": start, "end": end} for start, end in spans]).decode()
        return self._earns("action_localization", f'{{"segments":{truth}}}', truth)

    def _score_label(self, dimension: str, sub: str, tags: str | tuple[str, ...]) -> bool:
        segments = msgspec.json.encode([{"start": 0.0, "end": 1.0, "labels": {dimension: {sub: tags}}}]).decode()
        return self._earns("temporal_grounding", f'{{"segments":{segments}}}', segments)
