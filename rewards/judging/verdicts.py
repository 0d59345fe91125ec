"""The verdict of a judge that is a model: the schema that it has to fill, and the one field that is read."""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec


class Verdict(NamedTuple):
    """What an answer earns, and whether the judge failed to say it."""

    value: float
    """In [0, 1]; NaN when there is none and the sample shall not count (fallback `mask`)."""
    failed: bool = False


class VerdictError(ValueError):
    """A reply that holds no verdict."""


class _Filled(msgspec.Struct, forbid_unknown_fields=True):
    score: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


def response_format(grades: Sequence[float]) -> dict[str, Any]:
    """The `response_format` of a request: an object whose one field, `score`, is one of the grades."""
    schema = {
        "type": "object",
        "properties": {"score": {"type": "number", "enum": list(grades)}},
        "required": ["score"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def read_verdict(reply: Any) -> float:
    """The score in a chat completion of the `openai` client, in [0, 1].

    Only the whole reply as JSON of the asked form counts: text around it, other fields, numbers in words do not.

    Raises:
        VerdictError: there is none, it is cut off, or it lies outside [0, 1].
    """
    try:
        choice = reply.choices[0]
        content, finish = choice.message.content, choice.finish_reason
    except (AttributeError, IndexError, TypeError):
        raise VerdictError(f"the reply is no chat completion: {str(reply)[:200]!r}") from None
    try:
        return msgspec.json.decode(content, type=_Filled).score
    except (msgspec.MsgspecError, TypeError, UnicodeEncodeError) as error:
        cut = " (it was cut off: raise max_tokens in judge.parameters)" if finish == "length" else ""
        raise VerdictError(f"the reply is no verdict{cut}: {str(content)[:200]!r}: {error}") from None
