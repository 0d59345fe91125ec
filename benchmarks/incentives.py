"""What strategies other than an honest answer earn: python benchmarks/incentives.py

Ten true shots with six sub-dimensions; each strategy's reward in the three modes of `RewardConfig`, without and with the
overlap gate.  In the default mode nothing beats the honest noisy answer; in `table4_matched`, eq. 8 and 9 as printed,
leaving things out pays.  Means over 20 seeded videos.
"""

import json
import random
from collections.abc import Callable
from itertools import combinations, pairwise
from statistics import fmean

from rich.console import Console
from rich.table import Table
from sv6d.rewards import RewardConfig, score
from sv6d.schema import Taxonomy

TAXONOMY = Taxonomy.load()
SUBS = [
    TAXONOMY.sub_dimension(*pair)
    for pair in (
        ("camera_language", "shot_size"),
        ("aesthetics", "composition"),
        ("editing", "transition_type"),
        ("subject", "configuration"),
        ("narrative", "segment_function"),
        ("dissemination", "retention_engine"),
    )
]
SHOTS, DURATION = 10, 60.0
Shot = dict
Strategy = Callable[[list[Shot], random.Random], list[Shot] | str]


def shot(start: float, end: float, tags: dict[str, str]) -> Shot:
    """A shot with one tag for each sub-dimension, as an answer writes it."""
    labels: dict[str, dict] = {}
    for sub in SUBS:
        if sub.name in tags:
            tag = tags[sub.name]
            labels.setdefault(sub.dimension, {})[sub.name] = [tag] if sub.cardinality == "many" else tag
    return {"start": start, "end": end, "labels": labels}


def video(rng: random.Random) -> list[Shot]:
    """The true shots, one after the other."""
    cuts = [0.0, *sorted(round(rng.uniform(1, DURATION - 1), 2) for _ in range(SHOTS - 1)), DURATION]
    return [shot(a, b, {s.name: rng.choice(s.labels) for s in SUBS}) for a, b in pairwise(cuts)]


def middle() -> dict[str, str]:
    """For each sub-dimension the tag that is nearest to all others: the best guess without looking."""
    return {s.name: s.labels[int(s.distances.sum(axis=1).argmin())] for s in SUBS}


def noisy(true: list[Shot], rng: random.Random, seconds: float = 0.4, wrong: float = 0.25) -> list[Shot]:
    """Cuts some tenths of a second off, and one tag in four a step away."""
    cuts = [true[0]["start"], *(max(0.0, s["end"] + rng.gauss(0, seconds)) for s in true)]
    cuts.sort()
    answer = []
    for s, (start, end) in zip(true, pairwise(cuts), strict=True):
        tags = {}
        for sub in SUBS:
            tag = s["labels"][sub.dimension][sub.name]
            tag = tag[0] if isinstance(tag, list) else tag
            near = TAXONOMY.neighbors(sub.dimension, sub.name, tag)
            tags[sub.name] = rng.choice(near) if near and rng.random() < wrong else tag
        answer.append(shot(round(start, 2), round(end, 2), tags))
    return answer


def grid(count: int, tags: Callable[[], dict[str, str]]) -> list[Shot]:
    step = DURATION / count
    return [shot(i * step, (i + 1) * step, tags()) for i in range(count)]


def timed(true: list[Shot], start: Callable[[Shot], float], end: Callable[[Shot], float]) -> list[Shot]:
    return [{**s, "start": start(s), "end": end(s)} for s in true]


def all_tags(s: Shot) -> Shot:
    labels: dict[str, dict] = {}
    for sub in SUBS:
        labels.setdefault(sub.dimension, {})[sub.name] = list(sub.labels)
    return {**s, "labels": labels}


def stretches() -> list[Shot]:
    """Every stretch between two points of a grid, 105 of them: some lie near each true shot."""
    points = [DURATION * i / 14 for i in range(15)]
    return [shot(start, end, middle()) for start, end in combinations(points, 2)]


NOISY = "noisy: cuts 0.4 s off, 1 tag in 4 a step off"
HONEST: dict[str, Strategy] = {"perfect": lambda true, rng: true, NOISY: noisy}
HACKS: dict[str, Strategy] = {
    "one perfect shot of ten": lambda true, rng: true[:1],
    "five perfect shots of ten": lambda true, rng: true[::2],
    "perfect plus 90 tiny ones": lambda true, rng: true + timed(true * 9, lambda s: 0.0, lambda s: 0.01),
    "perfect, each twice": lambda true, rng: [s for s in true for _ in range(2)],
    "whole video as one shot": lambda true, rng: [{**true[0], "start": 0.0, "end": DURATION}],
    "whole video, once for each shot": lambda true, rng: timed(true, lambda s: 0.0, lambda s: DURATION),
    "right labels at wrong times": lambda true, rng: timed(
        true, lambda s: 900.0 + s["start"], lambda s: 900.0 + s["end"]
    ),
    "right labels, no length": lambda true, rng: timed(true, lambda s: s["end"], lambda s: s["end"]),
    "equal shots, middle labels": lambda true, rng: grid(SHOTS, middle),
    "equal shots, random labels": lambda true, rng: grid(SHOTS, lambda: {s.name: rng.choice(s.labels) for s in SUBS}),
    "40 equal shots, middle labels": lambda true, rng: grid(40, middle),
    "every stretch of the video, middle labels": lambda true, rng: stretches(),
    "noisy, constant middle label": lambda true, rng: [
        {**s, "labels": shot(0, 0, middle())["labels"]} for s in noisy(true, rng)
    ],
    "noisy, every tag listed": lambda true, rng: [all_tags(s) for s in noisy(true, rng)],
    "noisy times, no labels": lambda true, rng: [{**s, "labels": {}} for s in noisy(true, rng)],
    "form only: one instant, labelled": lambda true, rng: [shot(0.0, 0.0, middle())],
    "empty list": lambda true, rng: [],
    "no answer": lambda true, rng: "I am not sure.",
}
MODES = ("table4", "table4_matched", "literal")


def earned(strategy: Strategy, config: RewardConfig, videos: int = 20) -> float:
    """The mean reward of a strategy over seeded videos."""
    rewards = []
    for seed in range(videos):
        rng = random.Random(seed)
        true = video(rng)
        answer = strategy(true, rng)
        text = answer if isinstance(answer, str) else json.dumps({"segments": answer})
        rewards.append(score("temporal_grounding", text, json.dumps(true), config=config).value)
    return fmean(rewards)


def main():
    table = Table(title="Reward of each strategy; with the overlap gate in brackets")
    table.add_column("strategy", no_wrap=True)
    for mode in MODES:
        table.add_column(mode, justify="right")
    configs = [[RewardConfig(mode=mode, overlap_gate=gate) for gate in (False, True)] for mode in MODES]
    best = [[earned(HONEST[NOISY], config) for config in pair] for pair in configs]
    for name, strategy in {**HONEST, **HACKS}.items():
        cells = []
        for pair, honest in zip(configs, best, strict=True):
            values = [earned(strategy, config) for config in pair]
            pays = name in HACKS and any(v > h for v, h in zip(values, honest, strict=True))
            text = f"{values[0]:.2f} ({values[1]:.2f})"
            cells.append(f"[bold red]{text} pays[/]" if pays else text)
        table.add_row(name, *cells)
        if name == NOISY:
            table.add_section()
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
