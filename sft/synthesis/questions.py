"""The kinds of question of section 3.1.3, a pair of functions each: what a document can be asked, and the question with its answer.

The answers of attribute, retrieval and correction questions are those of the RL tasks (JSON segments), those of abduction and
choice are reasoning; so each is scored by a reward of Table 4, and a true one earns 1.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from random import Random
from typing import Any, NamedTuple, TypeVar

import msgspec

from ...schema.clock import write_time
from .parsed import Parsed, Stretch
from .templates import Templates
from .vocabulary import TRANSITION, Sub, name_of

WRONG_LABELS = 3
"""Most labels that a perturbed report has wrong."""
LETTERS = "ABCD"
Item = TypeVar("Item")


class Wording(NamedTuple):
    """A template, and what its places say."""

    template: str
    places: Mapping[str, str]


class QA(NamedTuple):
    """One question with its true answer."""

    kind: str
    reward: str
    """The family of Table 4 that scores answers to it."""
    question: str
    answer: str
    """What the model learns to say."""
    truth: str
    """The ground truth of the reward."""
    subs: tuple[Sub, ...]
    """The sub-dimensions that it asks for; empty where roles are asked."""
    wording: Wording
    """What the question was made of."""
    facts: tuple[tuple[Sub, str], ...] = ()
    """The labels that the answer's thought names: its evidence and its conclusion."""


class Kind(NamedTuple):
    targets: Callable[[Parsed], Sequence]
    """What of a document this kind can ask about, in a fixed order."""
    make: Callable[[Parsed, Any, Random, Templates], QA]
    """The question about one target; its words, distractors and errors are the generator's choice."""


def encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def pick(rng: Random, options: Sequence[Item]) -> Item:
    """One of them; several times as fast as `rng.choice`."""
    return options[int(rng.random() * len(options))]


def some(rng: Random, options: Sequence[Item], count: int) -> list[Item]:
    """`count` different ones, or all there are, in any order; several times as fast as `rng.sample`."""
    left = [*options]
    return [left.pop(int(rng.random() * len(left))) for _ in range(min(count, len(left)))]


def _segment(span: Stretch, labels: Mapping | None = None) -> dict[str, Any]:
    segment: dict[str, Any] = {"start": span.start, "end": span.end}
    if labels:
        segment["labels"] = labels
    return segment


def _word(kind: str, places: Mapping[str, str], rng: Random, templates: Templates) -> Wording:
    return Wording(pick(rng, templates.wordings[kind]), places)


def _segments(kind: str, wording: Wording, segments: list[dict], subs: Sequence[Sub], thought="", facts=()) -> QA:
    reward = "temporal_grounding" if subs and kind != "retrieval.locate" else "action_localization"
    question, truth = wording.template.format(**wording.places), encode(segments)
    answer = f'<think>{thought}</think>{{"segments":{truth}}}' if thought else f'{{"segments":{truth}}}'
    return QA(kind, reward, question, answer, truth, tuple(subs), wording, tuple(facts))


def _reasoned(kind: str, wording: Wording, thought: str, answer: str, sub: Sub, facts: list) -> QA:
    question, told = wording.template.format(**wording.places), f"<think>{thought}</think><answer>{answer}</answer>"
    return QA(kind, "chain_of_thought", question, told, answer, (sub,), wording, tuple(facts))


# Attributes of a given stretch


def _shot_dimensions(parsed: Parsed) -> list[tuple[int, list[Sub]]]:
    found = []
    for i, tags in enumerate(parsed.tags):
        for _, of_dimension in groupby(tags, key=_dimension):
            subs = [*of_dimension]
            if len(subs) > 1:
                found.append((i, subs))
    return found


def _shot_snapshots(parsed: Parsed) -> list[tuple[int, list[Sub]]]:
    """Shots labelled in two dimensions at least, all that is known of each."""
    return [(i, [*tags]) for i, tags in enumerate(parsed.tags) if len(set(map(_dimension, tags))) > 1]


def _dimension(sub: Sub) -> str:
    return sub[0]


def _attribute(kind: str, name: Callable[[list[Sub]], str]):
    def make(parsed: Parsed, target: tuple[int, list[Sub]], rng: Random, templates: Templates) -> QA:
        shot, subs = target
        asked = tuple(subs)
        places = {
            **parsed.spoken[shot],
            "names": name(subs),
            "tags": parsed.words.listing(asked),
            "form": parsed.words.form(asked),
        }
        segment = _segment(parsed.shots[shot], parsed.labels(shot, subs))
        return _segments(kind, _word(kind, places, rng, templates), [segment], asked)

    return make


# Retrieval on the timeline


def _tags_to_find(parsed: Parsed) -> list[tuple[Sub, str]]:
    """Tags that occur, and for each sub-dimension a neighbour that does not: `no such stretch` is an answer, too. Of a sub-dimension
    that a shot has no label for, nobody knows every stretch."""
    found = []
    for sub, column in parsed.whole.items():
        here = dict.fromkeys([tag for _, tags in column for tag in tags])
        found += [(sub, tag) for tag in here]
        absent = next((tag for tag in parsed.words.near(*sub, column[0][1][0]) if tag not in here), None)
        if absent is not None:
            found.append((sub, absent))
    return found


def _locate(parsed: Parsed, target: tuple[Sub, str], rng: Random, templates: Templates) -> QA:
    sub, tag = target
    places = {"names": name_of(sub), "tag": tag, "form": parsed.words.form(())}
    segments = [_segment(span) for span in parsed.where(sub, tag)]
    return _segments("retrieval.locate", _word("retrieval.locate", places, rng, templates), segments, (sub,))


def _roles_to_find(parsed: Parsed) -> list[str]:
    taxonomy = parsed.words.taxonomy
    skeleton = taxonomy.skeletons[parsed.document.skeleton_type or taxonomy.default_skeleton]
    here = {role for role, _ in parsed.roles}
    absent = [role for role in skeleton.roles if role not in here and role != "other"]
    return [*dict.fromkeys(role for role, _ in parsed.roles if role != "other"), *absent[:1]] if here else []


def _role(parsed: Parsed, role: str, rng: Random, templates: Templates) -> QA:
    places = {"role": role, "form": parsed.words.form(())}
    segments = [_segment(span) for name, span in parsed.roles if name == role]
    return _segments("retrieval.role", _word("retrieval.role", places, rng, templates), segments, ())


def _asked_of(parsed: Parsed, sub: Sub) -> dict[str, str]:
    return {"names": name_of(sub), "tags": parsed.words.listing((sub,)), "form": parsed.words.form((sub,))}


def _moment(parsed: Parsed, target: tuple[int, list[Sub]], rng: Random, templates: Templates) -> QA:
    shot, (sub,) = target
    span = parsed.shots[shot]
    time = span.start + (span.end - span.start) * (0.2 + 0.6 * rng.random())  # away from the cuts
    places = {"time": write_time(time), **_asked_of(parsed, sub)}
    segment = _segment(span, parsed.labels(shot, [sub]))
    return _segments("retrieval.moment", _word("retrieval.moment", places, rng, templates), [segment], (sub,))


def _moments(parsed: Parsed) -> list[tuple[int, list[Sub]]]:
    return [(i, subs) for i, subs in parsed.labelled if subs[0][1] != TRANSITION]


def _split_subs(parsed: Parsed) -> list[Sub]:
    return [sub for sub, column in parsed.whole.items() if len({frozenset(tags) for _, tags in column}) > 1]


def _sequence(parsed: Parsed, sub: Sub, rng: Random, templates: Templates) -> QA:
    parts = [_segment(span, parsed.labels(first, [sub])) for span, first in parsed.parts(sub)]
    wording = _word("retrieval.sequence", _asked_of(parsed, sub), rng, templates)
    return _segments("retrieval.sequence", wording, parts, (sub,))


# Abduction: from what is seen to what it is for


def _changes(parsed: Parsed) -> list[tuple[int, Sub, Sub]]:
    """Cuts at which something seen changes, the shot behind them having one tag that says why: (shot, what changed, why)."""
    changed = [
        [
            sub
            for sub in seen
            if sub[1] != TRANSITION and sub in before and before[sub] != after[sub] and {*before[sub]} != {*after[sub]}
        ]
        for seen, before, after in zip(parsed.seen[1:], parsed.tags, parsed.tags[1:], strict=False)
    ]
    return [(i, sub, why) for i, why in parsed.intents if i > 0 for sub in changed[i - 1]]


def _seen_there(parsed: Parsed, shot: int, subs: list[Sub]) -> tuple[str, list[tuple[Sub, str]]]:
    """What is seen, in the taxonomy's own words, and the labels that it names."""
    facts = [(sub, tag) for sub in subs for tag in parsed.tags[shot][sub]]
    return "; ".join([parsed.words.evidence(sub, tag) for sub, tag in facts]), facts


def _change(parsed: Parsed, target: tuple[int, Sub, Sub], rng: Random, templates: Templates) -> QA:
    shot, seen, why = target
    (tag,) = parsed.tags[shot][why]
    time = write_time(parsed.shots[shot].start)
    before, after = parsed.tags[shot - 1][seen], parsed.tags[shot][seen]
    change = f"he {name_of(seen)} goes from {' and '.join(before)} to {' and '.join(after)}"
    places = {"time": time, "change": f"t{change}", "change_first": f"T{change}"}
    places |= {"names": name_of(why), "tags": parsed.words.inline(why)}
    shown = [seen, *some(rng, [sub for sub in parsed.seen[shot] if sub != seen], 2)]
    evidence, facts = _seen_there(parsed, shot, shown)
    thought = f"At {time} t{change}. In the new shot {evidence}. This serves {parsed.words.meaning(why, tag)}"
    wording = _word("abduction.change", places, rng, templates)
    facts += [(seen, tag) for tag in before]
    return _reasoned("abduction.change", wording, thought, tag, why, [*facts, (why, tag)])


def _intent(parsed: Parsed, target: tuple[int, Sub], rng: Random, templates: Templates) -> QA:
    shot, why = target
    (tag,) = parsed.tags[shot][why]
    places = {**parsed.spoken[shot], "names": name_of(why), "tags": parsed.words.inline(why)}
    evidence, facts = _seen_there(parsed, shot, some(rng, parsed.seen[shot], 3))
    thought = f"{places['span_first']} {evidence}. This serves {parsed.words.meaning(why, tag)}"
    wording = _word("abduction.intent", places, rng, templates)
    return _reasoned("abduction.intent", wording, thought, tag, why, [*facts, (why, tag)])


# Correction of a perturbed report


def _reports(parsed: Parsed) -> list[Sub]:
    """One perturbed report a sub-dimension that can be mistaken: that one is wrong, and perhaps others."""
    return [*parsed.mistakes]


def _report(parsed: Parsed, sub: Sub, rng: Random, templates: Templates) -> QA:
    words, could = parsed.words, parsed.confusable
    first = pick(rng, parsed.mistakes[sub])
    more = some(rng, could, int(rng.random() * WRONG_LABELS))
    wrong = sorted({first, *more}, key=lambda place: (place[0], words.rank[place[1]]))
    said = {(i, s): pick(rng, words.near(*s, parsed.tags[i][s][0])) for i, s in wrong}
    asked = sorted({s for _, s in wrong}, key=words.rank.__getitem__)
    subs = [s for s in parsed.columns if s in asked or rng.random() < 0.3]
    report = [_segment(span, parsed.labels(i, subs)) for i, span in enumerate(parsed.shots)]
    for (i, s), tag in said.items():
        report[i]["labels"][s[0]][s[1]] = words.held(s, (tag,))
    corrected = [
        _segment(parsed.shots[i], parsed.labels(i, [s for _, s in of_shot]))
        for i, of_shot in groupby(wrong, key=lambda place: place[0])
    ]
    thought = " ".join([_correction(parsed, i, s, said[i, s]) for i, s in wrong])
    facts = [(s, tag) for i, s in wrong for tag in (said[i, s], parsed.tags[i][s][0])]
    places = {"report": encode(report), "form": words.form(tuple(asked))}
    wording = _word("correction.report", places, rng, templates)
    return _segments("correction.report", wording, corrected, asked, thought, facts)


def _correction(parsed: Parsed, shot: int, sub: Sub, said: str) -> str:
    meaning = parsed.words.meaning(sub, parsed.tags[shot][sub][0])
    return f"{parsed.spoken[shot]['span_first']} the {name_of(sub)} is not {said} but {meaning}"


# Multiple choice


def _choosable(parsed: Parsed) -> list[tuple[int, Sub]]:
    """Labels with one tag in a sub-dimension of as many tags as there are letters."""
    sizes = parsed.words.sizes
    return [place for place in parsed.confusable if sizes[place[1]] >= len(LETTERS)]


def _choice(parsed: Parsed, target: tuple[int, Sub], rng: Random, templates: Templates) -> QA:
    """Distractors are the nearest tags first: what it would be mistaken for."""
    shot, sub = target
    (tag,) = parsed.tags[shot][sub]
    others = parsed.words.near(*sub, tag)[: len(LETTERS) - 1]
    others = (*others, *some(rng, parsed.words.far(sub, tag), len(LETTERS) - 1 - len(others)))
    options = some(rng, (tag, *others), len(LETTERS))
    places = {
        **parsed.spoken[shot],
        "names": name_of(sub),
        "options": "\n".join([f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True)]),
    }
    evidence, facts = _seen_there(parsed, shot, [sub])
    thought = f"{places['span_first']} {evidence}."
    wording = _word("choice.single", places, rng, templates)
    return _reasoned("choice.single", wording, thought, LETTERS[options.index(tag)], sub, facts)


KINDS: Mapping[str, Kind] = {
    "attribute.single": Kind(
        lambda parsed: parsed.labelled, _attribute("attribute.single", lambda subs: name_of(subs[0]))
    ),
    "attribute.dimension": Kind(
        _shot_dimensions, _attribute("attribute.dimension", lambda subs: subs[0][0].replace("_", " "))
    ),
    "attribute.snapshot": Kind(
        _shot_snapshots,
        _attribute("attribute.snapshot", lambda subs: ", ".join(dict.fromkeys(s[0].replace("_", " ") for s in subs))),
    ),
    "retrieval.locate": Kind(_tags_to_find, _locate),
    "retrieval.role": Kind(_roles_to_find, _role),
    "retrieval.moment": Kind(_moments, _moment),
    "retrieval.sequence": Kind(_split_subs, _sequence),
    "abduction.change": Kind(_changes, _change),
    "abduction.intent": Kind(lambda parsed: parsed.intents, _intent),
    "correction.report": Kind(_reports, _report),
    "choice.single": Kind(_choosable, _choice),
}
"""All kinds, in the order of the four families, then multiple choice."""
