"""What a model is asked about a shot: the labels of one dimension, or its role, as JSON that a decoder is held to."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...schema import Taxonomy
from ...schema.clock import Span, write_time
from ..endpoint import object_schema

ROLE = "role"
"""Asked as if it were a dimension."""

SYSTEM = (
    "You label shots of videos with tags of a closed vocabulary. You see frames of one shot, in order. "
    "Choose the tag that what you see supports; where several tags may apply, give all that do."
)


class Asked(NamedTuple):
    """One question about one shot."""

    about: str
    """A dimension, or `role`."""
    text: str
    schema: dict[str, Any]
    """JSON schema of the answer: an object with a key a sub-dimension (or `role`)."""


def question(about: str, shot: int, shots: Sequence[Span], taxonomy: Taxonomy, skeleton: str) -> Asked:
    """The question about the shot at that place, from 0."""
    span = shots[shot]
    where = f"Shot {shot + 1} of {len(shots)}, from {write_time(span.start)} to {write_time(span.end)}."
    if about == ROLE:
        roles = taxonomy.skeletons[skeleton].roles
        text = f"{where} Which part does it play in the video's story ({skeleton.replace('_', ' ')})? One of: {', '.join(roles)}."
        return Asked(about, text, object_schema({ROLE: {"enum": list(roles)}}))
    subs = asked_subs(about, shot, taxonomy)
    lines, schemas = [], {}
    for name in subs:
        sub = taxonomy.dimensions[about].sub_dimensions[name]
        tags = "; ".join(f"{tag} ({sub.definitions[tag]})" if sub.definitions.get(tag) else tag for tag in sub.labels)
        many = sub.cardinality == "many"
        lines.append(f"- {name}{' (one or more)' if many else ''}: {tags}")
        one = {"enum": list(sub.labels)}
        schemas[name] = (
            {"type": "array", "items": one, "minItems": 1, "maxItems": 3, "uniqueItems": True} if many else one
        )
    asked = "\n".join(lines)
    return Asked(
        about, f"{where} Label its {about.replace('_', ' ')}:\n{asked}\nAnswer with JSON alone.", object_schema(schemas)
    )


def asked_subs(dimension: str, shot: int, taxonomy: Taxonomy) -> list[str]:
    """The sub-dimensions that a shot is asked for. Nothing leads into the first shot, and what the report only scores beside
    (comments) is not asked."""
    subs = taxonomy.dimensions[dimension].sub_dimensions
    return [name for name, sub in subs.items() if not sub.auxiliary and not (name == "transition_type" and shot == 0)]


def digest(asked: Asked, shown: Sequence[int]) -> str:
    """What an answer depends on beside model and video: another wording, vocabulary, skeleton or picture is another question.

    Args:
        shown: how many frames, and their longest side in pixels.
    """
    return hashlib.sha256(json.dumps([SYSTEM, asked.text, asked.schema, *shown]).encode()).hexdigest()[:16]


def messages(asked: Asked, frames: Sequence[str]) -> list[dict[str, Any]]:
    """An OpenAI-style dialogue: the frames, then the question."""
    shown = [{"type": "image_url", "image_url": {"url": url}} for url in frames]
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": [*shown, {"type": "text", "text": asked.text}]},
    ]
