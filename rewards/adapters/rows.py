"""What the adapters share: rows that are always scored, as the manager in verl does it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ..async_scorer import AsyncScorer
from ..completions import response_text
from ..flagged import flagged, refuse_mask
from ..judging.health import JudgeStopped
from ..score import Score


class RowScorer:
    """Scores rows as they come; one that cannot be scored earns 0, is flagged `failed`, and each kind is logged once.

    Args:
        settings: as `AsyncScorer` takes them: the fields of `RewardConfig`, `taxonomy`, `judge`, `time_limit`.
        task: the task of every row; None: each row names its own.
        outlive_judge: whether the fallback goes on where the judge failed too often, instead of JudgeStopped.

    Raises:
        RewardConfigError, TaxonomyError, PluginError: a wrong setting, before anything is scored.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None, task: str | None = None, outlive_judge: bool = False):
        self._scorer = AsyncScorer(settings, outlive_judge=outlive_judge)
        refuse_mask(self._scorer, "use one of sv6d's verl trainers")
        self._task = task

    async def score(self, task: Any, completion: Any, ground_truth: Any) -> Score:
        """The score of one row.

        Args:
            completion: the text, or the messages of a conversation, see `response_text`.

        Raises:
            JudgeStopped: the judge failed too often.
        """
        task = self._task or task
        try:
            return await self._scorer.score(task, response_text(completion), ground_truth)
        except JudgeStopped:
            raise
        except Exception as error:
            return flagged(error, task)

    async def score_all(
        self, tasks: Sequence[Any] | None, completions: Sequence[Any], ground_truths: Sequence[Any] | None
    ) -> list[Score]:
        """The scores of a batch; a column that the data set lacks is None, and flags every row."""
        tasks = [None] * len(completions) if tasks is None else tasks
        ground_truths = [None] * len(completions) if ground_truths is None else ground_truths
        rows = zip(tasks, completions, ground_truths, strict=True)
        return await asyncio.gather(*(self.score(*row) for row in rows))
