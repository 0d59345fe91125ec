"""Dynamic sampling (DAPO, arXiv 2503.14476, section 3.2), within limits: groups whose samples all earn the same teach nothing
and give way to other rows of their task, but a task that is solved, or hopeless, is not rolled out for ever.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping

logger = logging.getLogger(__name__)


class GroupFilter:
    """How many groups of each task may be taken out in a step: `batches` times what the step requests of it.

    Attributes:
        taken: groups taken out since the last step, by task.
        passed: groups that would have been taken out, and train as they are, since the last report; by task.
    """

    def __init__(self, batches: int):
        self.batches = batches
        self.taken: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()
        self._said: set[str] = set()

    def beyond(self, groups: Iterable[str], task_of: Mapping[str, str], requested: Mapping[str, int]) -> set[str]:
        """Those of `groups`, in the order of their dispatch, that a step which requests so much of each task lets through.
        Asked again before they are taken out, the answer is the same."""
        through, counted = set(), Counter(self.taken)
        for group in groups:
            task = task_of[group]
            if counted[task] < self.batches * max(requested.get(task, 0), 1):
                counted[task] += 1
            else:
                through.add(group)
        return through

    def let_through(self, tasks: Iterable[str]) -> None:
        """Groups of these tasks train although they teach nothing."""
        self.passed.update(tasks)
        for task in self.passed.keys() - self._said:
            self._said.add(task)
            logger.warning(
                "for one step %d groups of %r that taught nothing were replaced; it takes the others as they are (said once a "
                "task; sv6d/unfiltered_groups counts them)",
                self.taken[task],
                task,
            )

    def take(self, tasks: Iterable[str]) -> None:
        """Groups of these tasks are taken out."""
        self.taken.update(tasks)

    def next_step(self) -> None:
        """A step is complete: the limits begin anew."""
        self._reported += self.taken
        self.taken.clear()

    def report(self) -> tuple[Counter[str], Counter[str]]:
        """Groups taken out for steps that are complete, and groups let through, since the last report; by task."""
        report = self._reported, self.passed
        self._reported, self.passed = Counter(), Counter()
        return report
