"""One maker for each of the 13 tasks: it edits footage so that the answer is true by construction, and returns both.

docs/demo-footage.md lists the edits, the tags and what is left unannotated, task by task.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from . import edits
from .edits import Frames
from .footage import COLOURFUL, DETAILED, FRAMINGS, INSERTS, WORDS, Stock, Window, digits, photo
from .scenes import SIZE, choice, different, face, nudged, random_window, resized, scene, sizes_of_one_subject

FPS, COUNT = 8, 32  # films: frames a second, frames (4.0 s)
STRIP = (128, 32)  # stills: width and height of a strip of writing
ANNOTATED: dict[str, tuple[str, ...]] = {
    "shot_framing": ("camera_language.shot_size",),
    "lens_and_focus": ("camera_language.depth_of_field",),
    "camera_movement": ("camera_language.camera_movement",),
    "cut_point_detection": ("editing.transition_type",),
    "editing_logic": ("editing.editing_logic",),
    "editing_effects_and_transitions": ("editing.editing_effects", "editing.transition_type"),
    "subject": ("subject.framing_type", "subject.configuration"),
    "lighting_and_color": (
        "aesthetics.contrast",
        "aesthetics.saturation",
        "aesthetics.color_temperature",
        "aesthetics.key_tone",
    ),
    "composition_and_rhythm": ("aesthetics.composition", "aesthetics.visual_rhythm"),
    "ocr_regular": (),
    "ocr_handwritten": (),
    "temporal_action_localization": (),
    "visual_reasoning": (),
}
"""The sub-dimensions that each task's edits make true; the others that the task asks for stay unannotated."""
DIMENSION = {sub: dimension for names in ANNOTATED.values() for dimension, sub in (name.split(".") for name in names)}
SEVERAL = {
    "camera_movement",
    "editing_logic",
    "editing_effects",
    "composition",
}  # sub-dimensions that hold a list of tags


@dataclass(frozen=True)
class Item:
    """What a maker returns: frames (T, H, W, 3) of a film or (H, W, 3) of a still, uint8, and the answer that is true of it."""

    pixels: np.ndarray
    ground_truth: str
    query: str | None = None
    thought: str = ""

    @property
    def duration(self) -> float | None:
        """Seconds of a film; None for a still."""
        return len(self.pixels) / FPS if self.pixels.ndim == 4 else None


Maker = Callable[[np.random.Generator, Stock], Item]


def shot_framing(rng: np.random.Generator, stock: Stock) -> Item:
    """`shot_size` from where the window lies on a subject whose place in the picture is known."""
    bounds = _bounds(rng)
    tags = different(rng, sorted({framing.tag for framing in FRAMINGS[stock.split]}), len(bounds) - 1)
    shots = []
    for tag, count in zip(tags, np.diff(bounds), strict=True):
        framing = choice(rng, [framing for framing in FRAMINGS[stock.split] if framing.tag == tag])
        window = nudged(rng, framing.window)
        shots.append(edits.reframe(stock.frames(framing.source, count, rng), window, SIZE))
    return Item(np.concatenate(shots), _segments(bounds, [{"shot_size": tag} for tag in tags]))


def lens_and_focus(rng: np.random.Generator, stock: Stock) -> Item:
    """`depth_of_field` from how far the picture behind a sharp subject is blurred; a focus that moves is a rack focus."""
    bounds = _bounds(rng)
    tags = different(rng, ["shallow focus", "deep focus", "rack focus"], len(bounds) - 1)
    shots = []
    for tag, count in zip(tags, np.diff(bounds), strict=True):
        name = choice(rng, DETAILED[stock.split])
        behind = edits.reframe(stock.frames(name, 1, rng), random_window(rng, 0.3, 0.4), SIZE)
        behind = edits.grade(
            behind, luma=0.45, spread=0.22, chroma=0.05, warmth=0.0
        )  # sharp is equally sharp everywhere
        height = int(rng.integers(64, 80))
        center = tuple(rng.uniform(0.4, 0.6, 2) * SIZE)
        subject, mask = face(rng, stock, height), edits.oval(height, height)

        def seen(far: float, near: float, behind=behind, subject=subject, mask=mask, center=center) -> Frames:
            return edits.paste(edits.blur(behind, far), edits.blur(subject[None], near)[0], center, mask)

        if tag == "rack focus":
            ends = [(8.0, 0.0), (0.0, 8.0)][:: int(rng.choice([-1, 1]))]
            shots.append(edits.dissolve(*(seen(*end).repeat(count, 0) for end in ends), count // 2, count // 2))
        else:
            far = 8.0 if tag == "shallow focus" else 0.0
            shots.append(seen(far, 0.0).repeat(count, 0))
    return Item(np.concatenate(shots), _segments(bounds, [{"depth_of_field": tag} for tag in tags]))


def camera_movement(rng: np.random.Generator, stock: Stock) -> Item:
    """`camera_movement` from how a window travels over footage that was taken with a steady camera."""
    bounds = _bounds(rng)
    tags = different(rng, ["static shot", "zoom in", "zoom out", "pan/tilt", "handheld"], len(bounds) - 1)
    sources = different(rng, [*stock.runs(steady=True), *stock.photos(even=False)], len(tags))
    shots = []
    for tag, source, count in zip(tags, sources, np.diff(bounds), strict=True):
        footage = stock.frames(source, count, rng, speed=1.0)
        middle = Window(0.5, 0.5, 0.6)
        factor = rng.uniform(2.5, 3.2)
        side = float(rng.choice([-1, 1]))
        dx, dy = [(0.4 * side, 0.0), (0.0, 0.4 * side)][int(rng.integers(2))]
        path = {
            "static shot": [middle] * count,
            "zoom in": edits.zoom(middle._replace(side=0.95), factor, count),
            "zoom out": edits.zoom(middle._replace(side=0.95 / factor), 1 / factor, count),
            "pan/tilt": edits.pan(Window(0.5 - dx / 2, 0.5 - dy / 2, 0.55), dx, dy, count),
            "handheld": edits.shake(middle, 0.08, count, rng),
        }[tag]
        shots.append(edits.reframe(footage, path, SIZE))
    return Item(np.concatenate(shots), _segments(bounds, [{"camera_movement": tag} for tag in tags]))


def cut_point_detection(rng: np.random.Generator, stock: Stock) -> Item:
    """Shots that tile the film, each of other footage; `transition_type` is what leads into a shot, so the first has none."""
    bounds = _bounds(rng, shots=(2, 3), step=FPS // 2)
    kind = choice(rng, ["hard cut", "cross dissolve", "wipe", "fade to black"])
    layers = [
        scene(rng, stock, COUNT, source) for source in different(rng, stock.runs() + stock.photos(), len(bounds) - 1)
    ]
    film = layers[0]
    for layer, at in zip(layers[1:], bounds[1:-1], strict=True):
        film = {
            "hard cut": lambda a, b, at: edits.cut(a, b, at),
            "cross dissolve": lambda a, b, at: edits.dissolve(a, b, at, FPS),
            "wipe": lambda a, b, at: edits.wipe(a, b, at, FPS),
            "fade to black": lambda a, b, at: edits.fade_through(a, b, at, FPS),
        }[kind](film, layer, at)
    return Item(film, _segments(bounds, [{}] + [{"transition_type": kind}] * (len(bounds) - 2)))


def editing_logic(rng: np.random.Generator, stock: Stock) -> Item:
    """`editing_logic` from the order in which pieces of footage are joined; the film, or each half of it, has its own."""
    bounds = choice(rng, [[0, COUNT], [0, COUNT // 2, COUNT]])
    tags = different(rng, ["jump cut", "cross cut", "montage", "cutaway", "emphasis cut"], len(bounds) - 1)
    sequences = [_sequence(rng, stock, tag, count) for tag, count in zip(tags, np.diff(bounds), strict=True)]
    return Item(np.concatenate(sequences), _segments(bounds, [{"editing_logic": tag} for tag in tags]))


def _sequence(rng: np.random.Generator, stock: Stock, logic: str, count: int) -> Frames:
    """`count` frames (a multiple of 16) that are cut by one editing logic."""
    quarter, eighth = count // 4, count // 8
    first, second = (scene(rng, stock, count, source) for source in different(rng, stock.runs() + stock.photos(), 2))
    if logic == "jump cut":  # one framing, time removed at every quarter
        run = choice(rng, stock.runs(steady=True))
        pieces = np.linspace(run.start, run.stop - 5, 4).astype(int)
        window = random_window(rng, 0.75, 0.95)
        parts = [run._replace(start=int(start), stop=int(start) + 5) for start in pieces]
        return np.concatenate([edits.reframe(stock.frames(part, quarter, rng, 1.0), window, SIZE) for part in parts])
    if logic == "cross cut":  # A B A B
        turn = np.arange(count) // quarter % 2 == 1
        return np.where(turn[:, None, None, None], second, first)
    if logic == "montage":  # short scenes, each of other footage
        sources = different(rng, stock.runs() + stock.photos(), count // 4)
        return np.concatenate([scene(rng, stock, 4, source) for source in sources])
    if logic == "cutaway":  # A B A
        return np.concatenate([first[: 3 * eighth], second[3 * eighth : 5 * eighth], first[5 * eighth :]])
    wide, tight = sizes_of_one_subject(rng, stock, count)
    return edits.cut(wide, tight, count // 2) if rng.random() < 0.5 else edits.cut(tight, wide, count // 2)


def editing_effects_and_transitions(rng: np.random.Generator, stock: Stock) -> Item:
    """Two shots with an effect each (`editing_effects`), joined in a visible way (`transition_type`)."""
    bounds = [0, int(rng.choice([8, 16, 24])), COUNT]
    effects = different(rng, ["split screen", "picture-in-picture", "subtitle overlay", "blur mask", "film grain"], 2)
    kind = choice(rng, ["hard cut", "flash", "glitch transition"])
    layers, sources = [], different(rng, stock.runs() + stock.photos(even=False), 4)
    for effect, source, second in zip(effects, sources[:2], sources[2:], strict=True):
        shot, other = scene(rng, stock, COUNT, source), scene(rng, stock, COUNT, second)
        corner = (int(rng.integers(2)), int(rng.integers(2)))
        if effect == "split screen":
            shot = edits.split_screen(shot, other)
        elif effect == "picture-in-picture":
            shot = edits.picture_in_picture(shot, other[:, ::3, ::3], corner)
        elif effect == "subtitle overlay":
            shot = edits.subtitle(shot, "".join(rng.choice(list("ACEHKLNOTX"), 6)))
        elif effect == "blur mask":
            shot = edits.blur_mask(shot, (8, 8, SIZE - 8, SIZE - 8), 16)
        else:
            shot = edits.film_grain(shot, 0.25, rng)
        layers.append(shot)
    film = {
        "hard cut": lambda a, b, at: edits.cut(a, b, at),
        "flash": lambda a, b, at: edits.fade_through(a, b, at, 8, (255, 255, 255)),
        "glitch transition": lambda a, b, at: edits.glitch(a, b, at, 8, rng),
    }[kind](*layers, bounds[1])
    labels = [{"editing_effects": effects[0]}, {"editing_effects": effects[1], "transition_type": kind}]
    return Item(film, _segments(bounds, labels))


def subject(rng: np.random.Generator, stock: Stock) -> Item:
    """`configuration` from how many real faces stand in a place without people; `framing_type` insert = the detail of a thing."""
    bounds = _bounds(rng)
    tags = different(rng, ["none", "single-person", "two-person", "group"], len(bounds) - 1)
    shots, labels = [], []
    for tag, count in zip(tags, np.diff(bounds), strict=True):
        framing = "objective"
        if tag == "none" and rng.random() < 0.5:
            framing = "insert"
            name, window = choice(rng, INSERTS[stock.split])
            shot = edits.reframe(stock.frames(name, count, rng), nudged(rng, window), SIZE)
        else:
            places = [*stock.runs(people=0), *stock.photos(people=False, things=False)]
            shot = scene(rng, stock, count, choice(rng, places)) // 2
        across = {"none": [], "single-person": [0.5], "two-person": [0.27, 0.73], "group": [0.2, 0.5, 0.8]}[tag]
        height = 38 if tag == "group" else 48
        for x in across:
            y = rng.uniform(0.4, 0.65)
            shot = edits.paste(shot, face(rng, stock, height), (x * SIZE, y * SIZE), edits.oval(height, height))
        shots.append(shot)
        labels.append({"framing_type": framing, "configuration": tag})
    return Item(np.concatenate(shots), _segments(bounds, labels))


def lighting_and_color(rng: np.random.Generator, stock: Stock) -> Item:
    """Four colour tags of one film, each from a statistic that the grade sets whatever the footage was like."""
    luma = {"low key": 0.24, "normal key": 0.46, "high key": 0.72}
    spread = {"low contrast": 0.04, "medium contrast": 0.1, "high contrast": 0.22}
    chroma = {"monochrome": 0.0, "medium saturation": 0.05, "high saturation": 0.13}
    warmth = {"cool tone": -0.17, "neutral tone": 0.0, "warm tone": 0.17}
    key, contrast, color, tone = (choice(rng, list(scale)) for scale in (luma, spread, chroma, warmth))
    footage = scene(rng, stock, COUNT, choice(rng, stock.runs() + [p for p in stock.photos() if p in COLOURFUL]))
    film = edits.grade(footage, luma=luma[key], spread=spread[contrast], chroma=chroma[color], warmth=warmth[tone])
    tags = {"contrast": contrast, "saturation": color, "color_temperature": tone, "key_tone": key}
    return Item(film, _segments([0, COUNT], [tags]))


def composition_and_rhythm(rng: np.random.Generator, stock: Stock) -> Item:
    """`composition` from where faces are set in the frame, or from mirroring it; `visual_rhythm` from how often the film cuts."""
    tag = choice(rng, ["centered composition", "rule of thirds", "diagonal composition", "symmetrical composition"])
    rhythm, length = choice(rng, [("slow rhythm", 32), ("moderate rhythm", 16), ("fast rhythm", 4)])
    sources = different(rng, [*stock.runs(people=0), *stock.photos(people=False)], COUNT // length)
    film = np.concatenate([scene(rng, stock, length, source) for source in sources]) // 2
    if tag == "symmetrical composition":
        film = edits.mirror(film)
    else:
        third = [1 / 3, 2 / 3]
        height, places = {
            "centered composition": (56, [(0.5, 0.5)]),
            "rule of thirds": (40, [(float(rng.choice(third)), float(rng.choice(third)))]),
            "diagonal composition": (32, _falling_or_rising(rng, [0.14, 0.38, 0.62, 0.86])),
        }[tag]
        for x, y in places:
            film = edits.paste(film, face(rng, stock, height), (x * SIZE, y * SIZE), edits.oval(height, height))
    return Item(film, _segments([0, COUNT], [{"composition": tag, "visual_rhythm": rhythm}]))


def ocr_regular(rng: np.random.Generator, stock: Stock) -> Item:
    """A caption burnt into a strip of footage; one in eight is a word of the scanned page instead."""
    if rng.random() < 0.125:
        word, (left, top, right, bottom) = choice(rng, WORDS[stock.split])
        scan = photo("page")[top:bottom, left:right]
        return Item(resized(scan, *STRIP), word)
    text = "".join(rng.choice(list("ACEHKLNOTX24578"), 4))
    strip = scene(rng, stock, 1)[0, 48:80] // 3
    color = tuple(int(c) for c in rng.integers(210, 256, 3))
    return Item(edits.caption(STRIP, text, color, behind=np.ascontiguousarray(strip)), text)


def ocr_handwritten(rng: np.random.Generator, stock: Stock) -> Item:
    """Four handwritten digits side by side."""
    ink, figures = digits(stock.split)
    chosen = rng.integers(0, len(ink), 4)
    strip = np.concatenate([resized(ink[index][..., None].repeat(3, -1), 32, 32) for index in chosen], axis=1)
    return Item(strip, "".join(str(figure) for figure in figures[chosen]))


def temporal_action_localization(rng: np.random.Generator, stock: Stock) -> Item:
    """An event set into darkened footage between two known times; the query names it."""
    slots = np.sort(rng.choice(COUNT // 4, 2, replace=False)) * 4
    start, stop = int(slots[0]), int(slots[1]) + 4  # at least one second, on the half second
    name, color = choice(rng, [("white", (255, 255, 255)), ("yellow", (255, 230, 40)), ("green", (40, 255, 70))])
    side = int(rng.integers(32, 48))
    event = np.full((side, side, 3), color, np.uint8)
    center = tuple(rng.uniform(side / 2, SIZE - side / 2, 2))
    film = edits.insert_event(scene(rng, stock, COUNT) // 2, event, center, start, stop)
    return Item(film, _segments([start, stop], [None]), query=f"a {name} square is visible")


def visual_reasoning(rng: np.random.Generator, stock: Stock) -> Item:
    """Count the squares of one colour among some of another, or say which of two appears first; the thought names what is seen."""
    colors = {"red": (255, 50, 50), "blue": (70, 90, 255)}
    asked, other = different(rng, list(colors), 2)
    film = scene(rng, stock, COUNT) // 3
    cells = rng.permutation(16)

    def show(film: Frames, color: str, cell: int, start: int) -> Frames:
        side = int(rng.integers(20, 26))
        square = np.full((side, side, 3), colors[color], np.uint8)
        return edits.insert_event(film, square, (cell % 4 * 32 + 16, cell // 4 * 32 + 16), start, COUNT)

    if rng.random() < 0.5:
        count, others = int(rng.integers(1, 5)), int(rng.integers(0, 3))
        for index, cell in enumerate(cells[: count + others]):
            film = show(film, asked if index < count else other, int(cell), 0)
        question, answer = f"How many {asked} squares are there? A. 1 B. 2 C. 3 D. 4", "ABCD"[count - 1]
        thought = f"{count} {asked} square{'s' * (count > 1)}"
    else:
        first, second = np.sort(rng.choice([0, 8, 16, 24], 2, replace=False))
        film = show(show(film, asked, int(cells[0]), int(first)), other, int(cells[1]), int(second))
        question, answer = "Which square appears first? A. red B. blue", "AB"[list(colors).index(asked)]
        thought = f"{asked} then {other}"
    return Item(film, answer, query=question, thought=thought)


# ---- what the makers share ------------------------------------------------------------------------------------------------
def _bounds(rng: np.random.Generator, shots: tuple[int, ...] = (1, 2, 2), step: int = FPS) -> list[int]:
    """Frame numbers that part the film into shots of a second or more, on a grid of `step` frames."""
    count = int(rng.choice(shots))
    inner = np.arange(FPS, COUNT - FPS + 1, step)
    while True:
        chosen = np.sort(rng.choice(inner, count - 1, replace=False))
        if (np.diff(chosen) >= FPS).all():
            return [0, *map(int, chosen), COUNT]


def _segments(bounds: Sequence[int], tags: Sequence[dict[str, str] | None]) -> str:
    """The ground truth: one segment between each two bounds (frames), with its tags; None = a task without labels."""
    segments = []
    for start, stop, chosen in zip(bounds[:-1], bounds[1:], tags, strict=True):
        segment: dict = {"start": start / FPS, "end": stop / FPS}
        if chosen is not None:
            labels = segment["labels"] = {}
            for sub_dimension, tag in chosen.items():
                value = [tag] if sub_dimension in SEVERAL else tag
                labels.setdefault(DIMENSION[sub_dimension], {})[sub_dimension] = value
        segments.append(segment)
    return json.dumps({"segments": segments}, separators=(",", ":"))


def _falling_or_rising(rng: np.random.Generator, steps: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(steps, steps[:: int(rng.choice([-1, 1]))], strict=True))


MAKERS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        shot_framing,
        lens_and_focus,
        camera_movement,
        cut_point_detection,
        editing_logic,
        editing_effects_and_transitions,
        subject,
        lighting_and_color,
        composition_and_rhythm,
        ocr_regular,
        ocr_handwritten,
        temporal_action_localization,
        visual_reasoning,
    )
}
"""Task id -> its maker."""
