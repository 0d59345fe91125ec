"""The edits whose effect is known: small pure functions on frames, (T, H, W, 3) uint8, that return new frames.

Times are frame numbers; positions are pixels (x to the right, y down). A transition joins two layers of the same length.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from .footage import Window

Frames = np.ndarray
Color = tuple[int, int, int]


# ---- the virtual camera -------------------------------------------------------------------------------------------------
def reframe(frames: Frames, windows: Window | Sequence[Window], size: int) -> Frames:
    """What a camera that sees `windows` (one, or one a frame) of each picture shows: (T, size, size, 3).

    Windows that reach over the edge are moved inside.
    """
    if isinstance(windows, Window):
        if frames.strides[0] == 0:  # one still, one window: one picture
            return reframe(frames[:1], [windows], size).repeat(len(frames), 0)
        windows = [windows] * len(frames)
    height, width = frames.shape[1:3]
    shown = []
    for frame, window in zip(frames, windows, strict=True):
        side = min(window.side * height, height, width)
        left = min(max(window.x * width - side / 2, 0), width - side)
        top = min(max(window.y * height - side / 2, 0), height - side)
        x, y = int(left), int(top)
        part = Image.fromarray(np.ascontiguousarray(frame[y : ceil(top + side), x : ceil(left + side)]))
        box = (left - x, top - y, left - x + side, top - y + side)
        shown.append(np.asarray(part.resize((size, size), Image.BILINEAR, box=box, reducing_gap=1.0)))
    return np.stack(shown)


def zoom(window: Window, factor: float, count: int) -> list[Window]:
    """Windows of a zoom round one point: the last is the first enlarged by `factor` (above 1 = zoom in), at an even rate."""
    sides = window.side * factor ** -np.linspace(0, 1, count)
    return [window._replace(side=float(side)) for side in sides]


def pan(window: Window, dx: float, dy: float, count: int) -> list[Window]:
    """Windows of a pan or tilt by (dx, dy), in fractions of the picture, at an even rate."""
    return [Window(window.x + dx * u, window.y + dy * u, window.side) for u in np.linspace(0, 1, count)]


def shake(window: Window, amount: float, count: int, rng: np.random.Generator) -> list[Window]:
    """Windows of a hand-held camera: each thrown to a random side of the last, by `amount` of the picture."""
    angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.uniform(0.6 * np.pi, 1.4 * np.pi, count))
    return [Window(window.x + amount * np.cos(a), window.y + amount * np.sin(a), window.side) for a in angle]


# ---- transitions ----------------------------------------------------------------------------------------------------------
def progress(count: int, at: int, width: int) -> np.ndarray:
    """How far a transition that is `width` frames long and half done at frame `at` has come, 0 to 1: (T,)."""
    if width == 0:
        return (np.arange(count) >= at).astype(float)
    return np.clip((np.arange(count) + 0.5 - at) / width + 0.5, 0, 1)


def cut(first: Frames, second: Frames, at: int) -> Frames:
    """`first` up to frame `at`, `second` from there on."""
    return np.concatenate([first[:at], second[at:]])


def dissolve(first: Frames, second: Frames, at: int, width: int) -> Frames:
    """`first` melts into `second`."""
    u = progress(len(first), at, width)[:, None, None, None]
    return _bytes(first * (1 - u) + second * u)


def wipe(first: Frames, second: Frames, at: int, width: int) -> Frames:
    """An upright edge sweeps from left to right and uncovers `second`."""
    edge = np.round(progress(len(first), at, width) * first.shape[2])
    uncovered = np.arange(first.shape[2])[None] < edge[:, None]
    return np.where(uncovered[:, None, :, None], second, first)


def fade_through(first: Frames, second: Frames, at: int, width: int, color: Color = (0, 0, 0)) -> Frames:
    """`first` fades to a colour, `second` rises out of it: black for a fade, white and short for a flash."""
    u = np.abs(2 * progress(len(first), at, width) - 1)[:, None, None, None]
    return _bytes(cut(first, second, at) * u + np.array(color) * (1 - u))


def glitch(first: Frames, second: Frames, at: int, width: int, rng: np.random.Generator) -> Frames:
    """Around the change the picture breaks up: bands slide sideways and the colour channels drift apart."""
    frames = cut(first, second, at)
    height, across = frames.shape[1:3]
    for t in range(max(at - width // 2, 0), min(at + width // 2, len(frames))):
        for top in range(0, height, max(height // 8, 1)):
            band = frames[t, top : top + max(height // 8, 1)]
            shift = int(rng.integers(across // 8, across // 2)) * int(rng.choice([-1, 1]))
            for channel, part in enumerate((1.0, 0.0, -1.0)):
                band[..., channel] = np.roll(band[..., channel], round(part * shift), axis=1)
    return frames


def pixelate(first: Frames, second: Frames, at: int, width: int, block: int = 16) -> Frames:
    """Around the change the picture turns into squares of `block` pixels."""
    frames = cut(first, second, at)
    around = slice(max(at - width // 2, 0), at + width // 2)
    frames[around] = blur_mask(frames[around], (0, 0, frames.shape[2], frames.shape[1]), block)
    return frames


# ---- picture ----------------------------------------------------------------------------------------------------------------
def grade(frames: Frames, *, luma: float, spread: float, chroma: float, warmth: float) -> Frames:
    """Give the frames as a whole these colour statistics, whatever they had before.

    Args:
        luma: mean brightness, 0 to 1.
        spread: standard deviation of brightness, 0 to 1.
        chroma: mean distance of the channels from grey, 0 to 1, after the source's own cast is taken out.
        warmth: cast, -1 to 1: added to red and taken from blue.
    """
    pixels = frames.astype(np.float32) / 255
    grey = pixels.mean(-1, keepdims=True)
    tint = pixels - grey
    tint -= tint.mean((0, 1, 2))
    tint *= chroma / max(float(np.abs(tint).mean()), 0.01)
    grey = (grey - grey.mean()) / max(float(grey.std()), 0.01) * spread + luma
    return _bytes((grey + tint + warmth * np.array([1, 0, -1], np.float32)) * 255)


def blur(frames: Frames, radius: float) -> Frames:
    """Every frame out of focus by a Gaussian of this radius (pixels); 0 leaves it sharp."""
    if radius == 0:
        return frames.copy()
    return np.stack([np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(radius))) for frame in frames])


def blur_mask(frames: Frames, box: tuple[int, int, int, int], block: int = 16) -> Frames:
    """A mosaic of squares of `block` pixels over the box (left, top, right, bottom)."""
    left, top, right, bottom = box
    frames = frames.copy()
    for y in range(top, bottom, block):
        for x in range(left, right, block):
            tile = frames[:, y : min(y + block, bottom), x : min(x + block, right)]
            tile[:] = tile.mean((1, 2), keepdims=True).astype(np.uint8)
    return frames


def film_grain(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Old film: coarse grey grain, new on every frame (`strength` = its standard deviation, 0 to 1), and a few upright scratches."""
    count, height, width = frames.shape[:3]
    grain = rng.normal(0, strength * 255, (count, height // 4, width // 4, 1)).repeat(4, 1).repeat(4, 2)
    frames = _bytes(frames + grain)
    for frame in frames:
        frame[:, rng.integers(0, width - 2, 2)[:, None] + np.arange(2)] = 235
    return frames


def freeze(frames: Frames, at: int) -> Frames:
    """Motion stops: from frame `at` on every frame is that one."""
    return frames[np.minimum(np.arange(len(frames)), at)]


def mirror(frames: Frames) -> Frames:
    """The right half becomes the left half's mirror image."""
    half = frames.shape[2] // 2
    return np.concatenate([frames[:, :, :half], frames[:, :, :half][:, :, ::-1]], axis=2)


# ---- overlays -----------------------------------------------------------------------------------------------------------------
def paste(frames: Frames, picture: np.ndarray, center: tuple[float, float], mask: np.ndarray | None = None) -> Frames:
    """A picture, (h, w, 3) or one a frame (T, h, w, 3), over the frames; `center` in pixels, moved inside; mask (h, w) 0 to 1."""
    height, width = picture.shape[-3:-1]
    left = int(min(max(round(center[0] - width / 2), 0), frames.shape[2] - width))
    top = int(min(max(round(center[1] - height / 2), 0), frames.shape[1] - height))
    frames = frames.copy()
    under = frames[:, top : top + height, left : left + width]
    under[:] = picture if mask is None else _bytes(under * (1 - mask[..., None]) + picture * mask[..., None])
    return frames


def split_screen(left: Frames, right: Frames) -> Frames:
    """Two films side by side: the middle half of each, a white line between."""
    width = left.shape[2]
    quarter, half = width // 4, width // 2
    frames = np.concatenate(
        [left[:, :, quarter : quarter + half], right[:, :, quarter : quarter + width - half]], axis=2
    )
    frames[:, :, half - 2 : half + 2] = 255
    return frames


def picture_in_picture(frames: Frames, inset: Frames, corner: tuple[int, int]) -> Frames:
    """A small film, `inset`, with a white rim in a corner: (0, 0) top left ... (1, 1) bottom right."""
    inset = inset.copy()
    inset[:, :3] = inset[:, -3:] = inset[:, :, :3] = inset[:, :, -3:] = 255
    height, width = inset.shape[1:3]
    center = [edge + side / 2 + 4 if c == 0 else full - side / 2 - 4 for c, side, full, edge in
              ((corner[0], width, frames.shape[2], 0), (corner[1], height, frames.shape[1], 0))]  # fmt: skip
    return paste(frames, inset, (center[0], center[1]))


def subtitle(frames: Frames, text: str) -> Frames:
    """A white caption on a dark band along the bottom of every frame."""
    height, width = frames.shape[1:3]
    band = np.asarray(caption((width, height // 5), text, color=(255, 255, 255)))
    return paste(frames, band, (width / 2, height))


def caption(size: tuple[int, int], text: str, color: Color, behind: np.ndarray | None = None) -> np.ndarray:
    """Text drawn over a picture (black when none), each letter in the middle of an equal share of the width: (h, w, 3)."""
    width, height = size
    picture = Image.new("RGB", size) if behind is None else Image.fromarray(behind)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=int(min(height * 0.85, 1.3 * width / len(text))))
    for index, letter in enumerate(text):
        draw.text(((index + 0.5) * width / len(text), height / 2), letter, font=font, fill=color, anchor="mm")
    return np.asarray(picture)


def insert_event(frames: Frames, event: np.ndarray, center: tuple[float, float], start: int, stop: int) -> Frames:
    """The picture `event` (h, w, 3) is seen in frames start..stop-1 and in no other."""
    return np.concatenate([frames[:start], paste(frames[start:stop], event, center), frames[stop:]])


def oval(height: int, width: int) -> np.ndarray:
    """A mask for `paste`: 1 inside the ellipse that fills the box, soft at its rim, 0 outside: (h, w)."""
    y, x = (np.arange(height) + 0.5) / height * 2 - 1, (np.arange(width) + 0.5) / width * 2 - 1
    return np.clip((1 - np.hypot(y[:, None], x[None])) * min(height, width) / 4, 0, 1)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
