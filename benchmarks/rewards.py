"""How fast the rewards are: python benchmarks/rewards.py

A seeded step of 3,120 realistic rollouts (390 prompts x 8): 1,920 grounding with 1-40 segments and six dimensions, 480
localization, 480 OCR of 20-2,000 characters with Chinese and LaTeX, 240 chain of thought; 5 % malformed.  One thread.

Prints microseconds a sample: of the first pass of a process (every cache empty), with new prompts (each ground truth is
read and made ready for its 8 rollouts, as in a step of training), and with known prompts; no response is ever remembered.
And the ratio to a floor measured in the same run: what any scorer must at least call, `json.loads` and one
`linear_sum_assignment` for each set of segments, one rapidfuzz call for each text; nothing for the ground truths.
"""

import json
import os
import random
import time
from collections.abc import Callable
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import itertools

import numpy as np
from rapidfuzz.distance import Levenshtein
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment
from sv6d.rewards import score
from sv6d.rewards.matching import _read_truth
from sv6d.schema import Taxonomy

SUBS = (
    ("camera_language", "shot_size"),
    ("aesthetics", "composition"),
    ("editing", "transition_type"),
    ("subject", "configuration"),
    ("narrative", "segment_function"),
    ("dissemination", "retention_engine"),
)
LETTERS = "the quick brown fox 0123456789 " * 3 + "中文字幕测试识别" + r"\frac{a}{b}\sum_{i=1}^{n}x_i^2 "
MALFORMED = 0.05
PROMPTS = {"temporal_grounding": 240, "action_localization": 60, "ocr": 60, "chain_of_thought": 30}
GROUP = 8


class Sample(NamedTuple):
    family: str
    response: str
    truth: str


def workload(seed: int = 0) -> list[Sample]:
    """The rollouts of one step, in the order of their prompts."""
    rng = random.Random(seed)
    samples = []
    for family, prompts in PROMPTS.items():
        make = {"ocr": ocr, "chain_of_thought": reasoning}.get(family, grounding)
        for _ in range(prompts):
            samples += [Sample(family, damage(r, rng), t) for r, t in make(rng, family == "temporal_grounding")]
    return samples


def grounding(rng: random.Random, labelled: bool):
    taxonomy = Taxonomy.load()

    def tags(pair):
        sub = taxonomy.sub_dimension(*pair)
        return rng.sample(sub.labels, rng.choice((1, 1, 2))) if sub.cardinality == "many" else rng.choice(sub.labels)

    def segments(cuts, noise):
        made = []
        for start, end in itertools.pairwise(cuts):
            start, end = (round(max(0.0, t + rng.gauss(0, noise)), 2) for t in (start, end))
            segment = {"start": min(start, end), "end": max(start, end)}
            if labelled:
                segment["labels"] = {pair[0]: {pair[1]: tags(pair)} for pair in SUBS}
            made.append(segment)
        return made

    count = rng.randint(1, 40) if labelled else rng.randint(1, 5)
    cuts = sorted(rng.uniform(0, 120) for _ in range(count + 1))
    truth = json.dumps({"segments": segments(cuts, 0.0)})
    for _ in range(GROUP):
        kept = [cuts[0], *(c for c in cuts[1:-1] if rng.random() > 0.1), cuts[-1]]
        answer = json.dumps({"segments": segments(kept, 0.3)})
        yield (f"```json\n{answer}\n```" if rng.random() < 0.5 else answer), truth


def ocr(rng: random.Random, _):
    truth = "".join(rng.choices(LETTERS, k=rng.randint(20, 2000))).strip()
    for _ in range(GROUP):
        yield "".join(rng.choice(LETTERS) if rng.random() < 0.05 else c for c in truth), truth


def reasoning(rng: random.Random, _):
    truth = rng.choice(("A", "B", "C", "12", "3.5", "a red car"))
    for _ in range(GROUP):
        thought = "".join(rng.choices(LETTERS, k=rng.randint(100, 1500)))
        answer = truth if rng.random() < 0.5 else rng.choice(("B", "7", "a blue car"))
        yield f"<think>{thought}</think>\n<answer>{answer}</answer>", truth


def damage(response: str, rng: random.Random) -> str:
    """Now and then cut short or misspelt."""
    if rng.random() >= MALFORMED:
        return response
    return rng.choice(
        (response[: len(response) // 2], response.replace(",", ",,", 1), "I am not sure.", response + " Done.")
    )


def floor_of(sample: Sample) -> Callable[[], object]:
    """The calls that no scorer of this sample can do without."""
    if sample.family == "ocr":
        return lambda: Levenshtein.distance(sample.response, sample.truth)
    if sample.family == "chain_of_thought":
        return lambda: None
    text = sample.response.removeprefix("```json\n").removesuffix("\n```")
    try:
        size = len(json.loads(text)["segments"]), len(json.loads(sample.truth)["segments"])
    except (ValueError, KeyError):
        return lambda: None
    cost = np.random.default_rng(0).random(size)

    def floor():
        json.loads(text)
        linear_sum_assignment(cost)

    return floor


def seconds(calls: list[Callable[[], object]]) -> float:
    """CPU seconds of this thread over all calls."""
    began = time.thread_time()
    for call in calls:
        call()
    return time.thread_time() - began


def measured(own: list[Sample], rounds: int = 9) -> list[float]:
    """CPU seconds of the floor, the first pass, new and known prompts; the best of some rounds, taken in turns so that a
    busy machine slows all of them alike.
    """
    floor = [floor_of(sample) for sample in own]
    calls = [lambda s=s: score(s.family, s.response, s.truth) for s in own]
    first = seconds(calls)
    turns = []
    for _ in range(rounds):
        known = seconds(calls)
        _read_truth.cache_clear()
        turns.append((seconds(floor), seconds(calls), known))
    of_floor, new, known = map(min, zip(*turns, strict=True))
    return [of_floor, first, new, known]


def main():
    samples = workload()
    Taxonomy.load()
    table = Table(title=f"{len(samples)} rollouts, one thread: microseconds a sample, times the floor")
    for name in ("family", "rollouts", "floor", "first pass", "x", "new prompts", "x", "known prompts", "x"):
        table.add_column(name, justify="left" if name == "family" else "right", no_wrap=True)
    total = [0.0] * 4
    for family in PROMPTS:
        own = [s for s in samples if s.family == family]
        taken = measured(own)
        total = [a + b for a, b in zip(total, taken, strict=True)]
        table.add_row(family, str(len(own)), *figures(taken, len(own)))
    table.add_section()
    table.add_row("all", str(len(samples)), *figures(total, len(samples)))
    Console(width=112).print(table)


def figures(taken: list[float], samples: int) -> list[str]:
    """Microseconds a sample: the floor, then each of the others with its ratio to the floor."""
    floor, *others = (t / samples * 1e6 for t in taken)
    return [f"{floor:.1f}", *(text for t in others for text in (f"{t:.1f}", f"{t / floor:.2f}" if floor > 1 else "–"))]


if __name__ == "__main__":
    main()
