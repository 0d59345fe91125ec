"""A model behind an OpenAI-compatible endpoint (vLLM), asked for JSON that its decoder is held to: what annotation (3.1.2) and
synthesis (3.1.3) both need of one."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

TRANSIENT = (408, 409, 425, 429)


class Reply(NamedTuple):
    """What the model said."""

    text: str
    said: dict[str, Any]
    """The text as JSON."""
    tokens: tuple[tuple[str, float], ...]
    """Its tokens with their log-probabilities, in order; empty where they were not asked for, or are not given."""


class EndpointError(ValueError):
    """An endpoint that does not answer, or not as it was asked to; the message says what it said."""


class Endpoint:
    """A client of one endpoint and model; threads may share it. Pickled without its connection, so that Ray may send it.

    Raises:
        ImportError: openai or tenacity are missing; the message says what to install.
    """

    def __init__(
        self, url: str, model: str, api_key_env: str = "OPENAI_API_KEY", attempts: int = 4, timeout: float = 120.0
    ):
        _require_libraries()
        self.url, self.model, self.api_key_env = url, model, api_key_env
        self.attempts, self.timeout = attempts, timeout
        self._client: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client": None}

    def ask(self, messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any], **parameters: Any) -> Reply:
        """
        Args:
            schema: JSON schema of the answer, an object.
            parameters: of the request: `temperature`, `seed`, `logprobs`...

        Raises:
            EndpointError: after `attempts`; or an answer that is no object with the required keys (a decoder that was not
                held to the schema, or a token limit).
        """
        import openai
        import tenacity

        if self._client is None:
            key = os.environ.get(self.api_key_env) or "none"
            self._client = openai.OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=self.timeout)
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=tenacity.wait_random_exponential(multiplier=0.4, max=20),
            retry=tenacity.retry_if_exception(_is_transient),
            reraise=True,
        )
        form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
        try:
            reply = retrying(
                self._client.chat.completions.create,
                model=self.model,
                messages=messages,
                response_format=form,
                **parameters,
            )
        except openai.OpenAIError as error:
            raise EndpointError(f"{self.url} ({self.model}): {error}") from error
        return _read(reply, schema)


def object_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """JSON schema of an object with these keys, all of them and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def refused(text: str, why: object) -> EndpointError:
    """The error of an answer that was not asked for."""
    return EndpointError(f"{text[:200]!r} is not the JSON that was asked for: {why}")


def _read(reply: Any, schema: Mapping[str, Any]) -> Reply:
    choice = reply.choices[0]
    text = choice.message.content or ""
    cut = "it was cut off at its token limit; " if choice.finish_reason == "length" else ""
    try:
        said = json.loads(text)
        missing = [name for name in schema["required"] if name not in said]
    except (json.JSONDecodeError, TypeError) as error:
        raise refused(text, f"{cut}{error}") from error
    if missing or not isinstance(said, dict):
        raise refused(text, f"{cut}{missing[0]!r} is missing" if missing else "it is no object")
    tokens = choice.logprobs.content if choice.logprobs else None
    return Reply(text, said, tuple((token.token, token.logprob) for token in tokens or ()))


def _is_transient(error: BaseException) -> bool:
    import openai

    if isinstance(error, openai.APIStatusError):
        return error.status_code in TRANSIENT or error.status_code >= 500
    return isinstance(error, openai.APIConnectionError)


def _require_libraries() -> None:
    try:
        import openai  # noqa: F401
        import tenacity  # noqa: F401
    except ImportError as error:
        raise ImportError(f"asking a model needs {error.name}; pip install 'sv6d[annotate]'") from error
