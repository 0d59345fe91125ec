"""Compute once, use G times: the G rollouts of a prompt share its decoded media and the processor's output."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from functools import partial
from threading import Lock
from typing import Any


class Memo:
    """Values by key, each computed once even when asked for at the same time; the least recently used are dropped first.

    Args:
        capacity: bytes of tensors, arrays and images to hold.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.held = 0
        self._entries: OrderedDict[Hashable, Future] = OrderedDict()
        self._lock = Lock()

    def begin(
        self, key: Hashable, compute: Callable[[], Any], run: Callable[[Callable[[], None]], Any] | None = None
    ) -> Future:
        """The future of `compute()`, which runs here and now or where `run` (say, a pool's submit) takes it.

        A failure reaches everyone who waits for it and is then forgotten: the next call computes again.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
                return entry
            entry = self._entries[key] = Future()
        job = partial(self._fill, key, entry, compute)
        job() if run is None else run(job)
        return entry

    def _fill(self, key: Hashable, entry: Future, compute: Callable[[], Any]) -> None:
        try:
            value = compute()
        except BaseException as error:
            with self._lock:
                self._entries.pop(key, None)
            entry.set_exception(error)
            return
        entry.set_result(value)
        with self._lock:
            self.held += _nbytes(value)
            while self.held > self.capacity and (oldest := self._oldest_done()) is not None:
                self.held -= _nbytes(self._entries.pop(oldest).result())

    def _oldest_done(self) -> Hashable | None:
        return next((key for key, entry in self._entries.items() if entry.done()), None)


def _nbytes(value: Any) -> int:
    if isinstance(value, Mapping):  # a processor's output is no dict
        return sum(map(_nbytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_nbytes, value))
    if hasattr(value, "getbands"):  # PIL
        return value.width * value.height * len(value.getbands())
    return getattr(value, "nbytes", 0)
