"""The supervised warm start: training and validation loss, and the learning rates of the model's components (5.1.2)."""

from __future__ import annotations

from .palette import SERIES
from .traces import DASHES, Panel, line, steps_layout


def supervised(runs: list[dict]) -> list[Panel]:
    return _losses(runs) + _rates(runs)


def _losses(runs: list[dict]) -> list[Panel]:
    data = _lines(runs, {i: run["supervised"]["losses"] for i, run in enumerate(runs)})
    caption = "Mean loss a token; validation where it was measured."
    return [Panel("sft-loss", "supervised", "Loss", caption, data, steps_layout("nats a token"))] if data else []


def _rates(runs: list[dict]) -> list[Panel]:
    data = _lines(runs, {i: run["supervised"]["rates"] for i, run in enumerate(runs)}, smooth=False)
    caption = "Learning rate of each component of the model."
    layout = steps_layout("learning rate", rangemode="tozero", exponentformat="e")
    return [Panel("sft-rates", "supervised", "Learning rates", caption, data, layout)] if data else []


def _lines(runs: list[dict], series: dict[int, dict[str, list]], smooth: bool = True) -> list[dict]:
    """A line a name, of the series of each run: dashes tell names apart where lines coincide, colours names or several runs."""
    data = []
    for i, named in series.items():
        for number, (name, values) in enumerate(named.items()):
            many = len(runs) > 1
            called = f"{runs[i]['name']}, {name}" if many else name
            look = {"color": (i if many else number) % SERIES, "dash": DASHES[number % len(DASHES)], "smooth": smooth}
            data.append(line(runs[i]["steps"], values, called, run=i, connectgaps=True, **look))
    return data
