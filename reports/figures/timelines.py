"""The shots of an answer against the true ones, on one axis of time: pairs of the matching (eq. 7) share a colour."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from .palette import SERIES
from .traces import Panel, title

TRUE, SAID = 1.0, 0.0  # heights of the two rows
HALF = 0.3  # of a bar's height


def example_id(run: int, example: dict) -> str:
    """The name of an example's panel; `run` is the number of its run."""
    return f"example-{run}-{example['kind']}-{example['task']}"


def example_panels(runs: list[dict]) -> list[Panel]:
    """The timelines of all examples that have shots."""
    return [
        timeline(example, example_id(number, example))
        for number, run in enumerate(runs)
        for example in run["examples"]
        if example["shots"]
    ]


def timeline(example: dict, id: str) -> Panel:
    """One chart: the true segments above, the answered ones below, what was matched joined by an area.

    Segments of no pair are grey. Every bar bears its labels, of which the page and the printed figure show as many as have room
    (the hover text has all); those that are wrong stand in the answer's hover text with the true ones.
    """
    shots = example["shots"]
    true = [_bar(p["true"], i, _labels(p, "true"), _true_text(p)) for i, p in enumerate(shots["pairs"])]
    said = [_bar(p["predicted"], i, _labels(p, "predicted"), _said_text(p)) for i, p in enumerate(shots["pairs"])]
    true += [_lone(shot, "not answered") for shot in shots["unmatched_true"]]
    said += [_lone(shot, "no true counterpart") for shot in shots["unmatched_predicted"]]
    end = max((bar["times"][1] for bar in true + said), default=1.0)
    data = [_row(true, TRUE, "true"), _row(said, SAID, "answered")]
    layout = {
        "xaxis": {"title": {"text": "seconds"}, "range": [0.0, 1.01 * end or 1.0]},
        "yaxis": {"tickvals": [SAID, TRUE], "ticktext": ["answered", "true"], "range": [-0.5, 1.5], "fixedrange": True},
        "shapes": [_join(pair, i) for i, pair in enumerate(shots["pairs"])],
        "barmode": "overlay",
        "meta": {"timeline": True},
    }
    heading = f"{title(example['task'])}, {example['kind']}"
    return Panel(id, "examples", heading, caption(example), data, layout, task=example["task"])


def caption(example: dict) -> str:
    """The example in a sentence, for readers who do not see the chart."""
    shots = example["shots"]
    parts = [f"{example['kind']} of the last steps, step {example['step']}, score {example['score']:.3f}"]
    if example["unread"]:
        parts.append(example["unread"])
    parts.append(f"{len(shots['pairs'])} matched, {len(shots['unmatched_true'])} true segments not answered")
    if shots["unmatched_predicted"]:
        parts.append(f"{len(shots['unmatched_predicted'])} answered without counterpart")
    return "; ".join(parts) + "."


def _row(bars: list[dict], height: float, name: str) -> dict:
    return {
        "type": "bar",
        "orientation": "h",
        "y": [height] * len(bars),
        "base": [bar["times"][0] for bar in bars],
        "x": [bar["times"][1] - bar["times"][0] for bar in bars],
        "width": 2 * HALF,
        "text": [bar["label"] for bar in bars],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "constraintext": "none",
        "hovertext": [bar["text"] for bar in bars],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "name": name,
        "showlegend": False,
        "meta": {"color": [bar["color"] for bar in bars], "tint": True},
    }


def _bar(times: list[float], pair: int | None, label: str, text: str) -> dict:
    color = "first" if pair is None else pair % SERIES
    return {"times": times, "color": color, "label": label, "text": text}


def _lone(shot: dict, why: str) -> dict:
    lines = [f"{_span(shot['times'])}, {why}", *(f"{_said(name)}: {_tags(tags)}" for name, tags in shot["tags"])]
    return _bar(shot["times"], None, _joined(tag for _, tags in shot["tags"] for tag in tags), "<br>".join(lines))


def _join(pair: dict, number: int) -> dict:
    """The area between a true segment and the answered one that it was matched with."""
    (a, b), (c, d), top, bottom = pair["true"], pair["predicted"], TRUE - HALF, SAID + HALF
    path = f"M {a},{top} L {b},{top} L {d},{bottom} L {c},{bottom} Z"
    return {"type": "path", "path": path, "line": {"width": 0}, "layer": "below", "color": number % SERIES}


def _labels(pair: dict, side: str) -> str:
    return _joined(tag for tags in pair["tags"] for tag in tags[side])


def _joined(tags: Iterable[str]) -> str:
    return escape(", ".join(tags), quote=False)


def _true_text(pair: dict) -> str:
    return "<br>".join([_span(pair["true"]), *(f"{_said(t['name'])}: {_tags(t['true'])}" for t in pair["tags"])])


def _said_text(pair: dict) -> str:
    lines = [f"{_span(pair['predicted'])}, IoU {pair['iou']:.3f}"]
    for tag in pair["tags"]:
        wrong = f" (true: {_tags(tag['true'])}, distance {tag['distance']:.2f})" if tag["distance"] else ""
        lines.append(f"{_said(tag['name'])}: {_tags(tag['predicted'])}{wrong}")
    return "<br>".join(lines)


def _said(name: str) -> str:
    return title(name.split(".")[-1])


def _tags(tags: list[str]) -> str:
    """Words of a model, in which plotly must not find markup."""
    return escape(" + ".join(tags), quote=False) or "none"


def _span(times: list[float]) -> str:
    return f"{times[0]:.1f} to {times[1]:.1f} s"
