"""A sequence that follows entitlements by earliest deadline first: pieces that repeat where the weights stay.

With entitlements that move in time, Tijdeman's theorem still says that all draws fit their windows if nothing is owed at the
start. With debts they may not; then a draw comes late, and nothing is left out. Whatever the debts, some task is always ready:
what the n tasks are entitled to beyond their draws sums to 1 and so reaches 1 - bound = 1/(2n-2) for one of them.
"""

from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from math import floor
from typing import NamedTuple

import numpy as np

from .chairman import Jobs, earliest_deadline_first
from .cycle import Cycle
from .entitlement import Entitlement, Stretch
from .weights import bound


class Piece(NamedTuple):
    """From draw `start` on, `cycle` is repeated until the next piece; `before` counts what each task was drawn earlier."""

    start: int
    before: tuple[int, ...]
    cycle: Cycle


def follow(entitlement: Entitlement, start: int, before: tuple[int, ...]) -> Iterator[Piece]:
    """The pieces from draw `start` on, at which each task has been drawn `before` times; the last one has no end."""
    for stretch in entitlement.stretches:
        if stretch.stop is not None and stretch.stop <= start:
            continue
        if stretch.steady:
            start, before = yield from _repeat(entitlement, stretch, start, before)
        if stretch.stop is not None and start < stretch.stop:
            piece = Piece(start, before, _run(entitlement, start, before, stretch.stop))
            yield piece
            start, before = stretch.stop, _after(piece)


def _repeat(
    entitlement: Entitlement, stretch: Stretch, start: int, before: tuple[int, ...]
) -> Generator[Piece, None, tuple[int, tuple[int, ...]]]:
    """Period by period until what each task is ahead comes round again; that is then repeated as long as it may be.

    Windows are shorter than a period, so a change of weights is not felt until two periods before it.

    Returns:
        The draw at which to go on, and the draws of each task before it.
    """
    period, stop = sum(stretch.first), stretch.stop
    pieces: list[Piece] = []
    seen: dict[tuple[int, ...], int] = {}
    while stop is None or stop - start >= 4 * period:
        ahead = tuple(done - len(pieces) * count for done, count in zip(before, stretch.first, strict=True))
        if ahead in seen:
            yield from pieces[: seen[ahead]]
            again = pieces[seen[ahead] :]
            cycle = Cycle(np.concatenate([piece.cycle.order for piece in again]), len(before))
            yield Piece(again[0].start, again[0].before, cycle)
            times = 0 if stop is None else (stop - start - 3 * period) // cycle.period
            more = (times * count for count in cycle.counts.tolist())
            return start + times * cycle.period, tuple(map(int.__add__, before, more))
        seen[ahead] = len(pieces)
        pieces.append(Piece(start, before, _run(entitlement, start, before, start + period)))
        start, before = start + period, _after(pieces[-1])
    yield from pieces
    return start, before


def _run(entitlement: Entitlement, start: int, before: tuple[int, ...], stop: int) -> Cycle:
    """Draws start..stop-1."""
    limit = bound(len(before))
    jobs = []
    for task, (done, level) in enumerate(zip(before, entitlement.after(stop), strict=True)):
        ready = max(floor(level + limit), done)
        release = entitlement.passages(task, done, ready, 1 - limit, beyond=False, since=start)
        deadline = entitlement.passages(task, done, ready, limit, beyond=True, since=start)
        jobs.append(Jobs(np.full(ready - done, task), release, deadline))
    together = Jobs(*(np.concatenate(columns) for columns in zip(*jobs, strict=True)))
    order, _ = earliest_deadline_first(together, places=stop - start, late=True)
    return Cycle(together.task[order].astype(np.int16), len(before))


def _after(piece: Piece) -> tuple[int, ...]:
    return tuple(map(int.__add__, piece.before, piece.cycle.counts.tolist()))


def worst_error(entitlement: Entitlement, pieces: Sequence[Piece], stop: int | None) -> Fraction:
    """Worst |draws - entitlement| of any task after any draw before `stop` (None: for ever) of these pieces, exact."""
    worst = Fraction(0)
    for piece, end in zip(pieces, [*(piece.start for piece in pieces[1:]), None], strict=True):
        known = [position - piece.start for position in (end, stop) if position is not None]
        order = piece.cycle.order[: max(min(known, default=piece.cycle.period), 0)]
        for task, done in enumerate(piece.before):
            drawn = np.concatenate([[0], np.cumsum(order == task)])
            low, high = entitlement.discrepancies(task, drawn, piece.start)
            worst = max(worst, -(low + done), high + done)
    return worst
