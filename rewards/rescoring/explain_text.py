"""An explanation as rich tables: the components, the pairs side by side, and where each point went."""

from collections.abc import Iterator, Sequence
from math import fsum, isnan

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from .explain import Edit, Explanation, Judged
from .explain_segments import Lone, Loss, Pair, Segments, span

MAX_ROWS = 60
"""Of a long table; what is left out is summed up in its last row."""
MAX_CELL = 400
"""Characters of a cell."""
MAX_SHOWN = 4000
"""Characters of a text."""


def render(explanation: Explanation) -> Iterator[RenderableType]:
    """What to print, one after the other."""
    rollout, score = explanation.rollout, explanation.score
    name = f", id {rollout.id}" if rollout.id is not None else ""
    yield visible(f"{rollout.file} row {rollout.row}{name}: task {rollout.task}, score {score.value:.4f}")
    applying = {k: v for k, v in score.components.items() if not isnan(v) and k != "score"}
    yield Text("  ".join(f"{key} {value:.4g}" for key, value in applying.items()))
    if explanation.segments is not None:
        yield _pairs(explanation.segments)
    if explanation.edits:
        yield _diff(explanation.edits)
    if explanation.judged is not None:
        yield _judged(explanation.judged)
    yield _losses(explanation.losses, 1.0 - score.value)


def visible(text: str, style: str = "", limit: int = MAX_SHOWN) -> Text:
    """Text of a model, safe to print: no markup, no control characters, no lone surrogates."""
    shown = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text[:limit])
    return Text(shown + (f" ... ({len(text) - limit} more characters)" if len(text) > limit else ""), style)


def _pairs(segments: Segments) -> RenderableType:
    table = _table("answered", "true", "IoU", "label distance", "sub-dimension", "answered", "true", "d")
    rows = [*_pair_rows(segments.pairs)]
    rows += [row for lone in segments.unmatched_predicted for row in _lone_rows(lone, predicted=True)]
    rows += [row for lone in segments.unmatched_true for row in _lone_rows(lone, predicted=False)]
    if segments.unusable:
        rows.append((f"{segments.unusable} without usable times", "–", "", "", "", "", "", ""))
    return _filled(table, rows)


def _pair_rows(pairs: Sequence[Pair]) -> Iterator[tuple[str, ...]]:
    for pair in pairs:
        head = (span(pair.predicted), span(pair.true), f"{pair.iou:.3f}", f"{pair.distance:.3f}" if pair.tags else "")
        for i, tag in enumerate(pair.tags or (None,)):
            left = head if i == 0 else ("",) * 4
            if tag is None:
                yield (*left, "", "", "", "")
            else:
                yield (*left, tag.name, " + ".join(tag.predicted) or "–", " + ".join(tag.true), f"{tag.distance:.3f}")


def _lone_rows(lone: Lone, predicted: bool) -> Iterator[tuple[str, ...]]:
    for i, (name, tags) in enumerate(lone.tags or (("", ()),)):
        times, gap = (span(lone.times), "–") if i == 0 else ("", "")
        sides = (" + ".join(tags), "")
        yield (times, gap, "", "", name, *sides, "") if predicted else (gap, times, "", "", name, *sides[::-1], "")


def _diff(edits: Sequence[Edit]) -> RenderableType:
    """The answer's text, with what only it has in red and what it lacks in green; also legible without colours."""
    text = Text()
    for edit in edits:
        if edit.kind == "equal":
            text += visible(edit.answer)
        if edit.kind in ("replace", "delete"):
            text += visible(f"[-{edit.answer}-]", "red")
        if edit.kind in ("replace", "insert"):
            text += visible(f"{{+{edit.truth}+}}", "green")
    return Text.assemble("the answer, [-what it adds-] and {+what it lacks+}:\n", text, "\n")


def _judged(judged: Judged) -> RenderableType:
    return Text.assemble(
        "the judge compared: ", visible(judged.answer), "\nwith the truth:     ", visible(judged.truth), "\n"
    )


def _losses(losses: Sequence[Loss], lost: float) -> RenderableType:
    table = _table("lost", "points", "why")
    rows = [(loss.part, f"{loss.points:.4f}", loss.why) for loss in losses[:MAX_ROWS]]
    rest = losses[MAX_ROWS:]
    if rest:
        rows.append(("...", f"{fsum(loss.points for loss in rest):.4f}", f"{len(rest)} more"))
    return _filled(table, [*rows, ("sum", f"{fsum(loss.points for loss in losses):.4f}", f"1 - score = {lost:.4f}")])


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        number = name in ("IoU", "label distance", "d", "points")
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    return table


def _filled(table: Table, rows: Sequence[Sequence[str]]) -> Table:
    for row in rows[: MAX_ROWS + 2]:
        table.add_row(*(visible(cell, limit=MAX_CELL) for cell in row))
    if len(rows) > MAX_ROWS + 2:
        table.add_row(f"... {len(rows) - MAX_ROWS - 2} more")
    return table
