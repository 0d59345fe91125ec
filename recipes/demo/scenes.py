"""Pieces of footage that several makers start from: a scene, a face, one subject in two sizes; and how they choose among them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from . import edits
from .edits import Frames
from .footage import FRAMINGS, Run, Stock, Window, faces

SIZE = 128  # pixels of a film's side


def choice(rng: np.random.Generator, options: Sequence):
    """One of the options."""
    return options[int(rng.integers(len(options)))]


def different(rng: np.random.Generator, options: Sequence, count: int) -> list:
    """`count` options in random order, all different as long as there are enough; neighbours always differ."""
    order = rng.permutation(len(options))
    return [options[order[index % len(options)]] for index in range(count)]


def random_window(rng: np.random.Generator, low: float, high: float) -> Window:
    """A window near the middle with a side between `low` and `high`."""
    return Window(*rng.uniform(0.3, 0.7, 2), rng.uniform(low, high))


def nudged(rng: np.random.Generator, window: Window) -> Window:
    """The window, moved and resized so little that it still shows the same."""
    dx, dy = rng.uniform(-0.03, 0.03, 2) * window.side
    return Window(window.x + dx, window.y + dy, window.side * rng.uniform(0.93, 1.05))


def scene(rng: np.random.Generator, stock: Stock, count: int, source: str | Run | None = None) -> Frames:
    """A stretch of footage (any, or the one named) through a window that stands still."""
    source = source if source is not None else choice(rng, stock.runs() + stock.photos())
    return edits.reframe(stock.frames(source, count, rng), random_window(rng, 0.6, 1.0), SIZE)


def sizes_of_one_subject(rng: np.random.Generator, stock: Stock, count: int) -> tuple[Frames, Frames]:
    """One subject in two tags of `shot_size`: wide and tight, `count` frames each."""
    size = ["long shot", "medium shot", "close-up", "extreme close-up"].index
    pairs = [
        (wide, tight)
        for wide in FRAMINGS[stock.split]
        for tight in FRAMINGS[stock.split]
        if wide.file == tight.file and size(wide.tag) < size(tight.tag)
    ]
    return tuple(edits.reframe(stock.frames(f.source, count, rng), f.window, SIZE) for f in choice(rng, pairs))


def face(rng: np.random.Generator, stock: Stock, height: int) -> np.ndarray:
    """A real face with its contrast evened out: (height, height, 3)."""
    face = choice(rng, faces(stock.split)).astype(float)
    face = np.clip((face - face.mean()) / max(face.std(), 1) * 55 + 150, 0, 255).astype(np.uint8)
    return resized(face[..., None].repeat(3, -1), height, height)


def resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """The picture, (h, w, 3), at another size."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), Image.BILINEAR))
