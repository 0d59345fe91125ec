"""What questions say of a taxonomy: its tags as a listing, the form of an answer, what a tag means and is mistaken for. Each is
made once: a run asks millions of questions with the same words."""

from collections.abc import Mapping
from functools import cache

import msgspec

from ...schema import Taxonomy

Sub = tuple[str, str]
"""(dimension, sub-dimension)."""


class Vocabulary:
    """A taxonomy in the words of questions and answers."""

    def __init__(self, taxonomy: Taxonomy):
        self.taxonomy = taxonomy
        self.subs: tuple[Sub, ...] = tuple((d.name, s) for d in taxonomy.dimensions.values() for s in d.sub_dimensions)
        """Every sub-dimension, in the taxonomy's order."""
        self.canonical = cache(taxonomy.canonical)
        self.near = cache(taxonomy.neighbors)
        """(dimension, sub-dimension, tag) -> the tags that it is mistaken for, the nearest first."""
        self.listing = cache(self._listing)
        """Sub-dimensions -> their tags, a line each."""
        self.form = cache(self._form)
        """Sub-dimensions -> the JSON form of an answer."""

    @staticmethod
    @cache
    def of(taxonomy: Taxonomy) -> "Vocabulary":
        return Vocabulary(taxonomy)

    def tags(self, sub: Sub) -> tuple[str, ...]:
        return self.taxonomy.dimensions[sub[0]].sub_dimensions[sub[1]].labels

    def meaning(self, sub: Sub, tag: str) -> str:
        """The taxonomy's definition of a tag; empty where it has none."""
        return self.taxonomy.dimensions[sub[0]].sub_dimensions[sub[1]].definitions.get(tag) or ""

    def labels(self, tags: Mapping[Sub, tuple[str, ...]]) -> dict[str, dict[str, str | list[str]]]:
        """Tags as answers hold them: one tag, or a list where several may apply."""
        labels: dict[str, dict[str, str | list[str]]] = {}
        for (dimension, sub), told in tags.items():
            many = self.taxonomy.dimensions[dimension].sub_dimensions[sub].cardinality == "many"
            labels.setdefault(dimension, {})[sub] = [*told] if many else told[0]
        return labels

    def _listing(self, subs: tuple[Sub, ...]) -> str:
        return "\n".join(f"{sub[1]}: {', '.join(self.tags(sub))}" for sub in subs)

    def _form(self, subs: tuple[Sub, ...]) -> str:
        labels = {"labels": self.labels(dict.fromkeys(subs, ("tag",)))} if subs else {}
        return msgspec.json.encode({"segments": [{"start": 0.0, "end": 1.5} | labels]}).decode()


def name_of(sub: Sub) -> str:
    """A sub-dimension as a question names it."""
    return sub[1].replace("_", " ")
