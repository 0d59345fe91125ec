"""The words of the questions, from `templates.yaml`: which kinds there are, what each may say, and its system prompt."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Formatter

import yaml

PLACES: Mapping[str, frozenset[str]] = {
    "attribute.single": frozenset({"span", "span_first", "names", "tags", "form"}),
    "attribute.dimension": frozenset({"span", "span_first", "names", "tags", "form"}),
    "attribute.snapshot": frozenset({"span", "span_first", "names", "tags", "form"}),
    "retrieval.locate": frozenset({"names", "tag", "form"}),
    "retrieval.role": frozenset({"role", "form"}),
    "retrieval.moment": frozenset({"time", "names", "tags", "form"}),
    "retrieval.sequence": frozenset({"names", "tags", "form"}),
    "abduction.change": frozenset({"time", "change", "change_first", "names", "tags"}),
    "abduction.intent": frozenset({"span", "span_first", "names", "tags"}),
    "correction.report": frozenset({"report", "form"}),
    "choice.single": frozenset({"span", "span_first", "names", "options"}),
    "caption.expressive": frozenset(),
    "caption.dense": frozenset(),
}
"""The kinds of question, and what a wording of each may name."""


class TemplateError(ValueError):
    """A template file that cannot be used; the message names the file, the place and the mend."""


class Templates:
    """Wordings by kind and system prompts by family.

    Raises:
        TemplateError: a file that is no YAML, a kind without wordings or that is unknown, a place that its kind has not.
    """

    def __init__(self, path: Path | None = None):
        path = path or Path(str(files(__package__) / "templates.yaml"))
        try:
            told = yaml.safe_load(path.read_text(encoding="utf-8"))
            self.wordings: dict[str, tuple[str, ...]] = {kind: tuple(told["tasks"].get(kind) or ()) for kind in PLACES}
            self.systems: dict[str, str] = dict(told["systems"])
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise TemplateError(f"{path}: is no template file ({error!r}); see the packaged templates.yaml") from error
        if unknown := told["tasks"].keys() - PLACES.keys():
            raise TemplateError(f"{path}: tasks.{min(unknown)} is no kind of question; there are {', '.join(PLACES)}")
        for kind, wordings in self.wordings.items():
            family = kind.partition(".")[0]
            if not wordings or family not in self.systems:
                raise TemplateError(f"{path}: give tasks.{kind} a wording at least, and systems.{family} a prompt")
            for i, wording in enumerate(wordings):
                _check(wording, PLACES[kind], f"{path}: tasks.{kind}[{i}]")

    @staticmethod
    @cache
    def packaged() -> "Templates":
        return Templates()


def _check(wording: str, places: frozenset[str], where: str) -> None:
    try:
        named = {name for _, name, _, _ in Formatter().parse(wording) if name is not None}
    except (ValueError, TypeError) as error:
        raise TemplateError(f"{where}: {wording!r} is no wording ({error}); write {{{{ and }}}} for braces") from error
    if wrong := named - places:
        raise TemplateError(
            f"{where}: {{{min(wrong)}}} is no place of this kind; there are {', '.join(sorted(places))}"
        )
