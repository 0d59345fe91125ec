"""Questions and thoughts in a model's words ("LLM-phrased", section 3.1.3): how a thing is asked may change, what is asked may not.

The model sees the wording with its short places filled in (times, names, a tag) and its long ones (`{tags}`, `{form}`, ...) as
they stand, which are filled in behind it. The answer's checked part is never shown to it. A rephrasing that loses or adds what
matters is refused, and the template stays.
"""

import hashlib
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from ...data_mixers import lines
from ...schema import Taxonomy
from ...schema.document import Document
from ...schema.outputs import find_tags
from ..endpoint import Endpoint, EndpointError, object_schema
from .questions import QA

VERSION = 1
"""Of the request; phrasings that were asked for in another way are asked for again."""
LONG = ("tags", "form", "options", "report")
"""Places that the model does not see filled in."""
GIVE_UP = 20
"""Failures in a row after which a shard asks no more: an endpoint that is gone costs its phrasings, not hours."""
LONGEST = 1024
"""Tokens of a reply."""
AHEAD = 32
"""Documents whose questions may be on their way at a time."""

SYSTEM = (
    "You rewrite questions about videos, and the reasoning of their answers, so that they read as if different people had "
    "written them. Keep the meaning and add nothing: no hint, no time, no label. Keep every time, every label, every name of "
    "what is asked, every form like <think>...</think><answer>...</answer>, and each {placeholder} exactly as it is written."
)
FORM = re.compile(r"<think>.*?</think>(?:<answer>.*?</answer>)?")
NUMBER = re.compile(r"\d+(?:[:.]\d+)*")
THOUGHT = re.compile(r"<think>(.*)</think>", re.DOTALL)


class Phrasing(NamedTuple):
    """Whose words, and how often."""

    url: str
    model: str
    share: float = 0.3
    """Of the pairs that are phrased, from 0 to 1."""
    requests: int = 16
    """At a time, of each process."""


@dataclass
class Tally:
    """What became of the pairs that were to be phrased."""

    phrased: int = 0
    refused: int = 0
    failed: int = 0
    first: dict[str, str] = field(default_factory=dict)
    """`refused` and `failed` -> the first reason."""

    def count(self, what: str, why: str) -> None:
        setattr(self, what, getattr(self, what) + 1)
        self.first.setdefault(what, why)


class Phraser:
    """Phrases the questions of one shard; what the model said is kept in `store`, so that nothing is asked twice.

    Args:
        store: a file of this shard alone, which is only added to.
    """

    def __init__(self, phrasing: Phrasing, store: Path, taxonomy: Taxonomy):
        self.phrasing, self.store, self.taxonomy = phrasing, store, taxonomy
        self.endpoint = Endpoint(phrasing.url, phrasing.model)
        self.tally = Tally()
        self._known = {row["key"]: row["said"] for row in lines.read(store) if {"key", "said"} <= row.keys()}
        self._failures, self._writing = 0, Lock()

    def phrase(self, asked: Iterable[tuple[Document, list[QA]]]) -> Iterator[tuple[Document, list[QA]]]:
        """The same documents in the same order, a share of their questions in the model's words."""
        with ThreadPoolExecutor(self.phrasing.requests) as pool:
            waiting: deque[tuple[Document, list[QA], list[Future | None]]] = deque()
            try:
                for document, qas in asked:
                    waiting.append((document, qas, [self._submit(pool, document, qa) for qa in qas]))
                    if len(waiting) > AHEAD:
                        yield self._finish(*waiting.popleft())
                while waiting:
                    yield self._finish(*waiting.popleft())
            finally:  # an interrupt waits for the requests in work only
                pool.shutdown(cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, document: Document, qa: QA) -> Future | None:
        request = _request(qa)
        key = _key(self.phrasing.model, document.video, request)
        # the key is as good as a die, and falls alike in every run
        return pool.submit(self._ask, key, request) if int(key[:8], 16) < self.phrasing.share * 2**32 else None

    def _ask(self, key: str, request: dict[str, str]) -> dict[str, Any] | EndpointError:
        """What the model says, now or in an earlier run; or why it does not."""
        if key in self._known:
            return self._known[key]
        if self._failures >= GIVE_UP:
            return EndpointError(f"{self.phrasing.url} failed {GIVE_UP} times in a row and was asked no more")
        chat = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": json.dumps(request)}]
        schema = object_schema({name: {"type": "string"} for name in request})
        try:
            reply = self.endpoint.ask(chat, schema, temperature=1.0, seed=int(key[:7], 16), max_tokens=LONGEST)
        except EndpointError as error:
            self._failures += 1
            return error
        self._failures = 0
        with self._writing:
            if key not in self._known:  # else another thread asked the same at the same time, and its answer counts
                self._known[key] = reply.said
                lines.append(self.store, [{"key": key, "said": reply.said}])
            return self._known[key]

    def _finish(self, document: Document, qas: list[QA], replies: list[Future | None]) -> tuple[Document, list[QA]]:
        return document, [
            self._worded(qa, reply.result()) if reply else qa for qa, reply in zip(qas, replies, strict=True)
        ]

    def _worded(self, qa: QA, said: dict[str, Any] | EndpointError) -> QA:
        if isinstance(said, EndpointError):
            self.tally.count("failed", str(said))
        elif why := refusal(qa, said, self.taxonomy):
            self.tally.count("refused", f"{qa.kind}: {why}")
        else:
            self.tally.phrased += 1
            return reword(qa, said)
        return qa


def shown(qa: QA) -> str:
    """A question as the model sees it: its long places are names in braces."""
    template, places = qa.wording
    return template.format(**{**places, **{name: f"{{{name}}}" for name in LONG if name in places}})


def thought_of(qa: QA) -> str:
    """The reasoning in front of an answer; empty where there is none."""
    found = THOUGHT.match(qa.answer)
    return found[1] if found else ""


def refusal(qa: QA, said: dict[str, Any], taxonomy: Taxonomy) -> str | None:
    """Why a rephrasing cannot stand for its template; None where it can."""
    request = _request(qa)
    for name, template in request.items():
        text = said.get(name)
        if not isinstance(text, str) or not text.strip():
            return f"the {name} is empty"
        if len(text) > 3 * len(template) + 200:
            return f"the {name} is {len(text)} characters long, its template {len(template)}"
        if {*NUMBER.findall(text)} != {*NUMBER.findall(template)}:
            return f"the {name} has other times or numbers than its template"
        if "<" in FORM.sub("", text) or FORM.findall(text) != FORM.findall(template):
            return f"the {name} has another form of the answer than its template"
    return (
        _lost(qa, said["question"], taxonomy)
        or ("thought" in request and _untrue(qa, said["thought"], taxonomy))
        or None
    )


def reword(qa: QA, said: dict[str, Any]) -> QA:
    """The pair in these words; the answer behind its thought stays as it is."""
    question = said["question"].strip()
    for name in LONG:
        if name in qa.wording.places:
            question = question.replace(f"{{{name}}}", qa.wording.places[name])
    if "thought" not in _request(qa):
        return qa._replace(question=question)
    rest = qa.answer[qa.answer.index("</think>") :]
    return qa._replace(question=question, answer=f"<think>{said['thought'].strip()}{rest}")


def _lost(qa: QA, text: str, taxonomy: Taxonomy) -> str | None:
    """What a question lost of its template, or told beside it."""
    template = shown(qa)
    for name in LONG:
        if text.count(f"{{{name}}}") != template.count(f"{{{name}}}"):
            return f"the question has not {{{name}}} as often as its template"
    bare = text
    for name in LONG:
        bare = bare.replace(f"{{{name}}}", "")
    if "{" in bare or "}" in bare:
        return "the question has braces that are no place"
    held = [
        *qa.wording.places.get("names", "").split(", "),
        qa.wording.places.get("tag", ""),
        qa.wording.places.get("role", ""),
    ]
    if lost := [name for name in held if name.lower() not in text.lower()]:
        return f"the question does not say {lost[0]!r}"
    for sub in dict.fromkeys([*qa.subs, *(sub for sub, _ in qa.facts)]):  # in a fixed order: files hold the reason
        told, meant = find_tags(bare, *sub, taxonomy), find_tags(template, *sub, taxonomy)
        if told != meant:
            return f"the question names other tags of {'.'.join(sub)} than its template, or in another order: {told}"
    return None


def _untrue(qa: QA, text: str, taxonomy: Taxonomy) -> str | None:
    """What a thought leaves out of its evidence, or names beside it."""
    template = thought_of(qa)
    for sub in dict.fromkeys(sub for sub, _ in qa.facts):
        told, meant = find_tags(text, *sub, taxonomy), find_tags(template, *sub, taxonomy)
        facts = {tag for of, tag in qa.facts if of == sub}  # definitions may name others, which need not be said
        if not {*told} <= {*meant} or [t for t in told if t in facts] != [t for t in meant if t in facts]:
            return (
                f"the thought names {told} of {'.'.join(sub)}, its evidence is {sorted(facts)}, in the template's order"
            )
    return None


def _request(qa: QA) -> dict[str, str]:
    thought = thought_of(qa)
    return {"question": shown(qa), "thought": thought} if thought else {"question": shown(qa)}


def _key(model: str, video: str, request: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps([VERSION, SYSTEM, model, video, request]).encode()).hexdigest()
