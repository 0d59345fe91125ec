"""Length and frame rate of a video file, for annotations that do not say them."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import av

from .found import Unusable


class Film(NamedTuple):
    seconds: float
    frames_a_second: float


@lru_cache(maxsize=65536)
def probe(path: Path) -> Film:
    """
    Raises:
        Unusable: no such file, or none that PyAV opens.
    """
    if not path.is_file():
        raise Unusable(f"{path} is missing, and only the file says how long it is")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 0)
            seconds = (
                float(stream.duration * stream.time_base)
                if stream.duration
                else (container.duration or 0) / av.time_base
            )
    except (av.FFmpegError, IndexError) as error:
        raise Unusable(f"{path} cannot be opened: {error}") from error
    if not (seconds > 0 and rate > 0):
        raise Unusable(f"{path} says neither its length nor its frame rate")
    return Film(seconds, rate)


def length(path: Path, known: dict[str, float], *names: str) -> float:
    """The length of a video: as it is known under one of its names, else as the file says."""
    return next((known[name] for name in names if name in known), None) or probe(path).seconds


def find_media(folder: Path, name: str, suffixes: tuple[str, ...] = (".mp4", ".mkv", ".webm", ".avi", ".mov")) -> Path:
    """The media file of a name that may lack its suffix: the first that exists, else the name with the first suffix."""
    if Path(name).suffix.lower() in suffixes:
        return folder / name
    paths = [folder / f"{name}{suffix}" for suffix in suffixes]
    return next((path for path in paths if path.is_file()), paths[0])
