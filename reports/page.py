"""Renders the report of one run or several: one HTML file that holds everything it needs and asks nothing of the network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from .diagnosis import RULES, diagnose
from .examples import examples
from .figures import LABELS, PALETTE, SECTIONS, example_panels, flat, panels, shown_measures, starting_smoothness, title
from .figures.timelines import caption, example_id
from .figures.traces import measured
from .means import mean
from .numbers import COMPONENT_MEASURES, numbers, plain_data
from .parts import write_whole
from .runs import Run


def gather(runs: Sequence[Run]) -> dict[str, list[dict[str, Any]]]:
    """`{"runs": [...]}`: of every run its numbers, findings and examples, as plain JSON data. Names are made unique."""
    gathered: list[dict[str, Any]] = []
    for run in runs:
        shown = numbers(run)
        same = sum(other["name"].split(" (")[0] == shown["name"] for other in gathered)
        shown["name"] += f" ({same + 1})" if same else ""
        shown["findings"] = [finding._asdict() for finding in diagnose(run)]
        shown["examples"] = plain_data(examples(run, shown["tasks"]))
        gathered.append(shown)
    return {"runs": plain_data(gathered)}


def write_page(runs: Sequence[Run], path: str | Path) -> dict[str, Any]:
    """Writes the report of `runs` to `path` (whole or not at all) and returns the numbers that it shows."""
    shown = gather(runs)
    write_text(Path(path), render(shown))
    return shown


def write_text(path: Path, text: str) -> None:
    """The file is whole or as it was before; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: file.write(text.encode()))


def render(shown: dict[str, list[dict[str, Any]]], live: int = 0) -> str:
    """The page as text. A live one (`watch`) takes plotly.js from its server and asks it for news; `live` is its version."""
    runs = shown["runs"]
    charts = panels(runs)
    told = _examples(runs)
    specs = [chart.spec() for chart in charts + [each["panel"] for each in told if each["panel"]]]
    tasks = list(dict.fromkeys(task for run in runs for task in run["tasks"]))
    return _template().render(
        runs=runs,
        n=runs[0],
        many=len(runs) > 1,
        live=live,
        rules=len(RULES),
        losses=list(dict.fromkeys(name for run in runs for name in run["supervised"]["losses"])),
        tasks=tasks,
        sections=[(key, name, [c for c in charts if c.section == key]) for key, (name, _) in SECTIONS.items()],
        measures=[(m, LABELS[m]) for m in shown_measures(runs)],
        components=[c for c in COMPONENT_MEASURES if any(c in e for run in runs for e in run["components"].values())],
        labels=LABELS,
        examples=told,
        smoothing=starting_smoothness(runs),
        phases=[_phases(run["timing"]) for run in runs],
        palette={scheme: flat(scheme) for scheme in PALETTE},
        data=_script_json(
            {
                "tasks": tasks,
                "runs": [run["name"] for run in runs],
                "counts": [run["rollouts"] for run in runs],
                "panels": specs,
            }
        ),
        css=_file("page.css"),
        js=_file("page.js"),
        plotly="" if live else plotly(),
    )


def plotly() -> str:
    """plotly.js, of which its authors' basic bundle has all kinds of charts that a report draws, in a fifth of the size.

    `plotly-basic.min.js` is the file of the npm package plotly.js-basic-dist-min as it is published.
    """
    return _file("plotly-basic.min.js")


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"title_of": title, "score": _score, "share": _share, "change": _change, "spaced": _spaced}
    environment.filters |= {"sub_dimension": lambda name: title(name.split(".")[-1]), "said": caption}
    return environment.from_string(_file("page.html.j2"))


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _examples(runs: list[dict]) -> list[dict[str, Any]]:
    """Every example with its id, the number of its run and, where it has shots, its timeline."""
    timelines = {panel.id: panel for panel in example_panels(runs)}
    told = []
    for number, run in enumerate(runs):
        for example in run["examples"]:
            id = example_id(number, example)
            told.append(example | {"id": id, "run": number, "panel": timelines.get(id)})
    return told


def _phases(timing: dict[str, list]) -> list[tuple[str, float, float]]:
    """(phase, mean seconds where it ran, seconds in all), the longest first."""
    ran = {name: values for name, values in timing.items() if measured(values)}
    table = [(name, mean(values), sum(v or 0.0 for v in values)) for name, values in ran.items()]
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
