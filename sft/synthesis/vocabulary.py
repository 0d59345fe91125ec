"""What questions say of a taxonomy: its tags as a listing, the form of an answer, what a tag means and is mistaken for. Each is
made once: a run asks millions of questions with the same words."""

from collections.abc import Iterable, Mapping
from functools import cache

import msgspec

from ...schema import Taxonomy

Sub = tuple[str, str]
"""(dimension, sub-dimension)."""
Held = str | list[str]
"""A label as answers hold it: a tag, or a list where several may apply."""
TRANSITION = "transition_type"
"""The sub-dimension that is no property of a stretch: what leads into a shot (schema/tasks.yaml)."""


class Vocabulary:
    """A taxonomy in the words of questions and answers."""

    def __init__(self, taxonomy: Taxonomy):
        self.taxonomy = taxonomy
        self.subs: tuple[Sub, ...] = tuple((d.name, s) for d in taxonomy.dimensions.values() for s in d.sub_dimensions)
        """Every sub-dimension, in the taxonomy's order."""
        self.rank: Mapping[Sub, int] = {sub: i for i, sub in enumerate(self.subs)}
        self.sizes: Mapping[Sub, int] = {sub: len(self.tags(sub)) for sub in self.subs}
        """How many tags each has."""
        self.canonical = cache(self._canonical)
        """(dimension, sub-dimension, tag or tags as a document holds them) -> (rank, sub-dimension, canonical tags, those as answers
        hold them)."""
        self.held = cache(self._held)
        """(sub-dimension, canonical tags) -> as answers hold them: one tag, or a list where several may apply."""
        self.near = cache(taxonomy.neighbors)
        """(dimension, sub-dimension, tag) -> the tags that it is mistaken for, the nearest first."""
        self.far = cache(self._far)
        """(sub-dimension, tag) -> the other tags, which it is not mistaken for."""
        self.listing = cache(self._listing)
        """Sub-dimensions -> their tags, a line each."""
        self.inline = cache(lambda sub: ", ".join(self.tags(sub)))
        """Sub-dimension -> its tags, in a line."""
        self.form = cache(self._form)
        """Sub-dimensions -> the JSON form of an answer."""
        self.evidence = cache(self._evidence)
        """(sub-dimension, tag) -> what is seen where it holds, in the taxonomy's own words."""
        self.meaning = cache(self._meaning)
        """(sub-dimension, tag) -> the tag, with the taxonomy's definition behind it where it has one."""

    @staticmethod
    @cache
    def of(taxonomy: Taxonomy) -> "Vocabulary":
        return Vocabulary(taxonomy)

    def tags(self, sub: Sub) -> tuple[str, ...]:
        return self.taxonomy.dimensions[sub[0]].sub_dimensions[sub[1]].labels

    def _canonical(
        self, dimension: str, name: str, told: str | tuple[str, ...]
    ) -> tuple[int, Sub, tuple[str, ...], Held]:
        given = (told,) if isinstance(told, str) else told
        rank = self.rank[dimension, name]
        tags = tuple(self.taxonomy.canonical(dimension, name, tag) for tag in given)
        return rank, self.subs[rank], tags, self.held(self.subs[rank], tags)

    def _held(self, sub: Sub, tags: tuple[str, ...]) -> Held:
        return [*tags] if self.taxonomy.sub_dimension(*sub).cardinality == "many" else tags[0]

    def _far(self, sub: Sub, tag: str) -> tuple[str, ...]:
        near = self.near(*sub, tag)
        return tuple(other for other in self.tags(sub) if other != tag and other not in near)

    def _listing(self, subs: tuple[Sub, ...]) -> str:
        return "\n".join(f"{sub[1]}: {self.inline(sub)}" for sub in subs)

    def _form(self, subs: tuple[Sub, ...]) -> str:
        labels = {"labels": nested({sub: self.held(sub, ("tag",)) for sub in subs}, subs)} if subs else {}
        return msgspec.json.encode({"segments": [{"start": 0.0, "end": 1.5} | labels]}).decode()

    def _evidence(self, sub: Sub, tag: str) -> str:
        definition = self._definition(sub, tag)
        return f"its {name_of(sub)} is {tag}" + (f" ({definition})" if definition else "")

    def _meaning(self, sub: Sub, tag: str) -> str:
        definition = self._definition(sub, tag)
        return f"{tag}: {definition}." if definition else f"{tag}."

    def _definition(self, sub: Sub, tag: str) -> str | None:
        return self.taxonomy.sub_dimension(*sub).definitions.get(tag)


def nested(labels: Mapping[Sub, Held], subs: Iterable[Sub]) -> dict[str, dict[str, Held]]:
    """Those of the labels that are of these sub-dimensions, by dimension, as answers hold them."""
    found: dict[str, dict[str, Held]] = {}
    for sub in subs:
        if sub in labels:
            dimension, name = sub
            if dimension in found:
                found[dimension][name] = labels[sub]
            else:
                found[dimension] = {name: labels[sub]}
    return found


@cache
def name_of(sub: Sub) -> str:
    """A sub-dimension as a question names it."""
    return "transition into the shot" if sub[1] == TRANSITION else sub[1].replace("_", " ")
