"""The model's labels for one shot, each with the confidence that the model's own tokens give it."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..endpoint import Endpoint, Reply, refused
from .questions import Asked, messages


class Answer(NamedTuple):
    """What the model said to one question."""

    labels: dict[str, list[str]]
    """Sub-dimension (or `role`) -> tags."""
    confidence: dict[str, float | None]
    """Sub-dimension -> mean probability of the tokens of its value, from 0 to 1; None where the endpoint gave none."""


def prefill(endpoint: Endpoint, asked: Asked, frames: Sequence[str]) -> Answer:
    """
    Args:
        frames: of the shot, as data URLs.

    Raises:
        EndpointError: no answer, or one with tags beside the vocabulary.
    """
    return read_answer(asked, endpoint.ask(messages(asked, frames), asked.schema, temperature=0.0, logprobs=True))


def read_answer(asked: Asked, reply: Reply) -> Answer:
    """
    Raises:
        EndpointError: a value holds no tag of its vocabulary, or others.
    """
    try:
        labels = {name: _tags(reply.said[name], schema, name) for name, schema in asked.schema["properties"].items()}
    except (TypeError, ValueError) as error:
        raise refused(reply.text, error) from error
    return Answer(labels, confidences(reply.text, list(labels), reply.tokens))


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
