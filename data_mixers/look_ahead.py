"""Rows are looked at before they are drawn, while the step before trains: a file that is slow, or hangs, then costs no time."""

import os
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread, current_thread
from typing import Any

LAST_LOOK_SECONDS = 10.0
"""How long a process that ends waits for the look under way, whose file may hang."""


class LookAhead:
    """`look(index)` of each index once, in order, on one thread.

    It travels to other processes, and survives a fork, without its thread and with what was found. A process that ends does
    not wait for the looks that are left, which may be a step's.
    """

    def __init__(self, look: Callable[[int], Any]):
        self._look = look
        self._looks: dict[int, Future] = {}
        self._waiting: SimpleQueue | None = None
        self._process = os.getpid()

    def begin(self, indices: Iterable[int]) -> None:
        """Look at these when there is time."""
        if self._process != os.getpid():  # a fork, which has no threads
            self.__setstate__(self.__getstate__())
        for index in indices:
            if index not in self._looks:
                self._looks[index] = Future()
                self._waiting = self._waiting or self._start()
                self._waiting.put((self._look, index, self._looks[index]))

    def _start(self) -> SimpleQueue:
        waiting = SimpleQueue()
        thread = Thread(target=_work, args=(waiting,), name="sv6d-look-ahead", daemon=True)
        thread.start()
        weakref.finalize(self, _end, waiting, thread)  # the thread holds the queue alone
        return waiting

    def result(self, index: int) -> Any:
        """What the look at an index found; now, if it has not begun."""
        self.begin([index])
        return self._looks[index].result()

    def __getstate__(self) -> dict[str, Any]:
        found = {index: look.result() for index, look in self._looks.items() if look.done() and not look.exception()}
        return {"look": self._look, "found": found}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["look"])
        for index, value in state["found"].items():
            self._looks[index] = Future()
            self._looks[index].set_result(value)


def _end(waiting: SimpleQueue, thread: Thread) -> None:
    """Leave the looks that are left, and wait for the one under way: a thread that the end of a process meets inside torch aborts it."""
    with suppress(Empty):
        while True:
            waiting.get_nowait()
    waiting.put(None)
    if thread is not current_thread():
        thread.join(LAST_LOOK_SECONDS)


def _work(waiting: SimpleQueue) -> None:
    while (job := waiting.get()) is not None:
        look, index, found = job
        try:
            found.set_result(look(index))
        except BaseException as error:  # it is for who asks
            found.set_exception(error)
        del job, look, found  # what holds the dataset, while nothing waits
