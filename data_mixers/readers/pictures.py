"""Pictures that readers make: crops of words, drawn ink. Each is named by what it shows, so that no other one is taken for it."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from PIL import Image

from ..whole import written_whole


def made_picture(folder: Path, name: str, shows: object, make: Callable[[], Image.Image]) -> Path:
    """`<folder>/<name>-<digest>.png`, made where it is not there yet.

    Args:
        name: for people; pictures of different data may share it.
        shows: all that the picture depends on; its `repr` tells one picture from another.
    """
    digest = hashlib.sha256(repr(shows).encode()).hexdigest()[:16]
    path = folder / f"{name.replace('/', '_')}-{digest}.png"
    if not path.exists():
        picture = make()
        with written_whole(path) as partial:
            picture.save(partial, "PNG")
    return path


def content_of(picture: Path) -> str:
    """A digest of a file's content, asked once a file while it stays as it is."""
    stat = picture.stat()
    return _content(picture, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1024)
def _content(picture: Path, size: int, changed: int) -> str:
    with picture.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
