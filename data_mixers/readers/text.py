"""Written words: TextOCR and ICDAR 2015. Each legible word is cut out of its picture, since the task asks for one text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from ..rows import Example
from .found import Found, Source, Unusable, guarded, json_file, lines_of
from .pictures import content_of, made_picture
from .probe import find_media

TASK = "ocr_regular"
PICTURES = (".jpg", ".jpeg", ".png")
MARGIN = 2
"""Pixels around a word."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""


def textocr(source: Source) -> Iterator[Found]:
    """`imgs, anns, imgToAnns` of COCO-Text's form; `utf8_string` "." marks a word that nobody could read."""
    for file in source.files:
        told = json_file(file)

        def make(word: dict[str, Any], pictures=told["imgs"]) -> Iterator[Example]:
            if word["utf8_string"] == ".":
                return
            left, top, width, height = word["bbox"]
            name = pictures[str(word["image_id"])].get("file_name", f"{word['image_id']}.jpg")
            picture = find_media(source.media, Path(name).name, PICTURES)
            yield _word(
                source,
                "textocr",
                picture,
                str(word["id"]),
                word["utf8_string"],
                (left, top, left + width, top + height),
            )

        yield from guarded(source, file, ((name, word) for name, word in told["anns"].items()), make)


def icdar2015(source: Source) -> Iterator[Found]:
    """`gt_img_N.txt`: `x1,y1,...,x4,y4,text`, the text may hold commas, `###` is to be ignored."""
    for file in source.files:
        picture = find_media(source.media, file.stem.removeprefix("gt_"), PICTURES)

        def make(line: tuple[int, str], picture=picture) -> Iterator[Example]:
            number, told = line
            *corners, word = told.split(",", 8)
            xs, ys = [float(x) for x in corners[0::2]], [float(y) for y in corners[1::2]]
            if len(corners) != 8:
                raise Unusable("has no eight coordinates before its text")
            if word != "###":
                box = (min(xs), min(ys), max(xs), max(ys))
                yield _word(source, "icdar2015", picture, f"{picture.stem}-{number}", word, box)

        yield from guarded(source, file, ((number, (number, line)) for number, line in lines_of(file)), make)


def _word(source: Source, dataset: str, picture: Path, id: str, word: str, box: Box) -> Example:
    if not word.strip():
        raise Unusable("has no text")
    if not picture.is_file():
        raise Unusable(f"{picture} is missing; words are cut out of it")
    path = made_picture(source.made / dataset, id, (content_of(picture), box, MARGIN), lambda: _cut_out(picture, box))
    return Example(TASK, [str(path)], word, dataset=dataset, id=id, split=source.split)


def _cut_out(picture: Path, box: Box) -> Image.Image:
    """
    Raises:
        Unusable: the box lies outside the picture.
    """
    with Image.open(picture) as image:
        left, top, right, bottom = box
        edges = (
            max(left - MARGIN, 0),
            max(top - MARGIN, 0),
            min(right + MARGIN, image.width),
            min(bottom + MARGIN, image.height),
        )
        if edges[0] >= edges[2] or edges[1] >= edges[3]:
            raise Unusable(f"its box {box} lies outside {picture.name} ({image.width} x {image.height})")
        return image.convert("RGB").crop(tuple(round(edge) for edge in edges))
