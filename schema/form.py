"""The quick way into an answer: JSON that follows the asked form to the letter, decoded straight into rows.

What it refuses (another key, another type, a missing field) is for the lenient reader in `answer.py`; what both can read
they read alike.  As no other key is let in, nothing here nests deeper than the form itself.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import attrgetter

import msgspec

Said = str | tuple[str, ...] | msgspec.UnsetType
"""What a segment says in one sub-dimension: a tag, several, or nothing at all."""

Row = tuple
"""A segment: start, end, and what it says in each asked sub-dimension."""


@lru_cache(maxsize=256)
def exact_form(
    asked: tuple[tuple[str, str], ...] | None, required: tuple[str, ...] = ()
) -> Callable[[str], list[Row] | None]:
    """A reader: JSON text -> the rows of its segments, in the order of the text; None where the form differs.

    Args:
        asked: the (dimension, sub-dimension) pairs that labels may hold; None where there must be no labels.
        required: the dimensions that every segment must hold.
    """
    fields: list[tuple] = [("start", float), ("end", float)]
    if asked is not None:
        fields.append(("labels", _labels(asked, required)))
    segment = _struct("Segment", fields)
    decode_list = msgspec.json.Decoder(list[segment]).decode
    decode_object = msgspec.json.Decoder(_struct("Answer", [("segments", list[segment])])).decode
    # msgspec fields have neutral names: a taxonomy may name its dimensions as it likes
    row = attrgetter("start", "end", *(f"labels.{place}" for place in _places(asked or ())))

    def read(source: str) -> list[Row] | None:
        # What trails the last closing bracket is no part of the value; cutting it lets the value be decoded whole.
        try:
            if source[0] == "[":
                segments = decode_list(source[: source.rfind("]") + 1])
            else:
                segments = decode_object(source[: source.rfind("}") + 1]).segments
        except (msgspec.MsgspecError, UnicodeEncodeError):
            return None
        return list(map(row, segments))

    return read


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
    fields.sort(key=len)  # those without a default come first
    return _struct("Labels", fields, names)


def _default(kind: type[msgspec.Struct]):
    return msgspec.field(default_factory=kind)


def _struct(name: str, fields: list[tuple], names: dict[str, str] | None = None) -> type[msgspec.Struct]:
    return msgspec.defstruct(name, fields, rename=names, gc=False, forbid_unknown_fields=True)
