"""Dual-view dense captions (figure 2 of the report: path A expressive, path B info-dense), written by a model from a document and
frames of each of its shots; what is checked of them, is checked against the document."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event, Lock
from typing import Any, NamedTuple

from ...data_mixers import lines
from ...schema import Taxonomy
from ...schema.clock import SPAN, Span, find_spans, write_time
from ...schema.document import Document, Shot
from ...schema.outputs import find_tags
from ..annotation.shots import UnreadableVideo, inside, pictures
from ..annotation.store import fingerprint
from ..endpoint import Endpoint, EndpointError, object_schema

VERSION = 1
"""Of the request; captions that were asked for in another way are asked for again."""
VIEWS: Mapping[str, str] = {
    "expressive": (
        "You write about videos for people who love them. You see the shots of a video, each with its times, its labels and frames. "
        "Write one flowing caption of the whole: what happens, how it is told, what it makes one feel. Prose without headings, "
        "lists or times. Say nothing that neither labels nor frames show."
    ),
    "dense": (
        "You log videos for editors. You see the shots of a video, each with its times, its labels and frames. Write one paragraph "
        "with an entry for each shot, in order. Each entry begins with the times of its shot in brackets, exactly as they are "
        "given, and then says in one to three full sentences what is seen, how it is framed, lit, moved and cut, and what it is "
        "for, using its labels in their exact words. Name no label of the vocabulary that a shot is not given, and no other times."
    ),
}
"""The instruction of each view."""
CAPTION = object_schema({"caption": {"type": "string"}})


class Caption(NamedTuple):
    """One view of one video."""

    view: str
    text: str
    """Empty where the model gave none."""
    reason: str | None
    """Why it cannot be used; None where it can."""


class Captioned(NamedTuple):
    """Both views of one document."""

    document: Document
    captions: tuple[Caption, ...]
    asked: int
    """How many of them the model was asked for anew."""


class Captioner:
    """
    Args:
        store: a file of what the model wrote, which is only added to: nothing is asked twice.
        root: the folder that the documents' `video` names start from.
        frames: of each shot.
        longest_side: of a frame, in pixels.
    """

    def __init__(
        self, endpoint: Endpoint, store: Path, root: Path, taxonomy: Taxonomy, frames: int = 2, longest_side: int = 512
    ):
        self.endpoint, self.store, self.root, self.taxonomy = endpoint, store, root, taxonomy
        self.frames, self.longest_side = frames, longest_side
        self._writing = Lock()
        self._known = {row["key"]: row["text"] for row in lines.read(store) if {"key", "text"} <= row.keys()}

    def captions(self, documents: Iterable[Document], workers: int) -> Iterator[Captioned]:
        """Captions of sound documents, as they are done; close it to end the run."""
        ended = Event()
        with ThreadPoolExecutor(workers) as pool:
            jobs = [pool.submit(self.caption, document, lambda: not ended.is_set()) for document in documents]
            try:
                for job in as_completed(jobs):
                    yield job.result()
            finally:  # an interrupt waits for the captions on their way only
                ended.set()
                pool.shutdown(cancel_futures=True)

    def caption(self, document: Document, goes_on: Callable[[], bool] = lambda: True) -> Captioned:
        """Both views; each is in the store when it arrives. Never raises for what a video or a reply holds: that is a reason.

        Args:
            goes_on: asked before each request.

        Raises:
            CancelledError: the run does not go on.
        """
        captions, asked, path = [], 0, self.root / document.video
        shown: list[str] = []
        for view, system in VIEWS.items():
            try:
                key = self._key(system, document, path)
                text = self._known.get(key)
                if text is None:
                    if not goes_on():
                        raise CancelledError
                    shown = shown or self._frames(document, path)
                    chat = [
                        {"role": "system", "content": system},
                        {"role": "user", "content": self._told(document, shown)},
                    ]
                    text = str(self.endpoint.ask(chat, CAPTION, temperature=0.7, seed=int(key[:7], 16)).said["caption"])
                    asked += 1
                    with self._writing:
                        lines.append(self.store, [{"key": key, "video": document.video, "view": view, "text": text}])
            except (EndpointError, UnreadableVideo, OSError) as error:
                captions.append(Caption(view, "", str(error)))
                continue
            text = text.strip()
            check = dense_fault if view == "dense" else expressive_fault
            captions.append(Caption(view, text, check(text, document, self.taxonomy)))
        return Captioned(document, tuple(captions), asked)

    def _key(self, system: str, document: Document, path: Path) -> str:
        request = [
            VERSION,
            self.endpoint.model,
            system,
            document.to_json(),
            fingerprint(path),
            self.frames,
            self.longest_side,
        ]
        return hashlib.sha256(json.dumps(request).encode()).hexdigest()

    def _frames(self, document: Document, path: Path) -> list[str]:
        times = [time for shot in document.shots for time in inside(Span(shot.start, shot.end), self.frames)]
        return [*pictures(path, times, self.longest_side)]

    def _told(self, document: Document, shown: list[str]) -> list[dict[str, Any]]:
        """The shots in order, each its words, then its frames."""
        parts: list[dict[str, Any]] = []
        for i, shot in enumerate(document.shots):
            parts.append({"type": "text", "text": f"Shot {i + 1} of {len(document.shots)}, {_words(shot)}"})
            frames = shown[i * self.frames : (i + 1) * self.frames]
            parts += [{"type": "image_url", "image_url": {"url": url}} for url in frames]
        return [*parts, {"type": "text", "text": "Answer with JSON alone."}]


def dense_fault(text: str, document: Document, taxonomy: Taxonomy) -> str | None:
    """Why an info-dense caption contradicts its document: the times of each shot must open its entry, in order, and the tags
    that an entry names must not be others than the shot's own. None where it does not."""
    if fault := _markup(text):
        return fault
    told, true = find_spans(text), [Span(shot.start, shot.end) for shot in document.shots]
    for i, span in enumerate(true):
        if i >= len(told) or str(told[i]) != str(span):
            found = f"{told[i]} stands in their place" if i < len(told) else "the text has no more times"
            return f"shots[{i}]: its times {span} are missing or out of order; {found}"
    if len(told) > len(true):
        return f"{told[len(true)]}: times behind those of the last shot"
    entries = SPAN.split(text)[3::3]  # each match gives its two groups, then what follows it
    for i, (entry, shot) in enumerate(zip(entries, document.shots, strict=True)):
        own = {
            tag
            for dimension, subs in shot.labels.items()
            for sub in subs
            for tag in _tags(shot, dimension, sub, taxonomy)
        }
        for dimension, subs in shot.labels.items():
            for sub in subs:
                if wrong := [tag for tag in find_tags(entry, dimension, sub, taxonomy) if tag not in own]:
                    labels = ", ".join(_tags(shot, dimension, sub, taxonomy))
                    return f"shots[{i}].{dimension}.{sub}: the caption says {wrong[0]!r}, the document {labels!r}"
    return None


def expressive_fault(text: str, document: Document, taxonomy: Taxonomy) -> str | None:
    """Why an expressive caption cannot be used; it is free to say what it likes, but not of what lies behind the video's end."""
    late = [span for span in find_spans(text) if span.end > document.duration + 0.1]
    return _markup(text) or (f"{late[0]} ends after the video ({document.duration:g} s)" if late else None)


def _markup(text: str) -> str | None:
    if not any(map(str.isalpha, text)):
        return "the caption is empty"
    return "the caption holds markup (<)" if "<" in text else None


def _tags(shot: Shot, dimension: str, sub: str, taxonomy: Taxonomy) -> list[str]:
    return [taxonomy.canonical(dimension, sub, tag) for tag in shot.tags(dimension, sub)]


def _words(shot: Shot) -> str:
    labels = "; ".join(
        f"{sub.replace('_', ' ')}: {', '.join(shot.tags(dimension, sub))}"
        for dimension, subs in shot.labels.items()
        for sub in subs
    )
    role = f"role in the story: {shot.role}; " if shot.role else ""
    return f"[{write_time(shot.start)}–{write_time(shot.end)}]. {role}{labels}"
