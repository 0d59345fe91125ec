"""The kinds of question of section 3.1.3, a pair of functions each: what a document can be asked, and the question with its answer.

The answers of attribute, retrieval and correction questions are those of the RL tasks (JSON segments), those of abduction and
choice are reasoning; so each is scored by a reward of Table 4, and a true one earns 1.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, NamedTuple

import msgspec

from ...schema.clock import write_time
from .parsed import Parsed, Stretch
from .templates import Templates
from .vocabulary import Sub, name_of

WRONG_LABELS = 3
"""Most labels that a perturbed report has wrong."""
LETTERS = "ABCD"


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


class Kind(NamedTuple):
    targets: Callable[[Parsed], list]
    """What of a document this kind can ask about, in a fixed order."""
    make: Callable[[Parsed, Any, Random, Templates], QA]
    """The question about one target; its words, distractors and errors are the generator's choice."""


def encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def span_words(span: Stretch) -> str:
    return f"between {write_time(span.start)} and {write_time(span.end)}"


def _segment(span: Stretch, labels: Mapping | None = None) -> dict[str, Any]:
    return {"start": span.start, "end": span.end} | ({"labels": labels} if labels else {})


def _segments(kind: str, question: str, segments: list[dict], subs: list[Sub], thought: str = "") -> QA:
    reward = "temporal_grounding" if subs and kind != "retrieval.locate" else "action_localization"
    answer = f"<think>{thought}</think>" * bool(thought) + encode({"segments": segments})
    return QA(kind, reward, question, answer, encode(segments), tuple(subs))


def _reasoned(kind: str, question: str, thought: str, answer: str, subs: list[Sub]) -> QA:
    return QA(
        kind, "chain_of_thought", question, f"<think>{thought}</think><answer>{answer}</answer>", answer, tuple(subs)
    )


def _span_places(span: Stretch) -> dict[str, str]:
    words = span_words(span)
    return {"span": words, "span_first": words[0].upper() + words[1:]}


# Attributes of a given stretch


def _shot_subs(parsed: Parsed) -> list[tuple[int, list[Sub]]]:
    return [(i, [sub]) for i, tags in enumerate(parsed.tags) for sub in parsed.subs if sub in tags]


def _shot_dimensions(parsed: Parsed) -> list[tuple[int, list[Sub]]]:
    found = []
    for i, tags in enumerate(parsed.tags):
        for dimension in dict.fromkeys(sub[0] for sub in parsed.subs):
            subs = [sub for sub in parsed.subs if sub[0] == dimension and sub in tags]
            found += [(i, subs)] if len(subs) > 1 else []
    return found


def _shot_snapshots(parsed: Parsed) -> list[tuple[int, list[Sub]]]:
    """Shots labelled in two dimensions at least, all that is known of each."""
    whole = [(i, [sub for sub in parsed.subs if sub in tags]) for i, tags in enumerate(parsed.tags)]
    return [(i, subs) for i, subs in whole if len({sub[0] for sub in subs}) > 1]


def _attribute(kind: str, name: Callable[[list[Sub]], str]):
    def make(parsed: Parsed, target: tuple[int, list[Sub]], rng: Random, templates: Templates) -> QA:
        shot, subs = target
        span = parsed.shots[shot]
        question = rng.choice(templates.wordings[kind]).format(
            **_span_places(span),
            names=name(subs),
            tags=parsed.words.listing(tuple(subs)),
            form=parsed.words.form(tuple(subs)),
        )
        return _segments(kind, question, [_segment(span, parsed.labels(shot, subs))], subs)

    return make


# Retrieval on the timeline


def _tags_to_find(parsed: Parsed) -> list[tuple[Sub, str]]:
    """Tags that occur, and for each sub-dimension a neighbour that does not: `no such stretch` is an answer, too."""
    found = []
    for sub in parsed.subs:
        here = list(dict.fromkeys(tag for tags in parsed.tags for tag in tags.get(sub, ())))
        absent = [tag for tag in parsed.words.near(*sub, here[0]) if tag not in here]
        found += [(sub, tag) for tag in (*here, *absent[:1])]
    return found


def _locate(parsed: Parsed, target: tuple[Sub, str], rng: Random, templates: Templates) -> QA:
    sub, tag = target
    question = rng.choice(templates.wordings["retrieval.locate"]).format(
        names=name_of(sub), tag=tag, form=parsed.words.form(())
    )
    return _segments("retrieval.locate", question, [_segment(span) for span in parsed.where(sub, tag)], [sub])


def _roles_to_find(parsed: Parsed) -> list[str]:
    taxonomy = parsed.words.taxonomy
    skeleton = taxonomy.skeletons[parsed.document.skeleton_type or taxonomy.default_skeleton]
    here = {role for role, _ in parsed.roles}
    absent = [role for role in skeleton.roles if role not in here and role != "other"]
    return [*dict.fromkeys(role for role, _ in parsed.roles if role != "other"), *absent[:1]] if here else []


def _role(parsed: Parsed, role: str, rng: Random, templates: Templates) -> QA:
    question = rng.choice(templates.wordings["retrieval.role"]).format(role=role, form=parsed.words.form(()))
    return _segments("retrieval.role", question, [_segment(span) for name, span in parsed.roles if name == role], [])


def _moment(parsed: Parsed, target: tuple[int, list[Sub]], rng: Random, templates: Templates) -> QA:
    shot, (sub,) = target
    span = parsed.shots[shot]
    time = span.start + (span.end - span.start) * rng.uniform(0.2, 0.8)  # away from the cuts
    question = rng.choice(templates.wordings["retrieval.moment"]).format(
        time=write_time(time), names=name_of(sub), tags=parsed.words.listing((sub,)), form=parsed.words.form((sub,))
    )
    return _segments("retrieval.moment", question, [_segment(span, parsed.labels(shot, [sub]))], [sub])


def _split_subs(parsed: Parsed) -> list[Sub]:
    return [sub for sub in parsed.subs if len(parsed.parts(sub) or ()) > 1]


def _sequence(parsed: Parsed, sub: Sub, rng: Random, templates: Templates) -> QA:
    question = rng.choice(templates.wordings["retrieval.sequence"]).format(
        names=name_of(sub), tags=parsed.words.listing((sub,)), form=parsed.words.form((sub,))
    )
    parts = [_segment(span, parsed.words.labels({sub: tags})) for span, tags in parsed.parts(sub)]
    return _segments("retrieval.sequence", question, parts, [sub])


# Abduction: from what is seen to what it is for


def _changes(parsed: Parsed) -> list[tuple[int, Sub, Sub]]:
    """Cuts at which something seen changes, the shot behind them having one tag that says why: (shot, what changed, why)."""
    changed = [
        [sub for sub in seen if sub in before and set(before[sub]) != set(after[sub])]
        for seen, before, after in zip(parsed.seen[1:], parsed.tags, parsed.tags[1:], strict=False)
    ]
    return [(i, sub, why) for i, why in parsed.intents if i > 0 for sub in changed[i - 1]]


def _evidence(parsed: Parsed, shot: int, subs: list[Sub]) -> str:
    """What is seen, in the taxonomy's own words."""
    said = []
    for sub in subs:
        for tag in parsed.tags[shot][sub]:
            meaning = parsed.words.meaning(sub, tag)
            said.append(f"its {name_of(sub)} is {tag}" + (f" ({meaning})" if meaning else ""))
    return "; ".join(said)


def _why(parsed: Parsed, sub: Sub, tag: str) -> str:
    meaning = parsed.words.meaning(sub, tag)
    return f"This serves {tag}" + (f": {meaning}." if meaning else ".")


def _change(parsed: Parsed, target: tuple[int, Sub, Sub], rng: Random, templates: Templates) -> QA:
    shot, seen, why = target
    (tag,) = parsed.tags[shot][why]
    before, after = (" and ".join(parsed.tags[i][seen]) for i in (shot - 1, shot))
    change = f"the {name_of(seen)} goes from {before} to {after}"
    question = rng.choice(templates.wordings["abduction.change"]).format(
        time=write_time(parsed.shots[shot].start),
        change=change,
        change_first=change[0].upper() + change[1:],
        names=name_of(why),
        tags=", ".join(parsed.words.tags(why)),
    )
    beside = [sub for sub in parsed.seen[shot] if sub != seen]
    shown = [seen, *rng.sample(beside, min(2, len(beside)))]
    evidence = f"At {write_time(parsed.shots[shot].start)} {change}. In the new shot {_evidence(parsed, shot, shown)}."
    return _reasoned("abduction.change", question, f"{evidence} {_why(parsed, why, tag)}", tag, [why])


def _intent(parsed: Parsed, target: tuple[int, Sub], rng: Random, templates: Templates) -> QA:
    shot, why = target
    (tag,) = parsed.tags[shot][why]
    span, seen = parsed.shots[shot], parsed.seen[shot]
    question = rng.choice(templates.wordings["abduction.intent"]).format(
        **_span_places(span), names=name_of(why), tags=", ".join(parsed.words.tags(why))
    )
    words = span_words(span)
    evidence = f"{words[0].upper()}{words[1:]} {_evidence(parsed, shot, rng.sample(seen, min(3, len(seen))))}."
    return _reasoned("abduction.intent", question, f"{evidence} {_why(parsed, why, tag)}", tag, [why])


# Correction of a perturbed report


def _reports(parsed: Parsed) -> list[Sub]:
    """One perturbed report a sub-dimension that can be mistaken: that one is wrong, and perhaps others."""
    return list(dict.fromkeys(sub for _, sub in parsed.confusable))


def _report(parsed: Parsed, sub: Sub, rng: Random, templates: Templates) -> QA:
    places = parsed.confusable
    wrong = [rng.choice([place for place in places if place[1] == sub])]
    others = [place for place in places if place not in wrong]
    wrong = sorted({*wrong, *rng.sample(others, min(len(others), rng.randrange(WRONG_LABELS)))})
    swapped = {(i, s): rng.choice(parsed.words.near(*s, parsed.tags[i][s][0])) for i, s in wrong}
    subs = [s for s in parsed.subs if s in {s for _, s in wrong} or rng.random() < 0.3]
    report = []
    for i, span in enumerate(parsed.shots):
        said = {s: (swapped[i, s],) if (i, s) in swapped else parsed.tags[i][s] for s in subs if s in parsed.tags[i]}
        report.append(_segment(span, parsed.words.labels(said)))
    question = rng.choice(templates.wordings["correction.report"]).format(
        report=encode(report), form=parsed.words.form(tuple(sorted({s for _, s in wrong}, key=parsed.subs.index)))
    )
    corrected = [
        _segment(parsed.shots[i], parsed.labels(i, [s for j, s in wrong if j == i]))
        for i in dict.fromkeys(i for i, _ in wrong)
    ]
    thought = " ".join(_correction(parsed, i, s, swapped[i, s]) for i, s in wrong)
    return _segments("correction.report", question, corrected, sorted({s for _, s in wrong}), thought)


def _correction(parsed: Parsed, shot: int, sub: Sub, said: str) -> str:
    (tag,) = parsed.tags[shot][sub]
    meaning = parsed.words.meaning(sub, tag)
    words = span_words(parsed.shots[shot])
    return f"{words[0].upper()}{words[1:]} the {name_of(sub)} is not {said} but {tag}" + (
        f": {meaning}." if meaning else "."
    )


# Multiple choice


def _choosable(parsed: Parsed) -> list[tuple[int, Sub]]:
    """Labels with one tag in a sub-dimension of as many tags as there are letters."""
    return [(i, sub) for i, sub in parsed.confusable if len(parsed.words.tags(sub)) >= len(LETTERS)]


def _choice(parsed: Parsed, target: tuple[int, Sub], rng: Random, templates: Templates) -> QA:
    """Distractors are the nearest tags first: what it would be mistaken for."""
    shot, sub = target
    (tag,) = parsed.tags[shot][sub]
    near = [*parsed.words.near(*sub, tag)]
    far = [other for other in parsed.words.tags(sub) if other != tag and other not in near]
    options = [tag, *(near + rng.sample(far, len(far)))[: len(LETTERS) - 1]]
    rng.shuffle(options)
    span, letter = parsed.shots[shot], LETTERS[options.index(tag)]
    question = rng.choice(templates.wordings["choice.single"]).format(
        **_span_places(span),
        names=name_of(sub),
        options="\n".join(f"{a}. {o}" for a, o in zip(LETTERS, options, strict=True)),
    )
    words = span_words(span)
    thought = f"{words[0].upper()}{words[1:]} {_evidence(parsed, shot, [sub])}."
    return _reasoned("choice.single", question, thought, letter, [sub])


KINDS: Mapping[str, Kind] = {
    "attribute.single": Kind(_shot_subs, _attribute("attribute.single", lambda subs: name_of(subs[0]))),
    "attribute.dimension": Kind(
        _shot_dimensions, _attribute("attribute.dimension", lambda subs: subs[0][0].replace("_", " "))
    ),
    "attribute.snapshot": Kind(
        _shot_snapshots,
        _attribute("attribute.snapshot", lambda subs: ", ".join(dict.fromkeys(s[0].replace("_", " ") for s in subs))),
    ),
    "retrieval.locate": Kind(_tags_to_find, _locate),
    "retrieval.role": Kind(_roles_to_find, _role),
    "retrieval.moment": Kind(_shot_subs, _moment),
    "retrieval.sequence": Kind(_split_subs, _sequence),
    "abduction.change": Kind(_changes, _change),
    "abduction.intent": Kind(lambda parsed: [*parsed.intents], _intent),
    "correction.report": Kind(_reports, _report),
    "choice.single": Kind(_choosable, _choice),
}
"""All kinds, in the order of the four families, then multiple choice."""
