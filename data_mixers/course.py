"""A sequence that follows entitlements by earliest deadline first: pieces that repeat where the weights stay.

With entitlements that move in time, Tijdeman's theorem still says that all draws fit their windows if nothing is owed at the
start. With debts they may not; then a draw comes late, and nothing is left out. Whatever the debts, some task is always ready:
what the n tasks are entitled to beyond their draws sums to 1 and so reaches 1 - bound = 1/(2n-2) for one of them.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import floor
from typing import NamedTuple

import numpy as np

from .chairman import Jobs, earliest_deadline_first
from .cycle import Cycle
from .entitlement import Entitlement
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
            period, a_period = sum(stretch.first), np.array(stretch.first)
            start, before, endless = yield from _repeat(entitlement, start, before, period, a_period, stretch.stop)
            if endless:
                return
        if start < stretch.stop:
            piece = Piece(start, before, _run(entitlement, start, before, stretch.stop))
            yield piece
            start, before = stretch.stop, _after(piece)


def _repeat(
    entitlement: Entitlement, start: int, before: tuple[int, ...], period: int, a_period: np.ndarray, stop: int | None
):
    """Period by period until what each task is ahead comes round again, then that is repeated as long as it may be.

    Windows are shorter than a period, so a change of weights is not felt until two periods before it.
    """
    pieces: list[Piece] = []
    seen: dict[tuple[int, ...], int] = {}
    while stop is None or stop - start >= 4 * period:
        ahead = tuple((np.array(before) - len(pieces) * a_period).tolist())
        if ahead in seen:
            yield from pieces[: seen[ahead]]
            repeated = pieces[seen[ahead] :]
            cycle = Cycle(np.concatenate([piece.cycle.order for piece in repeated]), len(before))
            yield Piece(repeated[0].start, repeated[0].before, cycle)
            more = 0 if stop is None else (stop - start - 3 * period) // cycle.period
            grown = tuple(done + more * int(count) for done, count in zip(before, cycle.counts, strict=True))
            return start + more * cycle.period, grown, stop is None
        seen[ahead] = len(pieces)
        pieces.append(Piece(start, before, _run(entitlement, start, before, start + period)))
        start, before = start + period, _after(pieces[-1])
    yield from pieces
    return start, before, False


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
    return tuple(done + int(count) for done, count in zip(piece.before, piece.cycle.counts, strict=True))


def worst_error(entitlement: Entitlement, pieces: list[Piece], stop: int | None) -> Fraction:
    """Worst |draws - entitlement| of any task after any draw of these pieces, exact; the last piece ends at `stop`."""
    worst = Fraction(0)
    for piece, following in zip(pieces, [*pieces[1:], None], strict=True):
        end = following.start if following else stop
        length = piece.cycle.period if end is None else min(piece.cycle.period, end - piece.start)
        order = piece.cycle.order[:length]
        for task, done in enumerate(piece.before):
            drawn = np.concatenate([[0], np.cumsum(order == task)])
            low, high = entitlement.discrepancies(task, drawn, piece.start)
            worst = max(worst, -(low + done), high + done)
    return worst
