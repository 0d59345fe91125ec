"""What the rollouts of one prompt have in common, for as long as one of them runs: eight that decode a film, process it and send it
to vLLM each for itself hold its frames and do its work eight times.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any


class Shared:
    """Results by name, each computed once, by the first rollout that asks; the others wait for it. A failure is everybody's."""

    def __init__(self):
        self._results: dict[Any, asyncio.Future] = {}
        self.kept: dict[Any, Any] = {}
        """What is computed without waiting, by a key of its own."""

    async def get(self, name: str, compute: Callable[[], Awaitable[Any]]) -> Any:
        if name not in self._results:
            self._results[name] = asyncio.ensure_future(compute())
        return await asyncio.shield(self._results[name])  # a rollout that is cancelled takes nothing from the others


_of_prompt: ContextVar[Shared | None] = ContextVar("sv6d_shared", default=None)


def begin() -> None:
    """A prompt's rollouts begin: all tasks that are created from here on, in this context, share."""
    _of_prompt.set(Shared())


def shared() -> Shared:
    """What the running prompt's rollouts share; nothing with anybody, where no prompt began."""
    return _of_prompt.get() or Shared()
