"""The steps of a plan as a short text for checkpoints: only what changes from step to step, as small integers."""

import base64
import binascii
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Step(NamedTuple):
    """A segment in integers: draws of every task of the plan in a period (0: none)."""

    start: int
    counts: tuple[int, ...]
    ramp: int = 0


def pack(chapters: Iterable[tuple[int, tuple[Step, ...]]]) -> str:
    """Chapters (start, steps), starts ascending; a step's start counts from its chapter's."""
    numbers: list[int] = []
    former: tuple[int, ...] = ()
    for start, steps in chapters:
        numbers += [start, len(steps)]
        for step in steps:
            former = former or (0,) * len(step.counts)
            changed = [i for i, (old, new) in enumerate(zip(former, step.counts, strict=True)) if old != new]
            gaps = [i - j for i, j in zip(changed, [0, *changed], strict=False)]
            values = [step.counts[i] for i in changed]
            numbers += [step.start, step.ramp, len(changed), *gaps, *values]
            former = step.counts
    return base64.b85encode(zlib.compress(b"".join(map(_small, numbers)), 9)).decode()


def unpack(text: str, n: int) -> list[tuple[int, tuple[Step, ...]]]:
    """The chapters of `pack`, for n tasks.

    Raises:
        ValueError: the text was not written by `pack` for n tasks.
    """
    try:
        return list(_chapters(_numbers(zlib.decompress(base64.b85decode(text))), n))
    except (ValueError, zlib.error, binascii.Error, IndexError, StopIteration, RuntimeError) as error:
        raise ValueError(f"{text[:40]!r} holds no segments of {n} tasks") from error


def _chapters(numbers: Iterator[int], n: int) -> Iterator[tuple[int, tuple[Step, ...]]]:
    counts = [0] * n
    for start in numbers:
        steps = []
        for _ in range(next(numbers)):
            offset, ramp, changed = next(numbers), next(numbers), next(numbers)
            gaps, task = [next(numbers) for _ in range(changed)], 0
            for gap in gaps:
                task += gap
                counts[task] = next(numbers)
            steps.append(Step(offset, tuple(counts), ramp))
        yield start, tuple(steps)


def _small(number: int) -> bytes:
    """Seven bits a byte, the highest bit says that more follow."""
    out = []
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _numbers(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number
            number = shift = 0
