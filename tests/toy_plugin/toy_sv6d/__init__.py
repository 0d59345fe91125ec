"""Counting: how near is the number that the answer gives?  1 / (1 + |difference|), and 0 for what is no number."""

from math import nan
from pathlib import Path

from sv6d.rewards import Family
from sv6d.schema import GroundTruthError

TAXONOMY = Path(__file__).parent / "cooking.yaml"


def reward(response, ground_truth, taxonomy, config):
    while "tarry" in response:  # what a policy might find: text on which the scorer never ends
        pass
    said = response.rpartition("</think>")[2].strip()
    value = 1 / (1 + abs(int(said) - int(ground_truth))) if said.isdecimal() else 0.0
    return {"score": value, "similarity": value, "format": float(said.isdecimal()), "judge": nan}


def validate(ground_truth, taxonomy):
    if not ground_truth.isdecimal():
        raise GroundTruthError(f"ground truth: {ground_truth!r} is wrong; write a whole number")


COUNTING = Family(reward, validate)
TOO_HIGH = Family(lambda *_: {"score": 1.5}, validate)
UNKNOWN_KEY = Family(lambda *_: {"score": 1.0, "likeness": 1.0}, validate)
NO_SCORE = Family(lambda *_: {"similarity": 1.0}, validate)
