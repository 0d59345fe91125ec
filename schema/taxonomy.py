"""The taxonomy: canonical tags, their order or confusion graph, and the distance between two tags (section 2.4.2).

Ordinal sub-dimension: |rank difference| / (n - 1).  Categorical: shortest path on the confusion graph / D, where D is
the diameter when the graph is connected, else the largest finite distance + 1; tags with no path are at distance 1.
"""

import unicodedata
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

import numpy as np

from .marks import drop_marks
from .names import near_names
from .taxonomy_file import (
    CombinationsSpec,
    SubDimensionSpec,
    TaxonomyError,
    TaxonomySpec,
    read_taxonomy_file,
)

MAX_TAG_LENGTH = 256
"""A text longer than this is no tag; it is not even normalised, which keeps hostile answers cheap."""


def _straighten_quotes(text: str) -> str:
    for straight, curled in (("'", "‘’ʼ′`"), ('"', "“”″")):
        for quote in curled:
            text = text.replace(quote, straight)
    return text


def _collapse_whitespace(text: str) -> str:
    """Every run of white space becomes one space, also at the ends."""
    words = text.split()
    if not words:
        return " " if text else ""
    return " " * text[0].isspace() + " ".join(words) + " " * text[-1].isspace()


NORMALIZATION_STEPS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "unicode_nfkd": lambda text: unicodedata.normalize("NFKD", text),
        "drop_combining_marks": drop_marks,
        "straighten_quotes": _straighten_quotes,
        "lowercase": str.lower,
        "collapse_whitespace": _collapse_whitespace,
        "strip": str.strip,
    }
)
"""What a taxonomy's `normalization` list may name, in the order that it names them."""


@dataclass(frozen=True, eq=False)
class SubDimension:
    """One closed set of tags with its metric."""

    name: str
    dimension: str
    metric: str
    """`ordinal` or `categorical`."""
    cardinality: str
    """`one` or `many`: how many tags a segment may carry."""
    labels: tuple[str, ...]
    definitions: Mapping[str, str]
    aliases: Mapping[str, str]
    """Alias -> canonical tag. Aliases are out of vocabulary; they only serve hints."""
    groups: Mapping[str, tuple[str, ...]]
    auxiliary: bool
    steps: np.ndarray = field(repr=False)
    """(n, n) integers: rank difference or graph distance in steps; -1 where there is no path."""
    distances: np.ndarray = field(repr=False)
    """(n, n) floats in [0, 1] (section 2.4.2)."""
    ids: Mapping[str, int] = field(repr=False)
    """Normalised tag -> row of `distances`."""


@dataclass(frozen=True, eq=False)
class Dimension:
    """One of the six dimensions (section 2.3)."""

    name: str
    index: int
    """1 to 6, the order of section 2.3."""
    sub_dimensions: Mapping[str, SubDimension]
    combinations: CombinationsSpec | None = None
    """Pairs of tags that a document must not hold, or that look wrong (subject only)."""


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A skeleton taxonomy: the roles that shots may take (eq. 2)."""

    name: str
    roles: tuple[str, ...]
    collapse: Mapping[str, str]
    """Segment function -> role, where the two differ in name."""


class Taxonomy:
    """All dimensions, the skeletons and the normalisation of one taxonomy file."""

    def __init__(self, spec: TaxonomySpec, path: Path):
        self.path = path
        self.id = spec.taxonomy_id
        self.version = spec.taxonomy_version
        self.normalization = tuple(spec.normalization)
        self.default_radius = spec.default_radius
        self.fallback_radius = spec.fallback_radius
        self._steps = tuple(NORMALIZATION_STEPS[step] for step in self.normalization)
        self._fold = lru_cache(maxsize=32768)(self._short)
        self.dimensions: Mapping[str, Dimension] = MappingProxyType(
            {name: self._dimension(name, dimension) for name, dimension in spec.dimensions.items()}
        )
        self.skeletons: Mapping[str, Skeleton] = MappingProxyType(
            {n: Skeleton(n, tuple(s.labels), MappingProxyType(s.collapse)) for n, s in spec.skeletons.items()}
        )
        self.default_skeleton = spec.default_skeleton
        self.tags: frozenset[str] = frozenset(
            tag for d in self.dimensions.values() for sub in d.sub_dimensions.values() for tag in sub.ids
        )

    @staticmethod
    def load(path: str | Path | None = None) -> "Taxonomy":
        """The packaged taxonomy, or the one at `path`; each file is read once.

        Raises:
            TaxonomyError: names the file, the place in it, the value and the mend.
        """
        return _packaged() if path is None else _load(Path(path).resolve())

    def normalize(self, text: str) -> str:
        """`text` after this taxonomy's normalisation steps; unchanged when the list is empty."""
        for step in self._steps:
            text = step(text)
        return text

    def _short(self, text: str) -> str:
        """The same, cut where it unfolds beyond the length of any tag, so that remembering it costs little."""
        return self.normalize(text)[: MAX_TAG_LENGTH + 1]

    def sub_dimension(self, dimension: str, sub_dimension: str) -> SubDimension:
        """Raises TaxonomyError with near names when there is no such sub-dimension."""
        if dimension not in self.dimensions:
            raise TaxonomyError(
                f"{self.path.name}: no dimension {dimension!r}; {near_names(dimension, self.dimensions)}"
            )
        subs = self.dimensions[dimension].sub_dimensions
        if sub_dimension not in subs:
            raise TaxonomyError(
                f"{self.path.name}: {dimension} has no sub-dimension {sub_dimension!r}; {near_names(sub_dimension, subs)}"
            )
        return subs[sub_dimension]

    def tag_id(self, sub: SubDimension, tag: str) -> int:
        """Row of `tag` in `sub.distances` after normalisation; -1 when it is out of vocabulary."""
        found = sub.ids.get(tag)
        if found is None:
            found = -1 if len(tag) > MAX_TAG_LENGTH else sub.ids.get(self._fold(tag), -1)
        return found

    def has(self, dimension: str, sub_dimension: str, tag: str) -> bool:
        """Whether `tag` is, after normalisation, a canonical tag of the sub-dimension."""
        return self.tag_id(self.sub_dimension(dimension, sub_dimension), tag) >= 0

    def is_canonical(self, tag: str) -> bool:
        """Whether `tag` is, after normalisation, a canonical tag of any dimension (R_prof of eq. 10)."""
        return tag in self.tags or (len(tag) <= MAX_TAG_LENGTH and self._fold(tag) in self.tags)

    def canonical(self, dimension: str, sub_dimension: str, tag: str) -> str:
        """The tag as the taxonomy writes it. Raises TaxonomyError with a hint when it is not there."""
        sub = self.sub_dimension(dimension, sub_dimension)
        found = self.tag_id(sub, tag)
        if found < 0:
            known = sub.aliases.get(self.normalize(tag[:MAX_TAG_LENGTH]))
            mend = f"use {known!r}" if known else near_names(tag, sub.labels)
            raise TaxonomyError(f"{dimension}.{sub_dimension}: {tag[:80]!r} is no canonical tag; {mend}")
        return sub.labels[found]

    def distance(self, dimension: str, sub_dimension: str, a: str, b: str) -> float:
        """Distance in [0, 1] between two tags of a sub-dimension; 1 when either is out of vocabulary."""
        sub = self.sub_dimension(dimension, sub_dimension)
        i, j = self.tag_id(sub, a), self.tag_id(sub, b)
        return 1.0 if i < 0 or j < 0 else float(sub.distances[i, j])

    def neighbors(self, dimension: str, sub_dimension: str, tag: str, radius: int | None = None) -> tuple[str, ...]:
        """The other tags at most `radius` steps away, nearest first.

        Without a radius: the taxonomy's default one, and its fallback where that finds fewer than two tags.
        """
        sub = self.sub_dimension(dimension, sub_dimension)
        steps = sub.steps[sub.labels.index(self.canonical(dimension, sub_dimension, tag))]

        def within(limit: int) -> tuple[str, ...]:
            near = [i for i in range(len(sub.labels)) if 0 < steps[i] <= limit]
            return tuple(sub.labels[i] for i in sorted(near, key=lambda i: (steps[i], i)))

        if radius is not None:
            return within(radius)
        near = within(self.default_radius)
        return near if len(near) >= 2 else within(self.fallback_radius)

    def _dimension(self, name: str, spec) -> Dimension:
        subs = {sub: self._sub_dimension(name, sub, s) for sub, s in spec.sub_dimensions.items()}
        return Dimension(name, spec.index, MappingProxyType(subs), spec.combinations)

    def _sub_dimension(self, dimension: str, name: str, spec: SubDimensionSpec) -> SubDimension:
        labels = tuple(label.name for label in spec.labels)
        ids: dict[str, int] = {}
        for i, label in enumerate(labels):
            normal = self.normalize(label)
            if not normal.strip() or max(len(label), len(normal)) > MAX_TAG_LENGTH:
                raise TaxonomyError(
                    f"{self.path}: dimensions.{dimension}.sub_dimensions.{name}.labels[{i}].name: {label[:80]!r} is blank "
                    f"or longer than {MAX_TAG_LENGTH} characters after normalisation; no answer could say it"
                )
            if ids.setdefault(normal, i) != i:
                raise TaxonomyError(
                    f"{self.path}: dimensions.{dimension}.sub_dimensions.{name}.labels[{i}].name: {label!r} equals "
                    f"{labels[ids[normal]]!r} after normalisation; rename one of the two"
                )
        steps = _rank_steps(spec) if spec.metric == "ordinal" else _graph_steps(labels, spec.edges)
        return SubDimension(
            name=name,
            dimension=dimension,
            metric=spec.metric,
            cardinality=spec.cardinality,
            labels=labels,
            definitions=MappingProxyType({label.name: label.definition for label in spec.labels}),
            aliases=MappingProxyType({self.normalize(a): label.name for label in spec.labels for a in label.aliases}),
            groups=MappingProxyType({group: tuple(tags) for group, tags in spec.groups.items()}),
            auxiliary=spec.auxiliary,
            steps=steps,
            distances=_distances(steps),
            ids=MappingProxyType(ids),
        )


@cache
def _packaged() -> Taxonomy:
    return _load(Path(str(files(__package__) / "taxonomy.yaml")))


@lru_cache(maxsize=32)
def _load(path: Path) -> Taxonomy:
    return Taxonomy(read_taxonomy_file(path, NORMALIZATION_STEPS), path)


def _rank_steps(spec: SubDimensionSpec) -> np.ndarray:
    ranks = np.array([label.rank for label in spec.labels])
    return np.abs(ranks[:, None] - ranks[None, :])


def _graph_steps(labels: tuple[str, ...], edges) -> np.ndarray:
    """Breadth-first search from every label; -1 where no path leads."""
    row = {label: i for i, label in enumerate(labels)}
    joined: list[list[int]] = [[] for _ in labels]
    for a, b in edges:
        joined[row[a]].append(row[b])
        joined[row[b]].append(row[a])
    steps = np.full((len(labels), len(labels)), -1)
    for origin in range(len(labels)):
        steps[origin, origin] = 0
        queue = deque([origin])
        while queue:
            here = queue.popleft()
            for there in joined[here]:
                if steps[origin, there] < 0:
                    steps[origin, there] = steps[origin, here] + 1
                    queue.append(there)
    return steps


def _distances(steps: np.ndarray) -> np.ndarray:
    """Steps -> [0, 1]: over the longest one, or one more than it when some tags have no path between them."""
    connected = bool((steps >= 0).all())
    longest = int(steps.max()) + (not connected)
    distances = np.where(steps < 0, 1.0, steps / max(longest, 1))
    distances.setflags(write=False)
    return distances
