"""The report's charts as plotly figure descriptions (plain data), made from `numbers`; the page's script draws them.

Each takes the numbers of one run or of several: those of a single run also say what changed, those of several have a colour
for each run. The three panels of Figure 3 come first and keep its order: entropy, reward, length.
"""

from __future__ import annotations

from .learning import by_task, components, dynamics, heldout, shown_measures
from .palette import PALETTE, flat
from .signal import groups, mixture
from .supervised import supervised
from .timelines import example_panels, timeline
from .traces import LABELS, Panel, starting_smoothness, title
from .upkeep import health, scoring, timing

__all__ = [
    "LABELS",
    "PALETTE",
    "SECTIONS",
    "Panel",
    "example_panels",
    "flat",
    "panels",
    "shown_measures",
    "starting_smoothness",
    "timeline",
    "title",
]

SECTIONS = {
    "dynamics": ("Training dynamics", dynamics),
    "supervised": ("Supervised fine-tuning", supervised),
    "heldout": ("Held-out score", heldout),
    "tasks": ("Task by task", by_task),
    "components": ("Components by task", components),
    "groups": ("Rewards within groups", groups),
    "mixture": ("Mixture of tasks", mixture),
    "health": ("Drift, truncation, staleness, failures", health),
    "scoring": ("Scoring and judging", scoring),
    "timing": ("Time", timing),
}
"""In the order of the page: what a section is called and what makes its charts."""


def panels(runs: list[dict]) -> list[Panel]:
    """All charts that the runs have data for, in the order of the page."""
    return [panel for _, make in SECTIONS.values() for panel in make(runs)]
