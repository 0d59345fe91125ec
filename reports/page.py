"""Renders a run's report: one HTML file that holds everything it needs (plotly.js once) and asks nothing of the network."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

from .figures import LABELS, Panel, panels, title
from .numbers import COMPONENT_MEASURES, MEASURES, numbers
from .runs import Run

PALETTE = {  # Okabe-Ito's colours, safe for colour-blind readers; grey and ink around them
    "light": {
        "series": ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A6FB0"],
        "all": "#1b1f24",
        "last": "#0072B2",
        "first": "#6b7480",
        "bar": "#b6bec8",
        "context": "#b6bec8",
    },
    "dark": {
        "series": ["#56B4E9", "#F0803C", "#2BC79A", "#DE9BC1", "#F2B93B", "#F0E442", "#A79BE0"],
        "all": "#e8eaed",
        "last": "#56B4E9",
        "first": "#9aa4b0",
        "bar": "#4a5461",
        "context": "#59636f",
    },
}
SECTIONS = {
    "dynamics": "Training dynamics",
    "heldout": "Held-out score",
    "tasks": "Task by task",
    "components": "Components by task",
    "groups": "Groups without a gradient",
    "mixture": "Mixture of tasks",
    "health": "Truncation, staleness, agreement, failures",
    "timing": "Time",
}


def write_page(run: Run, path: str | Path) -> dict[str, Any]:
    """Writes the report of `run` to `path` (whole or not at all) and returns the numbers that it shows."""
    shown = numbers(run)
    path = Path(path)
    tmp = path.with_name(path.name + ".tmp")
    tmp.write_text(render(shown), encoding="utf-8")
    os.replace(tmp, path)
    return shown


def render(shown: dict[str, Any]) -> str:
    """The page as text."""
    import jinja2
    from plotly.offline import get_plotlyjs

    charts = panels(shown)
    folder = resources.files(__package__)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"title_of": title, "score": _score, "share": _share, "change": _change, "spaced": _spaced}
    return environment.from_string(folder.joinpath("page.html.j2").read_text(encoding="utf-8")).render(
        n=shown,
        sections=[(key, name, _of(charts, key)) for key, name in SECTIONS.items()],
        measures=[(m, LABELS[m]) for m in MEASURES if any(m in series for series in shown["by_task"].values())],
        components=[c for c in COMPONENT_MEASURES if any(c in ends for ends in shown["components"].values())],
        labels=LABELS,
        smoothing=min(0.6, len(shown["steps"]) // 20 * 0.3),
        phases=_phases(shown["timing"]),
        data=_script_json({"tasks": shown["tasks"], "palette": PALETTE, "panels": [c.spec() for c in charts]}),
        css=folder.joinpath("page.css").read_text(encoding="utf-8"),
        js=folder.joinpath("page.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
    )


def _of(charts: list[Panel], section: str) -> list[Panel]:
    return [chart for chart in charts if chart.section == section]


def _phases(timing: dict[str, list]) -> list[tuple[str, float, float]]:
    """(phase, mean seconds where it ran, seconds in all), the longest first."""
    table = []
    for name, values in timing.items():
        ran = [v for v in values if v is not None]
        table.append((name, sum(ran) / max(len(ran), 1), sum(ran)))
    return sorted(table, key=lambda row: -row[2])


def _script_json(value: Any) -> str:
    """JSON that may stand inside a script element, whatever names a run holds."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _change(pair: tuple[float | None, float | None]) -> str:
    before, after = pair
    return "–" if before is None or after is None else f"{after - before:+.3f}".replace("-", "−")


def _spaced(value: int) -> str:
    return f"{value:,}"
