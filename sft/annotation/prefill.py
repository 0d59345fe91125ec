"""The model's labels for one shot, each with the confidence that the model's own tokens give it."""

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..endpoint import Endpoint, Reply, refused
from .questions import Asked, messages


class Answer(NamedTuple):
    """What the model said to one question."""

    labels: dict[str, list[str]]
    """Sub-dimension (or `role`) -> tags."""
    confidence: dict[str, list[float | None]]
    """Sub-dimension -> the probability of each of its tags, from 0 to 1, in their order; None where the endpoint gave none."""


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
    told = probabilities(reply.text, list(labels), reply.tokens)
    return Answer(labels, {name: [told[name].get(tag) for tag in tags] for name, tags in labels.items()})


def probabilities(text: str, names: Sequence[str], tokens: Sequence[tuple[str, float]]) -> dict[str, dict[str, float]]:
    """Key of a JSON object -> the probability of its tag, or of each of its tags: the product over the tokens that spell it.

    What the grammar or the tag's own beginning forces is nearly certain; a mean would let such tokens outvote the one that chose.
    Quotes do not count: whether a list goes on behind one is no doubt about the tag.

    Args:
        tokens: the answer's tokens with their log-probabilities, in order; empty where they are not known.
    """
    starts = [0, *itertools.accumulate(len(token) for token, _ in tokens)]
    found: dict[str, dict[str, float]] = {}
    for name in names:
        found[name] = {}
        for tag, begin, end in _tags_at(text, name):
            logs = [
                log
                for (token, log), start in zip(tokens, starts, strict=False)
                if start < end and start + len(token) > begin
            ]
            if logs:
                found[name].setdefault(tag, min(1.0, math.exp(math.fsum(logs))))
    return found


def _tags_at(text: str, name: str) -> Iterator[tuple[str, int, int]]:
    """The tag, or each tag of the list, that a key of the outermost object holds, and where it stands in the JSON text without
    its quotes."""
    at = _behind(text, text.index(f'"{name}"') + len(name) + 2, ":")
    several = text[at] == "["
    at = _behind(text, at, "[") if several else at
    while text[at] != "]":
        tag, end = json.JSONDecoder().raw_decode(text, at)
        yield tag, at + 1, end - 1
        if not several:
            return
        at = _behind(text, end, ",")


def _behind(text: str, at: int, mark: str) -> int:
    """The first place from `at` on that is neither space nor the mark."""
    while text[at] in " \t\r\n" or text[at] == mark:
        at += 1
    return at


def _tags(value: Any, schema: dict[str, Any], name: str) -> list[str]:
    tags = value if isinstance(value, list) else [value]
    allowed = schema.get("enum") or schema["items"]["enum"]
    if not tags or not all(tag in allowed for tag in tags):
        raise ValueError(f"{name}: {value!r} holds no tag of its vocabulary, or others")
    return list(dict.fromkeys(tags))
