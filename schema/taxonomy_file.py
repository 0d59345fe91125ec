"""Reading and checking a taxonomy file: every error names the file, the place in it, the value and the mend.

The form is that of the packaged `taxonomy.yaml`; unknown keys are left alone, so a file may carry notes of its own.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from .names import near_names


class TaxonomyError(ValueError):
    """A taxonomy file is broken, or a name asked of a taxonomy is not in it."""


class LabelSpec(msgspec.Struct, frozen=True):
    name: str
    rank: int | None = None
    definition: str = msgspec.field(name="def", default="")
    aliases: list[str] = []


class SubDimensionSpec(msgspec.Struct, frozen=True):
    metric: Literal["ordinal", "categorical"]
    labels: list[LabelSpec]
    cardinality: Literal["one", "many"] = "one"
    edges: list[tuple[str, str]] = []
    isolated: list[str] = []
    groups: dict[str, list[str]] = {}
    auxiliary: bool = False


class PairSpec(msgspec.Struct, frozen=True):
    pair: tuple[str, str]
    why: str = ""


class CombinationsSpec(msgspec.Struct, frozen=True):
    axes: tuple[str, str]
    invalid: list[PairSpec] = []
    suspicious: list[PairSpec] = []


class DimensionSpec(msgspec.Struct, frozen=True):
    sub_dimensions: dict[str, SubDimensionSpec]
    index: int
    combinations: CombinationsSpec | None = None


class SkeletonSpec(msgspec.Struct, frozen=True):
    labels: list[str]
    collapse: dict[str, str] = {}


class TaxonomySpec(msgspec.Struct, frozen=True):
    """A checked taxonomy file, as plain data."""

    taxonomy_id: str
    taxonomy_version: str
    normalization: list[str]
    default_radius: int
    fallback_radius: int
    dimensions: dict[str, DimensionSpec]
    skeletons: dict[str, SkeletonSpec]
    default_skeleton: str | None


def read_taxonomy_file(path: Path, normalization_steps: Iterable[str]) -> TaxonomySpec:
    """Read and check the file at `path`.

    Raises:
        TaxonomyError: names the file, the place (`dimensions.editing.sub_dimensions.transition_type.edges[3]`),
            the value and what to do.
    """
    check = _Check(path)
    raw = check.mapping(_load_yaml(path), "the file")
    steps = check.convert(raw.get("normalization", []), list[str], "normalization")
    for i, step in enumerate(steps):
        if step not in normalization_steps:
            check.fail(f"normalization[{i}]", f"unknown step {step!r}", near_names(step, normalization_steps))
    metrics = check.mapping(raw.get("metrics", {}), "metrics")
    dimensions = {}
    for name, dimension in check.mapping(check.require(raw, "dimensions", ""), "dimensions").items():
        dimensions[name] = _read_dimension(check, dimension, f"dimensions.{name}")
    if not dimensions:
        check.fail("dimensions", "is empty", "name at least one dimension")
    skeletons = dict(check.mapping(raw.get("skeletons", {}), "skeletons"))
    default = skeletons.pop("default", None)
    skeletons = {k: _read_skeleton(check, v, f"skeletons.{k}") for k, v in skeletons.items()}
    if default is not None and default not in skeletons:
        check.fail("skeletons.default", f"unknown skeleton {default!r}", near_names(default, skeletons))
    return TaxonomySpec(
        taxonomy_id=check.convert(raw.get("taxonomy_id", path.stem), str, "taxonomy_id"),
        taxonomy_version=check.convert(raw.get("taxonomy_version", ""), str, "taxonomy_version"),
        normalization=steps,
        default_radius=check.convert(metrics.get("default_radius", 1), int, "metrics.default_radius"),
        fallback_radius=check.convert(metrics.get("fallback_radius", 2), int, "metrics.fallback_radius"),
        dimensions=dimensions,
        skeletons=skeletons,
        default_skeleton=default,
    )


class _Check:
    """Checks on one file; each failure is raised with its place."""

    def __init__(self, path: Path):
        self.path = path

    def fail(self, place: str, what: str, mend: str):
        raise TaxonomyError(f"{self.path}: {place}: {what}; {mend}")

    def mapping(self, value: Any, place: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            self.fail(place, f"is {type(value).__name__}, not a mapping", "write `key: value` lines")
        for key in value:
            if not isinstance(key, str):
                self.fail(place, f"key {key!r} is {type(key).__name__}, not text", f'quote it: "{key}"')
        return value

    def require(self, raw: Mapping[str, Any], key: str, place: str) -> Any:
        if key not in raw:
            self.fail(place or "the file", f"has no {key!r}", near_names(key, raw) if raw else "add it")
        return raw[key]

    def convert(self, value: Any, kind: Any, place: str) -> Any:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            message, _, at = str(error).partition(" - at `")
            self.fail(place + at.removeprefix("$").removesuffix("`"), message, "see the packaged taxonomy.yaml")

    def known(self, label: str, labels: Iterable[str], place: str):
        if label not in labels:
            self.fail(place, f"unknown label {label!r}", near_names(label, labels))


def _load_yaml(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaxonomyError(f"{path}: cannot be read ({error}); give the path of a UTF-8 YAML file") from error
    try:
        return yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise TaxonomyError(f"{path}: is not valid YAML: {error}") from error


class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """A YAML loader that refuses a key given twice, which plain YAML loaders silently overwrite."""

    def construct_mapping(self, node, deep=False):
        keys = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in keys:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep)


def _read_dimension(check: _Check, raw: Any, place: str) -> DimensionSpec:
    raw = check.mapping(raw, place)
    place_subs = f"{place}.sub_dimensions"
    subs = {
        name: _read_sub_dimension(check, sub, f"{place_subs}.{name}")
        for name, sub in check.mapping(check.require(raw, "sub_dimensions", place), place_subs).items()
    }
    if not subs:
        check.fail(place_subs, "is empty", "name at least one sub-dimension")
    combinations = None
    if "combinations" in raw:
        combinations = check.convert(raw["combinations"], CombinationsSpec, f"{place}.combinations")
        _check_combinations(check, combinations, subs, f"{place}.combinations")
    return DimensionSpec(subs, check.convert(check.require(raw, "index", place), int, f"{place}.index"), combinations)


def _read_sub_dimension(check: _Check, raw: Any, place: str) -> SubDimensionSpec:
    sub = check.convert(check.mapping(raw, place), SubDimensionSpec, place)
    names = [label.name for label in sub.labels]
    if not names:
        check.fail(f"{place}.labels", "is empty", "name at least one label")
    for i, name in enumerate(names):
        if name in names[:i]:
            check.fail(f"{place}.labels[{i}].name", f"{name!r} is given twice", "remove or rename one of the two")
    (_check_ordinal if sub.metric == "ordinal" else _check_graph)(check, sub, names, place)
    grouped = [label for group in sub.groups.values() for label in group]
    for group, labels in sub.groups.items():
        for i, label in enumerate(labels):
            check.known(label, names, f"{place}.groups.{group}[{i}]")
    for label in names:
        if sub.groups and grouped.count(label) != 1:
            check.fail(f"{place}.groups", f"{label!r} stands in {grouped.count(label)} groups", "name it in one group")
    return sub


def _check_ordinal(check: _Check, sub: SubDimensionSpec, names: list[str], place: str):
    for i, label in enumerate(sub.labels):
        ranks = [other.rank for other in sub.labels]
        if label.rank is None:
            check.fail(f"{place}.labels[{i}]", f"{label.name!r} has no rank", "an ordinal metric ranks every label")
        if not 0 <= label.rank < len(names) or ranks.index(label.rank) != i:
            check.fail(
                f"{place}.labels[{i}].rank",
                f"{label.name!r} has rank {label.rank}",
                f"the ranks must be 0 to {len(names) - 1}, each once",
            )
    if sub.edges:
        check.fail(f"{place}.edges", "an ordinal metric has no edges", "remove them, or write `metric: categorical`")


def _check_graph(check: _Check, sub: SubDimensionSpec, names: list[str], place: str):
    seen = set()
    for i, (a, b) in enumerate(sub.edges):
        for end in (a, b):
            check.known(end, names, f"{place}.edges[{i}]")
        if a == b:
            check.fail(f"{place}.edges[{i}]", f"joins {a!r} with itself", "remove it")
        if frozenset((a, b)) in seen:
            check.fail(f"{place}.edges[{i}]", f"[{a}, {b}] is given twice", "remove one")
        seen.add(frozenset((a, b)))
    joined = {end for edge in sub.edges for end in edge}
    for i, label in enumerate(sub.isolated):
        check.known(label, names, f"{place}.isolated[{i}]")
        if label in joined:
            check.fail(f"{place}.isolated[{i}]", f"{label!r} has edges", "remove its edges or this entry")
    for label in names:
        if label not in joined and label not in sub.isolated and len(names) > 1:
            check.fail(f"{place}.edges", f"{label!r} has no edge", "join it, or name it under `isolated`")
    for i, label in enumerate(sub.labels):
        if label.rank is not None:
            check.fail(f"{place}.labels[{i}].rank", "a categorical metric has no ranks", "remove it")


def _check_combinations(check: _Check, spec: CombinationsSpec, subs: Mapping[str, SubDimensionSpec], place: str):
    for axis in spec.axes:
        if axis not in subs:
            check.fail(f"{place}.axes", f"unknown sub-dimension {axis!r}", near_names(axis, subs))
    for kind in ("invalid", "suspicious"):
        for i, entry in enumerate(getattr(spec, kind)):
            for axis, label in zip(spec.axes, entry.pair, strict=True):
                check.known(label, [known.name for known in subs[axis].labels], f"{place}.{kind}[{i}].pair")


def _read_skeleton(check: _Check, raw: Any, place: str) -> SkeletonSpec:
    skeleton = check.convert(check.mapping(raw, place), SkeletonSpec, place)
    for i, label in enumerate(skeleton.labels):
        if label in skeleton.labels[:i]:
            check.fail(f"{place}.labels[{i}]", f"{label!r} is given twice", "remove one")
    for target in skeleton.collapse.values():
        check.known(target, skeleton.labels, f"{place}.collapse")
    return skeleton
