"""The whole way of one video, and of many: on threads of this machine, or on a Ray cluster through Ray Data."""

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ...schema import Taxonomy
from ...schema.document import Document
from ..endpoint import Endpoint, EndpointError
from .prefill import Answer, prefill
from .questions import ROLE, digest, question
from .rules import Limits, Removal, judge
from .shots import DETECTOR, UnreadableVideo, find_shots, inside, pictures
from .store import Cut, Known, Told, fingerprint

NOTHING = Known({}, {})


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
    cut: Cut | None
    """Its shots, where they were sought anew."""
    answers: tuple[Told, ...]
    """What the model was asked anew."""


def annotate_video(video: str, settings: Settings, known: Known) -> Done:
    """Find its shots, ask what is not known, judge. Never raises for what a video or an answer holds: that is a reason."""
    taxonomy, path = Taxonomy.load(settings.taxonomy), settings.root / video
    new, fresh = None, []
    try:
        mark = fingerprint(path)
        cut = known.cuts.get(mark)
        if cut is None:
            cut = new = Cut(video, mark, DETECTOR, *find_shots(path))
        spans = cut.spans
        answers: dict[tuple[int, str], Answer] = {}
        for i, span in enumerate(spans):
            shown: list[str] = []
            for about in (*settings.dimensions, ROLE):
                asked = question(about, i, spans, taxonomy, settings.skeleton)
                key = digest(asked, (settings.frames, settings.longest_side))
                answer = known.answers.get((mark, span.start, key))
                if answer is None:
                    shown = shown or pictures(path, inside(span, settings.frames), settings.longest_side)
                    answer = prefill(settings.endpoint, asked, shown)
                    fresh.append(Told(video, mark, *span, about, settings.endpoint.model, key, *answer))
                answers[i, about] = answer
    except (UnreadableVideo, EndpointError, OSError) as error:
        return Done(video, None, (str(error),), (), new, tuple(fresh))
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
    return Done(video, verdict.document, verdict.reasons, verdict.removed, new, tuple(fresh))


def annotate_here(videos: list[str], settings: Settings, known: dict[str, Known], workers: int) -> Iterator[Done]:
    """On threads: the work is the endpoint's. Yields videos as they are done."""
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(annotate_video, video, settings, known.get(video, NOTHING)) for video in videos]
        try:
            for job in as_completed(jobs):
                yield job.result()
        finally:  # an interrupt waits for the videos in work only
            pool.shutdown(cancel_futures=True)


def annotate_on_ray(
    videos: list[str], settings: Settings, known: dict[str, Known], workers: int, address: str
) -> Iterator[Done]:
    """The same on a Ray cluster, through Ray Data: the videos' folder and the endpoint must be reachable from its nodes.

    Raises:
        ConnectionError: no cluster at that address.
    """
    import ray

    if not ray.is_initialized():
        ray.init(address, log_to_driver=False)
    rows = [{"video": video, "known": pickle.dumps(known.get(video, NOTHING))} for video in videos]
    data = ray.data.from_items(rows, override_num_blocks=max(1, min(len(rows), 4 * workers)))
    for row in data.map(partial(_row, settings=settings), concurrency=workers).iter_rows():
        yield row["done"]


def _row(row: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {"done": annotate_video(row["video"], settings, pickle.loads(row["known"]))}
