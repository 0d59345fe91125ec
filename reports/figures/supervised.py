"""The supervised warm start: training and validation loss, and the learning rates of the model's components (5.1.2)."""

from __future__ import annotations

from typing import Literal

from .palette import SERIES
from .traces import DASHES, Panel, line, steps_layout

WORDS = {"solid": "solid", "dash": "dashed", "dot": "dotted"}


def supervised(runs: list[dict]) -> list[Panel]:
    return _losses(runs) + _rates(runs)


def _losses(runs: list[dict]) -> list[Panel]:
    data, key = _lines(runs, "losses", smooth=True)
    caption = f"Mean loss a token; validation where it was measured.{key}"
    return [Panel("sft-loss", "supervised", "Loss", caption, data, steps_layout("nats a token"))] if data else []


def _rates(runs: list[dict]) -> list[Panel]:
    data, key = _lines(runs, "rates", smooth=False)
    caption = f"Learning rate of each component of the model.{key}"
    layout = steps_layout("learning rate", rangemode="tozero", exponentformat="e")
    return [Panel("sft-rates", "supervised", "Learning rates", caption, data, layout)] if data else []


def _lines(runs: list[dict], kind: Literal["losses", "rates"], smooth: bool) -> tuple[list[dict], str]:
    """A line a name and run, and the words for the dashes, which tell names apart where lines coincide. Colours are the names'
    in a single run; several runs have their own."""
    many, data = len(runs) > 1, []
    names = list(dict.fromkeys(name for run in runs for name in run["supervised"][kind]))
    dashes = {name: DASHES[number % len(DASHES)] for number, name in enumerate(names)}
    for i, run in enumerate(runs):
        for name, values in run["supervised"][kind].items():
            look = {"color": (i if many else names.index(name)) % SERIES, "dash": dashes[name], "smooth": smooth}
            called = f"{run['name']}, {name}" if many else name
            data.append(line(run["steps"], values, called, run=i, connectgaps=True, **look))
    key = "; ".join(f"{WORDS[dash]}: {name}" for name, dash in dashes.items())
    return data, f" A colour a run; {key}." if many else ""
