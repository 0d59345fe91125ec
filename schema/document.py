"""The structural document: shots with their labels and roles, and the skeleton segments they merge into (eq. 2-4).

`{"video", "duration", "skeleton_type", "shots": [{"start", "end", "role", "labels"}]}`; shots tile [0, duration].
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby
from typing import Any, Literal, NamedTuple

import msgspec

from .clock import read_time
from .names import near_names
from .taxonomy import Taxonomy, TaxonomyError

TOLERANCE = 1e-3
"""Seconds by which neighbouring shots may miss each other (times are written with three decimals)."""
KEYS = ("video", "duration", "skeleton_type", "shots", "schema_version")
"""What a document may hold; its version is passed over."""
SHOT_KEYS = ("start", "end", "role", "labels", "evidence")
"""What a shot may hold; its evidence is passed over."""


class DocumentError(ValueError):
    """A document that cannot be read; the message names the place, the value and the mend."""


@dataclass(frozen=True)
class Shot:
    """A semantic shot S_i with its labels l_i and its role r_i (Definition 1, eq. 2)."""

    start: float
    """Seconds."""
    end: float
    role: str | None = None
    """Segment function within the document's skeleton type."""
    labels: Mapping[str, Mapping[str, str | Sequence[str]]] = field(default_factory=dict)
    """dimension -> sub-dimension -> tag, or tags where several apply."""

    def tags(self, dimension: str, sub_dimension: str) -> tuple[str, ...]:
        """The shot's tags of one sub-dimension; empty where it has none."""
        tags = self.labels.get(dimension, {}).get(sub_dimension, ())
        return (tags,) if isinstance(tags, str) else tuple(tags)


@dataclass(frozen=True)
class SkeletonSegment:
    """A skeleton segment G_j: a maximal run of shots of one role (Definition 2)."""

    role: str | None
    first: int
    """Index of its first shot, from 0 (the report counts from 1)."""
    last: int
    """Index of its last shot, inclusive."""
    start: float
    """Seconds: the start of its first shot."""
    end: float
    """Seconds: the end of its last shot."""


@dataclass(frozen=True)
class Document:
    """The observed structural document D_obs of one video (eq. 4)."""

    shots: tuple[Shot, ...]
    duration: float
    """Seconds."""
    video: str = ""
    skeleton_type: str | None = None
    """Which set of roles the shots use; None: the taxonomy's default one."""

    @property
    def skeleton(self) -> tuple[SkeletonSegment, ...]:
        """The skeleton segments."""
        return merge_shots(self.shots)

    def to_json(self) -> str:
        """JSON text that `read_document` takes."""
        return msgspec.json.encode(self).decode()


class Problem(NamedTuple):
    """One thing that is wrong with a document."""

    level: Literal["error", "warning"]
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.place}: {self.message}"


def merge_shots(shots: Iterable[Shot]) -> tuple[SkeletonSegment, ...]:
    """Maximal contiguous merging of the roles: coverage, homogeneity, maximality, derived times (Definition 2)."""
    segments = []
    for role, run in groupby(enumerate(shots), key=lambda numbered: numbered[1].role):
        (first, opening), *rest = run
        last, closing = rest[-1] if rest else (first, opening)
        segments.append(SkeletonSegment(role, first, last, opening.start, closing.end))
    return tuple(segments)


def read_document(source: str | bytes | Mapping[str, Any], taxonomy: Taxonomy | None = None) -> Document:
    """A document from JSON text or plain data; its form is checked here, its content by `check_document`.

    Times may be clock times (`00:00:06.0`). Skeleton type and roles become the taxonomy's own spelling, whatever their case and
    accents.

    Raises:
        DocumentError: names the place and what was expected there.
    """
    return _read(_decode(source), taxonomy or Taxonomy.load())


def examine_document(
    source: str | bytes | Mapping[str, Any], taxonomy: Taxonomy | None = None
) -> tuple[Document | None, list[Problem]]:
    """A document as `read_document` reads it, and everything that is wrong with it, keys that nobody reads included; None where
    it cannot be read."""
    taxonomy = taxonomy or Taxonomy.load()
    try:
        told = _decode(source)
        document = _read(told, taxonomy)
    except DocumentError as error:
        return None, [Problem("error", "document", str(error))]
    return document, [*_unread_keys(told), *check_document(document, taxonomy)]


def _decode(source: str | bytes | Mapping[str, Any]) -> Any:
    try:
        return msgspec.json.decode(source) if isinstance(source, str | bytes) else source
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise DocumentError(f"not a structural document: {error}") from error


def _read(told: Any, taxonomy: Taxonomy) -> Document:
    try:
        document = msgspec.convert(_in_seconds(told), Document)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DocumentError(f"not a structural document: {error}") from error
    return _in_own_words(document, taxonomy)


def _in_seconds(told: Any) -> Any:
    """The same data with its clock times as seconds; what is not as it should be is left to `msgspec`."""
    if not isinstance(told, Mapping):
        return told
    told = _read_times(told, ("duration",), "")
    if isinstance(told.get("shots"), Sequence):
        shots = [
            _read_times(shot, ("start", "end"), f"shots[{i}].") if isinstance(shot, Mapping) else shot
            for i, shot in enumerate(told["shots"])
        ]
        told = {**told, "shots": shots}
    return told


def _read_times(told: Mapping[str, Any], keys: tuple[str, ...], place: str) -> Mapping[str, Any]:
    found = {}
    for key in keys:
        if isinstance(told.get(key), str):
            try:
                found[key] = read_time(told[key])
            except ValueError as error:
                raise ValueError(f"{place}{key}: {error}") from error
    return {**told, **found} if found else told


def _in_own_words(document: Document, taxonomy: Taxonomy) -> Document:
    """The document with the taxonomy's spelling of its skeleton type and roles, so that equal roles are one skeleton segment."""
    if (named := document.skeleton_type) not in (None, *taxonomy.skeletons):
        document = replace(document, skeleton_type=_own(named, taxonomy.skeletons, taxonomy))
    skeleton = taxonomy.skeletons.get(document.skeleton_type or taxonomy.default_skeleton)
    roles = (None, *skeleton.roles) if skeleton else ()
    if skeleton is None or all(shot.role in roles for shot in document.shots):
        return document
    shots = [
        shot if shot.role in roles else replace(shot, role=_own(shot.role, skeleton.roles, taxonomy))
        for shot in document.shots
    ]
    return replace(document, shots=tuple(shots))


def _own(name: str, names: Iterable[str], taxonomy: Taxonomy) -> str:
    plain = taxonomy.normalize(name)
    return next((own for own in names if taxonomy.normalize(own) == plain), name)


def _unread_keys(told: Mapping[str, Any]) -> Iterator[Problem]:
    places = [("document", told, KEYS), *((f"shots[{i}]", shot, SHOT_KEYS) for i, shot in enumerate(told["shots"]))]
    for place, found, keys in places:
        for key in found:
            if key not in keys:
                yield Problem("warning", place, f"key {key!r} is not read; {near_names(key, keys)}")


def shown_time(seconds: float) -> float:
    """A time as it is printed (`clock.write_time`): tenths of a second, rounded half up."""
    return math.floor(seconds * 10 + 0.5) / 10


def check_document(document: Document, taxonomy: Taxonomy | None = None) -> list[Problem]:
    """Everything that is wrong with a document: times, roles, tags, cardinality, combinations. Empty when it is sound."""
    taxonomy = taxonomy or Taxonomy.load()
    problems = [*_check_video(document), *_check_times(document), *_check_roles(document, taxonomy)]
    for i, shot in enumerate(document.shots):
        problems += _check_labels(shot, taxonomy, f"shots[{i}]")
        problems += _check_combinations(shot, taxonomy, f"shots[{i}]")
    return problems


def _check_video(document: Document) -> Iterator[Problem]:
    if not document.video.strip():
        yield Problem("error", "video", "is missing; name the video's file, as it lies in the folder of the videos")


def _check_times(document: Document) -> Iterator[Problem]:
    if not 0.0 < document.duration < float("inf"):
        yield Problem("error", "duration", f"is {document.duration}; give the video's length in seconds")
    if not document.shots:
        yield Problem("error", "shots", "is empty; a document holds at least one shot")
    reached, before = 0.0, "the video's start"
    for i, shot in enumerate(document.shots):
        if not 0.0 <= shot.start < shot.end < float("inf"):
            yield Problem("error", f"shots[{i}]", f"runs from {shot.start} to {shot.end}; a start lies before its end")
        elif shown_time(shot.start) == shown_time(shot.end):
            both = f"{shot.start} and {shot.end} are printed alike, in tenths of a second"
            yield Problem(
                "warning", f"shots[{i}]", f"{both}, so that nothing is asked about it; join it to its neighbour"
            )
        if abs(shot.start - reached) > TOLERANCE:
            kind = "gap" if shot.start > reached else "overlap"
            yield Problem(
                "error",
                f"shots[{i}].start",
                f"is {shot.start}, {before} is at {reached}: {kind}; shots must tile the video",
            )
        reached, before = shot.end, f"the end of shots[{i}]"
    if document.shots and abs(reached - document.duration) > TOLERANCE:
        yield Problem(
            "error",
            f"shots[{len(document.shots) - 1}].end",
            f"is {reached}, the video ends at {document.duration}; shots must tile the video",
        )


def _check_roles(document: Document, taxonomy: Taxonomy) -> Iterator[Problem]:
    name = document.skeleton_type or taxonomy.default_skeleton
    if name not in taxonomy.skeletons:
        if document.skeleton_type is not None:
            yield Problem("error", "skeleton_type", f"unknown {name!r}; {near_names(name, taxonomy.skeletons)}")
        return
    roles = taxonomy.skeletons[name].roles
    other = [(i, shot.role) for i, shot in enumerate(document.shots) if shot.role not in (None, *roles)]
    known = {taxonomy.normalize(role) for role in roles} if other else ()
    for i, role in other:
        if taxonomy.normalize(role) not in known:
            yield Problem("error", f"shots[{i}].role", f"{role!r} is no role of {name}; {near_names(role, roles)}")


def _check_labels(shot: Shot, taxonomy: Taxonomy, place: str) -> Iterator[Problem]:
    for dimension, subs in shot.labels.items():
        for name, told in subs.items():
            for wrong in _wrong_tags(taxonomy, dimension, name, told if isinstance(told, str) else tuple(told)):
                yield Problem("error", f"{place}.labels.{dimension}.{name}", wrong)


@lru_cache(maxsize=16384)
def _wrong_tags(taxonomy: Taxonomy, dimension: str, name: str, told: str | tuple[str, ...]) -> tuple[str, ...]:
    """What is wrong with the tags of one sub-dimension; the same few come again in every document."""
    tags = (told,) if isinstance(told, str) else told
    try:
        known = [taxonomy.canonical(dimension, name, tag) for tag in tags]
    except TaxonomyError as error:
        return (str(error),)
    twice = len(set(known)) < len(known)
    many = len(known) > 1 and taxonomy.sub_dimension(dimension, name).cardinality == "one"
    return (
        *[f"{list(tags)} names a tag twice; remove one"] * twice,
        *[f"{list(tags)}: this sub-dimension takes one tag"] * many,
    )


def _check_combinations(shot: Shot, taxonomy: Taxonomy, place: str) -> Iterator[Problem]:
    for dimension in taxonomy.dimensions.values():
        spec = dimension.combinations
        if spec is None:
            continue
        pairs = [
            (a, b) for a in shot.tags(dimension.name, spec.axes[0]) for b in shot.tags(dimension.name, spec.axes[1])
        ]
        for level, entries in (("error", spec.invalid), ("warning", spec.suspicious)):
            for entry in entries:
                if entry.pair in pairs:
                    message = f"{entry.pair[0]!r} with {entry.pair[1]!r}: {entry.why}"
                    yield Problem(level, f"{place}.labels.{dimension.name}", message)
