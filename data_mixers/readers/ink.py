"""Handwritten formulas: CROHME and MathWriting. InkML holds the strokes of a pen; they are drawn to a picture."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image, ImageDraw

from ..rows import Example
from .found import Found, Source, Unusable, guarded
from .pictures import made_picture

TASK = "ocr_handwritten"
HEIGHT, PEN, MARGIN = 128, 3, 10
"""Pixels: of the writing, of the pen, around it."""
MAX_WIDTH = 1536
Stroke = list[tuple[float, float]]


def crohme(source: Source) -> Iterator[Found]:
    """`<annotation type="truth">$...$</annotation>` and traces."""
    return _read(source, "crohme", ("truth",))


def mathwriting(source: Source) -> Iterator[Found]:
    """The annotation `normalizedLabel` is what its authors train on; `label` where there is none."""
    return _read(source, "mathwriting", ("normalizedLabel", "label"))


def _read(source: Source, dataset: str, names: tuple[str, ...]) -> Iterator[Found]:
    def make(file: Path) -> Iterator[Example]:
        try:
            root = ElementTree.parse(file).getroot()
        except ElementTree.ParseError as error:
            raise Unusable(f"is no XML: {error}") from error
        told = {a.get("type"): (a.text or "").strip() for a in root.iterfind("{*}annotation")}
        truth = next((told[name] for name in names if told.get(name)), None)
        if truth is None:
            raise Unusable(f"has no annotation {' or '.join(names)}")
        strokes = [_stroke(trace.text or "") for trace in root.iterfind("{*}trace")]
        shows = (strokes, HEIGHT, PEN, MARGIN, MAX_WIDTH)
        path = made_picture(source.made / dataset, file.stem, shows, lambda: draw(strokes))
        yield Example(TASK, [str(path)], truth.strip("$").strip(), dataset=dataset, id=file.stem, split=source.split)

    for file in source.files:
        yield from guarded(source, file, iter([(file.name, file)]), make)


def draw(strokes: list[Stroke]) -> Image.Image:
    """Black strokes on white, scaled to one height; wide formulas to the greatest width.

    Raises:
        Unusable: no point at all.
    """
    points = [point for stroke in strokes for point in stroke]
    if not points:
        raise Unusable("has no ink")
    left, top = (min(axis) for axis in zip(*points, strict=True))
    right, bottom = (max(axis) for axis in zip(*points, strict=True))
    scale = min(HEIGHT / max(bottom - top, 1e-9), MAX_WIDTH / max(right - left, 1e-9), HEIGHT / 1e-3)
    size = [round(extent * scale) + 2 * MARGIN for extent in (right - left, bottom - top)]
    image = Image.new("RGB", (size[0], size[1]), "white")
    pen = ImageDraw.Draw(image)
    for stroke in strokes:
        line = [((x - left) * scale + MARGIN, (y - top) * scale + MARGIN) for x, y in stroke]
        if len(line) > 1:
            pen.line(line, fill="black", width=PEN, joint="curve")
        elif line:  # a dot
            (x, y), r = line[0], PEN
            pen.ellipse((x - r, y - r, x + r, y + r), fill="black")
    return image


def _stroke(text: str) -> Stroke:
    """Points `x y [t]` with commas between them."""
    return [tuple(float(part) for part in point.split()[:2]) for point in text.split(",") if point.strip()]
