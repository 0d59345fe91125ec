"""Functions that may be slow, in a process that can be ended: other packages' reward families, and `math-verify`.

A worker is a plain Python process that takes one picklable call after another over a pipe. Its clock starts when the
call's imports are done; when the time is up it is killed, and the next call gets a new one. `multiprocessing` is not
used on purpose: its children run the main script again (a training script without a main guard would start twice), and
it refuses to work in daemonic processes. The kernel's alarm ends a worker whose parent was killed in the meantime.
"""

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection, Pipe
from pkgutil import resolve_name
from typing import Any

START_SECONDS = 120.0
"""What starting a worker and importing a call's modules may take; it does not count against the call."""
WORKERS = 2
"""How many calls of a process run at the same time; others wait for their turn, which does not count either."""
_GRACE = 1.0  # seconds between the parent's limit and the kernel's alarm


class TimeLimitError(Exception):
    """A call was ended because its time was up."""


class NotReadyError(TimeLimitError):
    """A call's process did not start, or import what the call needs, in time: the call itself had not begun."""


class WorkerDiedError(Exception):
    """The process of a call ended by itself: out of memory, a crash in native code, or an exit."""


def run(function: Callable | str, *arguments: Any, seconds: float) -> Any:
    """`function(*arguments)` in a worker; function, arguments and result must be picklable.

    A function may be given by its name, `module:function`: then the worker alone imports that module.

    Raises:
        TimeLimitError: it took longer than `seconds`; its process is gone.
        WorkerDiedError: its process died.
        Exception: whatever the function raised.
    """
    return _shared().submit(function, *arguments, seconds=seconds).result()


async def run_async(function: Callable | str, *arguments: Any, seconds: float) -> Any:
    """`run`, without blocking the event loop. A cancelled call that waits for its turn is dropped."""
    return await asyncio.wrap_future(_shared().submit(function, *arguments, seconds=seconds))


class WorkerPool:
    """Some threads, each with a worker of its own, which is started at its first call."""

    def __init__(self, workers: int = WORKERS):
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="sv6d-limits")
        self._mine = threading.local()

    def submit(self, function: Callable | str, *arguments: Any, seconds: float) -> Future:
        """A future of `function(*arguments)`, as `run` describes it."""
        return self._threads.submit(self._call, pickle.dumps((function, arguments, seconds)), function, seconds)

    def close(self) -> None:
        """Drop what waits, let what runs finish, and end the workers."""
        self._threads.shutdown(cancel_futures=True)
        self._mine = threading.local()  # a worker without its pipe exits

    def _call(self, request: bytes, function: Callable | str, seconds: float) -> Any:
        worker = getattr(self._mine, "worker", None) or _Worker()
        self._mine.worker = None
        try:
            done, value = worker.call(request, seconds)
        except TimeoutError as error:
            raise TimeLimitError(f"{_name(function)} was ended: {error}") from None
        except (EOFError, OSError):
            raise WorkerDiedError(f"the process of {_name(function)} died") from None
        finally:
            if worker.idle:
                self._mine.worker = worker
            else:
                worker.kill()
        if not done:
            raise value
        return value


class _Worker:
    def __init__(self):
        self._pipe, theirs = Pipe()
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", f"from {__name__} import _serve; _serve({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,  # whatever the call starts itself is killed with it
            )
        self._parent = os.getpid()
        self.idle = True

    def call(self, request: bytes, seconds: float) -> tuple[bool, Any]:
        """(True, result) or (False, exception). Raises TimeoutError, NotReadyError, EOFError or OSError; `idle` is then False."""
        self.idle = False
        self._pipe.send_bytes(request)
        if not self._pipe.poll(START_SECONDS):
            raise NotReadyError(
                f"a process for the call was not ready within {START_SECONDS:g} s; the machine, or the disk that Python lies on, "
                "is too slow or too busy"
            )
        self._pipe.recv_bytes()
        if not self._pipe.poll(seconds):
            raise TimeoutError(f"it took more than {seconds:g} s")
        reply = self._pipe.recv()
        self.idle = True
        return reply

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._pipe.close()

    def __del__(self):
        if self._process.returncode is None and os.getpid() == self._parent:  # not in a fork of it
            self.kill()


def _serve(pipe: int) -> None:
    """The life of a worker: one call after another, until nobody is at the other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(pipe)
    with suppress(EOFError, OSError):
        while True:
            connection.send_bytes(_answer(connection, connection.recv_bytes()))


def _answer(connection: Connection, request: bytes) -> bytes:
    try:
        function, arguments, seconds = pickle.loads(request)
        if isinstance(function, str):
            function = resolve_name(function)
        connection.send_bytes(b"")  # imported: the clock starts
    except Exception as error:
        connection.send_bytes(b"")
        return _pickled_error(error)
    signal.setitimer(signal.ITIMER_REAL, seconds + _GRACE)
    try:
        return pickle.dumps((True, function(*arguments)))
    except BaseException as error:  # SystemExit too: the worker goes on
        return _pickled_error(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _pickled_error(error: BaseException) -> bytes:
    if not isinstance(error, Exception):
        error = RuntimeError(repr(error))
    try:
        pickled = pickle.dumps((False, error))
        pickle.loads(pickled)
        return pickled
    except Exception:  # an exception that cannot travel, e.g. one with arguments of its own
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))


def _name(function: Callable | str) -> str:
    return function if isinstance(function, str) else getattr(function, "__qualname__", repr(function))


@cache
def _shared() -> WorkerPool:
    return WorkerPool()


os.register_at_fork(after_in_child=_shared.cache_clear)  # threads do not survive a fork
