"""The whole way of one video, and of many: on threads of this machine, or on a Ray cluster through Ray Data."""

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import closing
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

from ...schema import Taxonomy
from ...schema.clock import Span
from ...schema.document import Document
from ..endpoint import Endpoint, EndpointError
from .prefill import Answer, prefill
from .questions import ROLE, Asked, digest, question
from .rules import Limits, Removal, judge
from .shots import DETECTOR, UnreadableVideo, find_shots, inside, pictures
from .store import Cut, Known, Told, fingerprint

NOTHING = Known({}, {})
Question = tuple[int, Asked, str]
"""The place of a shot from 0, what is asked about it, and the digest of that."""
Keep = Callable[[Cut | Told], None]
"""Stores what was found out."""


class Settings(NamedTuple):
    """What every video of a run is annotated with."""

    endpoint: Endpoint
    root: Path
    """The folder that videos are named from."""
    dimensions: tuple[str, ...]
    skeleton: str
    limits: Limits = Limits()
    frames: int = 4
    """Frames of a shot that the model sees."""
    longest_side: int = 512
    """Pixels."""
    taxonomy: Path | None = None


class Done(NamedTuple):
    """What became of one video."""

    video: str
    document: Document | None
    reasons: tuple[str, ...]
    """Why there is no document."""
    removed: tuple[Removal, ...]
    found: tuple[Cut | Told, ...]
    """What was found out anew: its shots, answers."""

    @property
    def asked(self) -> int:
        """How many questions were asked anew."""
        return sum(isinstance(found, Told) for found in self.found)


def annotate_video(
    video: str,
    settings: Settings,
    known: Known,
    keep: Keep = lambda found: None,
    goes_on: Callable[[], bool] = lambda: True,
) -> Done:
    """Find its shots, ask what is not known, judge. Never raises for what a video or an answer holds: that is a reason.

    Args:
        keep: called for its shots, where they were sought anew, and for each answer, as it arrives.
        goes_on: asked before each question.

    Raises:
        CancelledError: the run does not go on.
    """
    taxonomy, path = Taxonomy.load(settings.taxonomy), settings.root / video
    fresh: list[Cut | Told] = []

    def found(what: Cut | Told) -> None:
        keep(what)
        fresh.append(what)

    try:
        mark = fingerprint(path)
        cut = known.cuts.get(mark)
        if cut is None:
            cut = Cut(video, mark, DETECTOR, *find_shots(path))
            found(cut)
        spans, answers, unknown = cut.spans, {}, []
        for i, asked, key in _questions(spans, settings, taxonomy):
            if answer := known.answers.get((mark, spans[i].start, key)):
                answers[i, asked.about] = answer
            else:
                unknown.append((i, asked, key))
        for (i, asked, key), answer in _ask(unknown, path, spans, settings, goes_on):
            found(Told(video, mark, *spans[i], asked.about, settings.endpoint.model, key, *answer))
            answers[i, asked.about] = answer
    except (UnreadableVideo, EndpointError, OSError) as error:
        return Done(video, None, (str(error),), (), tuple(fresh))
    verdict = judge(
        video,
        spans[-1].end,
        spans,
        cut.sudden,
        answers,
        list(settings.dimensions),
        taxonomy,
        settings.skeleton,
        settings.limits,
    )
    return Done(video, verdict.document, verdict.reasons, verdict.removed, tuple(fresh))


def _questions(spans: list[Span], settings: Settings, taxonomy: Taxonomy) -> Iterator[Question]:
    for i in range(len(spans)):
        for about in (*settings.dimensions, ROLE):
            asked = question(about, i, spans, taxonomy, settings.skeleton)
            yield i, asked, digest(asked, (settings.frames, settings.longest_side))


def _ask(
    questions: list[Question], path: Path, spans: list[Span], settings: Settings, goes_on: Callable[[], bool]
) -> Iterator[tuple[Question, Answer]]:
    """Each question, by shots in order, with its answer; the film is decoded once for all of them."""
    times = [time for i in dict.fromkeys(i for i, _, _ in questions) for time in inside(spans[i], settings.frames)]
    with closing(pictures(path, times, settings.longest_side)) as film:
        for _, of_shot in groupby(questions, key=itemgetter(0)):
            shown = [*islice(film, settings.frames)]
            for asked in of_shot:
                if not goes_on():
                    raise CancelledError
                yield asked, prefill(settings.endpoint, asked[1], shown)


def annotate_here(
    videos: list[str], settings: Settings, known: dict[str, Known], workers: int, keep: Keep
) -> Iterator[Done]:
    """On threads: the work is the endpoint's. Yields videos as they are done; close it to end the run.

    Args:
        keep: called for what is found out, as it arrives, on any thread.
    """
    ended = Event()
    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(annotate_video, video, settings, known.get(video, NOTHING), keep, lambda: not ended.is_set())
            for video in videos
        ]
        try:
            for job in as_completed(jobs):
                yield job.result()
        finally:  # an interrupt waits for the questions on their way only
            ended.set()
            pool.shutdown(cancel_futures=True)


def annotate_on_ray(
    videos: list[str], settings: Settings, known: dict[str, Known], workers: int, keep: Keep, address: str
) -> Iterator[Done]:
    """The same on a Ray cluster, through Ray Data: the videos' folder and the endpoint must be reachable from its nodes. What is
    found out of a video is kept when the whole video is done, as the files are this process's.

    Raises:
        ConnectionError: no cluster at that address.
    """
    import ray

    if not ray.is_initialized():
        ray.init(address, log_to_driver=False)
    rows = [{"video": video, "known": pickle.dumps(known.get(video, NOTHING))} for video in videos]
    data = ray.data.from_items(rows, override_num_blocks=max(1, min(len(rows), 4 * workers)))
    for row in data.map(partial(_row, settings=settings), concurrency=workers).iter_rows():
        for found in row["done"].found:
            keep(found)
        yield row["done"]


def _row(row: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {"done": annotate_video(row["video"], settings, pickle.loads(row["known"]))}
