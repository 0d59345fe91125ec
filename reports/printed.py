"""The page's charts for print: every panel as PDF, SVG and PNG, and Figure 3 in the report's own layout.

matplotlib draws the same descriptions (`figures`) that plotly draws on the page, in the page's light colours.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from html import unescape
from pathlib import Path
from typing import Any

from .figures import LABELS, Panel, example_panels, flat, panels, shown_measures, starting_smoothness

FORMATS = ("pdf", "svg", "png")
STYLE = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e7eb",
    "grid.linewidth": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "text.parse_math": False,
    "savefig.dpi": 300,
}
"""Type stays text in PDF and SVG, so that a publisher can set it."""
MARKERS = {"circle": "o", "diamond": "D", "square": "s", "triangle-up": "^", "cross": "P", "line-ns": "|"}
DASHES = {"solid": "-", "dash": "--", "dot": ":"}
COLOURS = flat("light")
COLUMN, PAGE = 3.4, 7.0  # inches: the width of a column and of a page
KEY_LETTER = 0.06  # inches: of a letter in a legend, on average
LETTER = 0.045  # inches: of a letter in a timeline, on average


def write_figures(runs: list[dict[str, Any]], folder: Path, formats: Sequence[str] = FORMATS) -> Iterator[Path]:
    """Writes `figure3` and a file of each panel in every format, as they are done; the small charts come as a grid a measure."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    charts = panels(runs)
    weight = starting_smoothness(runs)
    with matplotlib.rc_context(STYLE):
        figure_3 = [panel for panel in charts if panel.section == "dynamics"]
        if figure_3:
            yield from _save(_row(figure_3, weight), folder / "figure3", formats)
        for panel in charts:
            if panel.section != "tasks":
                yield from _save(_single(panel, weight), folder / _file_name(panel.id), formats)
        for panel in example_panels(runs):
            yield from _save(_single(panel, weight), folder / _file_name(panel.id), formats)
        small = [panel for panel in charts if panel.section == "tasks"]
        for measure in shown_measures(runs):
            having = [panel for panel in small if any(t["meta"].get("measure") == measure for t in panel.data)]
            if having:
                yield from _save(_grid(having, measure, weight), folder / f"tasks-{_file_name(measure)}", formats)


def _file_name(id: str) -> str:
    return re.sub(r"[^\w.-]+", "-", id.replace("_", "-"))


def _save(figure: Any, path: Path, formats: Sequence[str]) -> Iterator[Path]:
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # everything has its place now: not to be sought again for each format
    for form in formats:
        file = path.with_name(f"{path.name}.{form}")
        figure.savefig(file)
        yield file


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, list]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _row(charts: Sequence[Panel], weight: float) -> Any:
    """Panels side by side over the width of a page, as Figure 3 has them."""
    figure, axes = _figure(PAGE, 2.1, columns=len(charts))
    for ax, panel in zip(axes, charts, strict=True):
        _draw(ax, panel, weight, legend=False)
    if len(axes[0].get_legend_handles_labels()[0]) > 1:
        _legend(axes[0])
    return figure


def _single(panel: Panel, weight: float) -> Any:
    own = panel.layout.get("meta", {})
    rows = len({y for trace in panel.data for y in trace["y"] if y is not None}) if own.get("rows") else 0
    height = 1.1 + 0.2 * rows if rows else 1.4 if own.get("timeline") else 2.4
    figure, axes = _figure(1.35 * COLUMN if rows or own.get("timeline") else COLUMN, height)
    _draw(axes[0], panel, weight)
    return figure


def _grid(charts: Sequence[Panel], measure: str, weight: float) -> Any:
    columns = min(4, len(charts))
    rows = math.ceil(len(charts) / columns)
    figure, axes = _figure(max(PAGE * columns / 4, COLUMN), 1.45 * rows + 0.3, rows, columns)
    for ax, panel in zip(axes, charts, strict=False):
        _draw(ax, panel, weight, measure, legend=False)
        ax.set_title(textwrap.fill(panel.title, 22), loc="left", fontsize=7)
        ax.set_label(panel.title)
        ax.set_ylim(panel.layout["meta"]["ranges"][measure])
    for ax in axes[len(charts) :]:
        ax.set_axis_off()
    figure.supxlabel("training step", fontsize=8)
    figure.supylabel(LABELS[measure], fontsize=8)
    _common_legend(figure, axes)
    return figure


def _draw(ax: Any, panel: Panel, weight: float, measure: str | None = None, legend: bool = True) -> None:
    """One panel on one pair of axes: of Figure 3's all tasks together, of a small chart one measure."""
    traces = [t for t in panel.data if t["meta"].get("scope") != "task" and t["meta"].get("measure") in (None, measure)]
    layout, beneath = panel.layout, [0.0] * max((len(t["x"]) for t in traces), default=0)
    place = {name: i for i, name in enumerate(layout["yaxis"].get("categoryarray", []))}
    if layout.get("meta", {}).get("timeline"):
        ax.set_xlim(0.0, max((b + w for t in traces for b, w in zip(t["base"], t["x"], strict=True)), default=1.0))
    for before, trace in zip([None, *traces], traces, strict=False):
        if trace["meta"].get("edge"):
            _edge(ax, trace, before)
        elif trace["type"] == "bar":
            drawn = _bars(ax, trace, place, beneath)
            beneath = drawn if layout.get("barmode") == "stack" else beneath
        else:
            _scatter(ax, trace, place, weight)
    for shape in layout.get("shapes", []):
        corners = [[float(v) for v in corner.split(",")] for corner in re.findall(r"[-\d.e]+,[-\d.e]+", shape["path"])]
        ax.fill(*zip(*corners, strict=True), color=_colour(shape["color"]), alpha=0.15, lw=0)
    ax.set_title(panel.title, loc="left")
    _axes(ax, layout, place)
    if legend and len(ax.get_legend_handles_labels()[0]) > (0 if layout.get("meta", {}).get("legend") else 1):
        _legend(ax)


def _legend(ax: Any) -> None:
    """Below the axes, where it hides nothing."""
    _key(ax.figure, dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True)), "lower")


def _key(figure: Any, handles: dict[str, Any], place: str) -> None:
    """As many names side by side as the figure's width holds."""
    room = int(figure.get_figwidth() / (KEY_LETTER * (max(map(len, handles)) + 8)))
    figure.legend(handles.values(), handles, loc=f"outside {place} center", ncols=max(min(len(handles), room, 4), 1))


def _common_legend(figure: Any, axes: Sequence[Any]) -> None:
    """One for all small charts; where these name their own task, it says `the task`."""
    handles = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault("the task" if name == ax.get_label() else name, handle)
    if len(handles) > 1:
        _key(figure, handles, "upper")  # below, it would lie on the common name of the steps


def _axes(ax: Any, layout: dict, place: dict[str, int]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

    for axis, given in ((ax.xaxis, layout["xaxis"]), (ax.yaxis, layout["yaxis"])):
        horizontal = axis is ax.xaxis
        axis.set_label_text(given.get("title", {}).get("text", ""))
        if given.get("type") == "log":
            ax.set_yscale("log")
            axis.set_major_locator(LogLocator(subs=(1.0,) if given.get("dtick") == 1 else (1.0, 2.0, 5.0)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        if given.get("tickformat", "").endswith("%"):
            axis.set_major_formatter(PercentFormatter(1.0))
        if "range" in given:
            (ax.set_xlim if horizontal else ax.set_ylim)(given["range"])
        elif given.get("rangemode") == "tozero":
            (ax.set_xlim if horizontal else ax.set_ylim)(0.0, None)
        if "tickvals" in given:
            axis.set_ticks(given["tickvals"], given["ticktext"])
        if given.get("title", {}).get("text") == "training step":
            axis.set_major_locator(MaxNLocator(5, integer=True))
    if place:
        ax.set_yticks(range(len(place)), list(place))
        ax.set_ylim(len(place) - 0.4, -0.6)
        ax.grid(False, axis="y")


def _scatter(ax: Any, trace: dict, place: dict[str, int], weight: float) -> None:
    color, name = _colour(trace["meta"]["color"]), trace["name"] if trace.get("showlegend", True) else None
    x, y = _numbers(trace["x"]), _numbers([place.get(v, v) if place else v for v in trace["y"]])
    if trace["mode"] == "markers":
        symbol = trace["marker"]["symbol"]
        face = "none" if symbol.endswith("open") else color
        shape = symbol.removesuffix("-open")
        size = (
            trace["marker"]["size"] / 2 * (0.7 if shape == "diamond" else 1.0)
        )  # matplotlib's is a square on a corner
        ax.plot(x, y, MARKERS[shape], ms=size, mfc=face, mec=color, mew=0.8, label=name, ls="", zorder=3)
        return
    if trace.get("connectgaps"):
        x, y = zip(*[(a, b) for a, b in zip(x, y, strict=True) if not math.isnan(b)], strict=True)
    look = {"color": color, "ls": DASHES[trace["line"].get("dash", "solid")]}
    width = 0.65 * trace["line"]["width"]
    if trace["meta"].get("smooth") and weight:
        ax.plot(x, y, lw=0.5, alpha=0.4, **look)
        y = smoothed(y, weight)
    marker = "." if trace["mode"] == "lines+markers" and len(x) < 3 else ""
    ax.plot(x, y, lw=width, label=name, marker=marker, **look)


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """As the page smooths: a mean over the neighbours on both sides whose weights fall exponentially; NaN stays NaN."""

    def before(values: Sequence[float]) -> list[tuple[float, float]]:
        total, norm, found = 0.0, 0.0, []
        for value in values:
            total, norm = total * weight, norm * weight
            found.append((total, norm))
            if not math.isnan(value):
                total, norm = total + value, norm + 1.0
        return found

    left, right = before(values), before(values[::-1])[::-1]
    return [(v + lt + rt) / (1.0 + ln + rn) for v, (lt, ln), (rt, rn) in zip(values, left, right, strict=True)]


def _edge(ax: Any, trace: dict, before: dict | None) -> None:
    """The second of a band's two traces fills down to the first."""
    meta = trace["meta"]
    if meta.get("fill") and before:
        low, high = _numbers(before["y"]), _numbers(trace["y"])
        color = _colour(meta["color"])
        ax.fill_between(trace["x"], low, high, color=color, alpha=meta["opacity"], lw=0, label=trace["name"])


def _bars(ax: Any, trace: dict, place: dict[str, int], beneath: list[float]) -> list[float]:
    """Draws the bars on those `beneath` and returns where they end."""
    meta = trace["meta"]
    if meta.get("tint"):
        _segments(ax, trace)
        return beneath
    color, sizes = _colour(meta["color"]), [value or 0.0 for value in (trace["x"] if place else trace["y"])]
    start = beneath[: len(sizes)]
    if place:
        ax.barh([place[y] for y in trace["y"]], sizes, left=start, height=0.6, color=color, label=trace["name"])
    else:
        ax.bar(trace["x"], sizes, bottom=start, width=0.85, color=color, label=trace["name"])
    return [a + b for a, b in zip(start, sizes, strict=True)] or beneath


def _segments(ax: Any, trace: dict) -> None:
    """One row of a timeline, each segment with its labels where these fit."""
    from matplotlib.colors import to_rgba

    for base, width, y, name, text in zip(
        trace["base"], trace["x"], trace["y"], trace["meta"]["color"], trace["text"], strict=True
    ):
        color = _colour(name)
        ax.barh(y, width, left=base, height=trace["width"], color=to_rgba(color, 0.28), ec=color, lw=1)
        said = _fitted(unescape(text), int(width / ax.get_xlim()[1] * COLUMN / LETTER))
        ax.annotate(said, (base + width / 2, y), ha="center", va="center", fontsize=6)


def _fitted(labels: str, room: int) -> str:
    """As many of the labels as `room` letters hold, as the page shows them: all, or the first ones, or the beginning of one."""
    if len(labels) <= room:
        return labels
    whole = labels[: max(room, 0)].rpartition(", ")[0]
    return f"{whole}, …" if whole else f"{labels[: room - 1]}…" if room > 2 else ""


def _colour(name: str | int) -> str:
    return COLOURS[f"series-{name}" if isinstance(name, int) else name]


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]
