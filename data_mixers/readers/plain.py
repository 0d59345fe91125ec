"""Tables and JSON lines of one's own: the columns are the fields of `Example`."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from ..rows import Example
from .found import Found, Source, Unusable, encode_segments, guarded, json_lines, table_rows

FIELDS = {field.name: field for field in dataclasses.fields(Example)}


def csv_rows(source: Source) -> Iterator[Found]:
    """A header with `task, media, ground_truth` and, as needed, the other fields; several media with `;` between them."""
    for file in source.files:
        yield from guarded(
            source, file, table_rows(file, "\t" if file.suffix == ".tsv" else ","), lambda row: _example(source, row)
        )


def jsonl_rows(source: Source) -> Iterator[Found]:
    """The same as objects; `ground_truth` may also be the segments themselves."""
    for file in source.files:
        yield from guarded(source, file, json_lines(file), lambda row: _example(source, row))


def _example(source: Source, row: Any) -> Iterator[Example]:
    if not isinstance(row, dict):
        raise Unusable("is no object")
    told = {key: value for key, value in row.items() if value not in (None, "")}
    if unknown := told.keys() - FIELDS.keys():
        raise Unusable(f"has unknown column(s) {', '.join(sorted(map(str, unknown)))}; there are {', '.join(FIELDS)}")
    if missing := [key for key in ("task", "media", "ground_truth") if key not in told]:
        raise Unusable(f"has no {' and no '.join(missing)}")
    media = told["media"]
    media = media.split(";") if isinstance(media, str) else media
    truth = told["ground_truth"]
    told |= {
        "media": [str(source.media / path.strip()) for path in media],
        "ground_truth": truth if isinstance(truth, str) else encode_segments(truth),
        "split": told.get("split", source.split),
    }
    if "duration" in told:
        told["duration"] = float(told["duration"])
    if isinstance(told.get("media_options"), str):
        told["media_options"] = json.loads(told["media_options"])
    yield Example(**told)
