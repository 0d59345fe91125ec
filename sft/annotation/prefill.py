"""The model's labels through an OpenAI-compatible endpoint, each with the confidence that the model's own tokens give it."""

import json
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from .questions import Asked, messages

TRANSIENT = (408, 409, 425, 429)


class Answer(NamedTuple):
    """What the model said to one question."""

    labels: dict[str, list[str]]
    """Sub-dimension (or `role`) -> tags."""
    confidence: dict[str, float | None]
    """Sub-dimension -> mean probability of the tokens of its value, from 0 to 1; None where the endpoint gave none."""


class PrefillError(ValueError):
    """An endpoint that does not answer, or not as it was asked to; the message says what it said."""


class Prefill:
    """A client of one endpoint. Pickled without its connection, so that Ray may send it.

    Raises:
        ModuleNotFoundError: `pip install 'sv6d[annotate]'`.
    """

    def __init__(
        self, url: str, model: str, api_key_env: str = "OPENAI_API_KEY", attempts: int = 4, timeout: float = 120.0
    ):
        self.url, self.model, self.api_key_env = url, model, api_key_env
        self.attempts, self.timeout = attempts, timeout
        self._client: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client": None}

    def ask(self, asked: Asked, frames: Sequence[str]) -> Answer:
        """
        Raises:
            PrefillError: after `attempts`; or an answer that is no JSON of the schema (a decoder that was not held to it).
        """
        import openai
        import tenacity

        if self._client is None:
            key = os.environ.get(self.api_key_env) or "none"
            self._client = openai.OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=self.timeout)
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=tenacity.wait_exponential_jitter(initial=0.2, max=20),
            retry=tenacity.retry_if_exception(_is_transient),
            reraise=True,
        )
        form = {"type": "json_schema", "json_schema": {"name": "labels", "strict": True, "schema": asked.schema}}
        try:
            reply = retrying(
                self._client.chat.completions.create,
                model=self.model,
                messages=messages(asked, frames),
                response_format=form,
                temperature=0.0,
                logprobs=True,
            )
        except openai.OpenAIError as error:
            raise PrefillError(f"{self.url} ({self.model}): {error}") from error
        return read_answer(asked, reply)


def read_answer(asked: Asked, reply: Any) -> Answer:
    """
    Raises:
        PrefillError: the reply is no JSON object with the asked keys and their tags.
    """
    choice = reply.choices[0]
    text = choice.message.content or ""
    try:
        said = json.loads(text)
        labels = {name: _tags(said[name], schema, name) for name, schema in asked.schema["properties"].items()}
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        cut = " (cut off at its token limit)" if choice.finish_reason == "length" else ""
        raise PrefillError(f"{text[:200]!r}{cut} is not the JSON that was asked for: {error}") from error
    tokens = choice.logprobs.content if choice.logprobs else None
    return Answer(labels, confidences(text, list(labels), [(t.token, t.logprob) for t in tokens or []]))


def confidences(text: str, names: Sequence[str], tokens: Sequence[tuple[str, float]]) -> dict[str, float | None]:
    """Mean probability of the tokens that spell each key's value in a JSON object.

    Args:
        tokens: the answer's tokens with their log-probabilities, in order; empty where they are not known.
    """
    if not tokens:
        return dict.fromkeys(names)
    starts, at = [], 0
    for token, _ in tokens:
        starts.append(at)
        at += len(token)
    found = {}
    for name in names:
        begin, end = _value_at(text, name)
        logs = [
            log
            for (token, log), start in zip(tokens, starts, strict=True)
            if start < end and start + len(token) > begin
        ]
        found[name] = math.exp(math.fsum(logs) / len(logs)) if logs else None
    return found


def _value_at(text: str, name: str) -> tuple[int, int]:
    """Where the value of a key of the outermost object stands in its JSON text."""
    begin = text.index(f'"{name}"') + len(name) + 2
    begin += len(text[begin:]) - len(text[begin:].lstrip(" \t\n:"))
    _, end = json.JSONDecoder().raw_decode(text, begin)
    return begin, end


def _tags(value: Any, schema: dict[str, Any], name: str) -> list[str]:
    tags = value if isinstance(value, list) else [value]
    allowed = schema.get("enum") or schema["items"]["enum"]
    if not tags or not all(tag in allowed for tag in tags):
        raise ValueError(f"{name}: {value!r} holds no tag of its vocabulary, or others")
    return list(dict.fromkeys(tags))


def _is_transient(error: BaseException) -> bool:
    import openai

    if isinstance(error, openai.APIStatusError):
        return error.status_code in TRANSIENT or error.status_code >= 500
    return isinstance(error, openai.APIConnectionError)
