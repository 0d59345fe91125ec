"""The quick way into an answer: JSON that has the asked form is decoded straight into rows.

What it refuses (another type, a missing field, a tag where none is asked) is for the lenient reader in `answer.py`; what
both can read they read alike.  Keys beside the form are passed over, as they are there.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from .answer import too_deep

Said = str | tuple[str, ...] | msgspec.UnsetType
"""What a segment says in one sub-dimension: a tag, several, or nothing at all."""

Row = tuple
"""A segment: start, end, and what it says in each asked sub-dimension."""


@lru_cache(maxsize=256)
def form_reader(
    asked: tuple[tuple[str, str], ...] | None, required: tuple[str, ...] = ()
) -> Callable[[str], list[Row] | None]:
    """A reader: JSON text -> the rows of its segments, in the order of the text; None where the form differs.

    Args:
        asked: the (dimension, sub-dimension) pairs that labels may hold; None where labels are not asked.
        required: the dimensions that every segment must hold.
    """
    fields: list[tuple] = [("start", float), ("end", float)]
    if asked is not None:
        fields.append(("labels", _labels(asked, required)))
    strict, loose = (_decoders(fields, forbid_others) for forbid_others in (True, False))
    # fields have neutral names, as a taxonomy may name its dimensions as it likes
    row = attrgetter("start", "end", *(f"labels.{place}" for place in _places(asked or ())))

    def read(source: str) -> list[Row] | None:
        # what trails the last closing bracket is no part of the value; without it the value is decoded as a whole
        value = source[: source.rfind("]" if source[0] == "[" else "}") + 1]
        segments = _decode(strict, value)
        if segments is None and not too_deep(source):  # what is strictly of the form cannot nest deeply
            segments = _decode(loose, value)
        return None if segments is None else list(map(row, segments))

    return read


class _Decoders(NamedTuple):
    list: Callable[[str], list]
    object: Callable[[str], Any]


def _decoders(fields: list[tuple], forbid_others: bool) -> _Decoders:
    segment = _struct("Segment", fields, forbid_others=forbid_others)
    answer = _struct("Answer", [("segments", list[segment])], forbid_others=forbid_others)
    return _Decoders(msgspec.json.Decoder(list[segment]).decode, msgspec.json.Decoder(answer).decode)


def _decode(decoders: _Decoders, value: str) -> list | None:
    try:
        return decoders.list(value) if value[:1] == "[" else decoders.object(value).segments
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return None


def _places(asked: Sequence[tuple[str, str]]) -> list[str]:
    dimensions = list(dict.fromkeys(dimension for dimension, _ in asked))
    return [f"d{dimensions.index(dimension)}.s{i}" for i, (dimension, _) in enumerate(asked)]


def _labels(asked: Sequence[tuple[str, str]], required: Sequence[str]) -> type[msgspec.Struct]:
    """A struct of dimensions, each a struct of what may be said in its sub-dimensions."""
    fields, names = [], {}
    for d, dimension in enumerate(dict.fromkeys(dimension for dimension, _ in asked)):
        subs = {f"s{i}": sub for i, (of, sub) in enumerate(asked) if of == dimension}
        kind = _struct("Dimension", [(field, Said, msgspec.UNSET) for field in subs], subs)
        fields.append((f"d{d}", kind) if dimension in required else (f"d{d}", kind, _default(kind)))
        names[f"d{d}"] = dimension
    return _struct("Labels", fields, names)


def _default(kind: type[msgspec.Struct]):
    return msgspec.field(default_factory=kind)


def _struct(
    name: str, fields: list[tuple], names: dict[str, str] | None = None, forbid_others: bool = True
) -> type[msgspec.Struct]:
    return msgspec.defstruct(name, fields, rename=names, gc=False, kw_only=True, forbid_unknown_fields=forbid_others)
