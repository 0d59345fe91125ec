"""The judge as a model behind any OpenAI-compatible endpoint: `pip install 'sv6d[judge]'`.

It sees the final answer alone, is asked for a structured verdict, and may fail: then the answer takes the configured
fallback, flagged, and a judge that fails too often stops the run (`health.py`).
"""

import asyncio
import os
import secrets
import threading
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from math import nan
from random import uniform
from typing import Any

import msgspec

from ...schema.answer import says_something
from .config import JudgeConfig
from .health import JudgeHealth
from .prompt import messages, tame
from .rules import rule_judge_async
from .verdicts import Verdict, read_verdict, response_format

MAX_BACKOFF = 30.0  # seconds
_BUSY = {408, 409, 425, 429}


class EndpointJudge:
    """A judge to be awaited (`verdict_async`) or called (`verdict`, or `judge(answer, truth)` for the value alone).

    All requests run on an event loop in a thread of the judge's own, so one judge serves every thread and loop of a
    process, within its `concurrency`.
    """

    def __init__(self, config: JudgeConfig):
        """
        Args:
            config: with url and model.

        Raises:
            RewardConfigError: url or model is missing.
            ImportError: says what to install.
        """
        config = config.served(None, None)
        _require_libraries(config)
        self.config = config
        self.health = JudgeHealth(config)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner = 0
        self._cache = _open_cache(config.cache)

    def __call__(self, answer: str, truth: str) -> float:
        """The value of `verdict`, in [0, 1]; NaN for a failure whose fallback is `mask`."""
        return self.verdict(answer, truth).value

    def verdict(self, answer: str, truth: str) -> Verdict:
        """The verdict on an answer; a failure of the judge gives the fallback's, flagged.

        Raises:
            JudgeStopped: the judge failed too often.
        """
        return self._submit(answer, truth).result()

    async def verdict_async(self, answer: str, truth: str) -> Verdict:
        """`verdict`, awaited from any event loop."""
        return await asyncio.wrap_future(self._submit(answer, truth))

    async def fallback(self, answer: str, truth: str) -> Verdict:
        """What an answer gets when the judge fails."""
        if self.config.fallback == "exact":
            return Verdict(await rule_judge_async(answer, truth), failed=True)
        return Verdict(0.0 if self.config.fallback == "zero" else nan, failed=True)

    def close(self) -> None:
        """End the judge's thread and connections. Verdicts that are still awaited are cancelled."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._close(loop), loop).result()
            loop.call_soon_threadsafe(loop.stop)

    def _submit(self, answer: str, truth: str) -> Future[Verdict]:
        with self._lock:
            if self._loop is None or self._owner != os.getpid():  # a thread does not survive a fork
                self._start()
            return asyncio.run_coroutine_threadsafe(self._verdict(answer, truth), self._loop)

    def _start(self) -> None:
        import openai

        self._loop, self._owner = asyncio.new_event_loop(), os.getpid()
        self._slots = asyncio.Semaphore(self.config.concurrency)
        self._running: dict[str, asyncio.Future[Verdict]] = {}
        key = os.environ.get(self.config.api_key_env) or "none"
        self._client = openai.AsyncOpenAI(base_url=self.config.url, api_key=key, max_retries=0)
        threading.Thread(target=_run, args=[self._loop], name="sv6d-judge", daemon=True).start()

    async def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        others = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    async def _verdict(self, answer: str, truth: str) -> Verdict:
        if not says_something(answer):
            return Verdict(0.0)
        shown = tame(answer, self.config.max_characters)
        key = self._key(shown, truth)
        if (known := self._recall(key)) is not None:
            return Verdict(known)
        if key not in self._running:  # rollouts of a prompt often answer alike: one question for all of them
            self._running[key] = asyncio.ensure_future(self._judge(key, shown, answer, truth))
            self._running[key].add_done_callback(lambda _: self._running.pop(key))
        return await asyncio.shield(self._running[key])

    async def _judge(self, key: str, shown: str, answer: str, truth: str) -> Verdict:
        async with self._slots:
            self.health.require()
            value, fault = await self._ask(shown, truth)
        self.health.record(fault)
        if fault is not None:
            return await self.fallback(answer, truth)
        self._remember(key, value)
        return Verdict(value)

    async def _ask(self, shown: str, truth: str) -> tuple[float, None] | tuple[None, str]:
        """(value, None), or (None, why there is none)."""
        import tenacity

        tries = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self.config.attempts),
            retry=tenacity.retry_if_exception(self._is_passing),
            wait=self._wait,
            reraise=True,
        )
        limit = asyncio.timeout(self.config.total_seconds)
        try:
            async with limit:
                return await tries(self._request, shown, truth), None
        except Exception as error:  # whatever it is, it is no fault of the answer
            if limit.expired():
                return None, f"no verdict within {self.config.total_seconds:g} s"
            return None, f"{type(error).__name__}: {error}"

    async def _request(self, shown: str, truth: str) -> float:
        config = self.config
        chat = messages(config.rubric, config.prompt, answer=shown, truth=truth, nonce=secrets.token_hex(16))
        try:
            async with asyncio.timeout(config.request_seconds):
                reply = await self._client.chat.completions.create(
                    model=config.model,
                    messages=chat,
                    response_format=response_format(config.grades),
                    extra_body=dict(config.parameters),
                    timeout=config.request_seconds,
                )
        except TimeoutError:
            raise TimeoutError(f"no reply within {config.request_seconds:g} s") from None
        return read_verdict(reply)

    def _is_passing(self, error: BaseException) -> bool:
        """Whether another try may help: time-outs, transport faults, 429 and its like, 5xx."""
        import openai

        if isinstance(error, openai.APIStatusError):
            passing = error.status_code in _BUSY or error.status_code >= 500
            return passing and (_retry_after(error) or 0.0) < self.config.total_seconds
        return isinstance(error, TimeoutError | openai.APIConnectionError)

    def _wait(self, state: Any) -> float:
        """Seconds before the next try: what the endpoint asks for, else random below a bound that doubles."""
        backoff = min(self.config.backoff_seconds * 2 ** (state.attempt_number - 1), MAX_BACKOFF)
        asked = _retry_after(state.outcome.exception())
        return uniform(0.0, backoff) if asked is None else asked + uniform(0.0, self.config.backoff_seconds)

    def _key(self, shown: str, truth: str) -> str:
        config = self.config
        parts = (config.model, config.prompt, config.rubric, config.grades, dict(config.parameters), shown, truth)
        return sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()

    def _recall(self, key: str) -> float | None:
        return None if self._cache is None else self._cache.get(key)

    def _remember(self, key: str, value: float) -> None:
        if self._cache is not None:
            import diskcache

            with suppress(diskcache.Timeout):  # another process holds the file: then it is asked again one day
                self._cache.set(key, value)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _retry_after(error: BaseException | None) -> float | None:
    """The seconds that an endpoint asks to wait (a number or a date, as HTTP has it), or None."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    value = headers.get("retry-after")
    if value is None:
        return None
    with suppress(ValueError):
        return max(0.0, float(value))
    with suppress(ValueError, TypeError):
        date = parsedate_to_datetime(value)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    return None


def _open_cache(folder: str | None) -> Any:
    if folder is None:
        return None
    import diskcache

    return diskcache.Cache(folder)


def _require_libraries(config: JudgeConfig) -> None:
    try:
        import openai  # noqa: F401
        import tenacity  # noqa: F401

        if config.cache is not None:
            import diskcache  # noqa: F401
    except ImportError as error:
        raise ImportError(f"the judge needs {error.name}; pip install 'sv6d[judge]'") from error
