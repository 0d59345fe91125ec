"""A package of somebody else's, really installed: its family and taxonomy work wherever ours do, and its faults are its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOY = Path(__file__).parents[1] / "toy_plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder that holds the installed package; a process that has it in PYTHONPATH has the package."""
    folder = tmp_path_factory.mktemp("toy")
    shutil.copytree(TOY, folder / "source")  # building leaves files beside the source
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    run = subprocess.run([*pip, "--target", folder / "site", folder / "source"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder / "site"


def run(installed: Path, *command, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(installed), "COLUMNS": "200"}
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=120, env=environment, **options
    )


@pytest.fixture(scope="module")
def said(installed) -> dict:
    """What one process with the package says of everything asked below (a process costs a second)."""
    code = """
import json, sys
from sv6d.rewards import score
from sv6d.rewards.families import find_family
from sv6d.schema import Taxonomy

def outcome(*arguments, **options):
    try:
        return score(*arguments, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

truth = '[{"start": 0, "end": 5, "labels": {"kitchen": {"heat": "Medium"}}}]'
answer = lambda tag: truth.replace("Medium", tag)
print(json.dumps({
    "near": outcome("toy_family", "<think>6? 7?</think> 7", "5"),
    "bounded": find_family("toy_family").bounded,
    "validate": outcome("toy_family", "1", "many"),
    **{name: outcome("toy_" + name, "1", "1") for name in ("too_high", "unknown_key", "no_score", "missing", "no_family")},
    "unknown task": outcome("toy_famly", "1", "1"),
    "next tag": outcome("temporal_grounding", answer(" High "), truth, taxonomy="toy_cooking"),
    "other case": outcome("temporal_grounding", answer("medium"), truth, taxonomy="toy_cooking"),
    "no path": outcome("ocr", "a", "a", taxonomy="toy_no_path"),
    "no taxonomy": outcome("ocr", "a", "a", taxonomy="toy_cookin"),
    "built-in": outcome("ocr", "a", "a"),
}))
"""
    done = run(installed, sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_family_scores_by_its_name(said):
    value, components = said["near"]
    assert value == pytest.approx(1 / 3)  # two away
    assert components["similarity"] == value and components["format"] == 1.0 and components["failed"] == 0.0
    assert len(components) == 12 and components["iou"] != components["iou"]
    assert said["built-in"][0] == 1.0
    assert said["bounded"] is False


def test_its_ground_truths_are_checked_by_it(said):
    assert said["validate"].startswith("ValueError")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("too_high", ["PluginError", "family 'toy_too_high'", "component 'score' is 1.5", "0 to 1"]),
        ("unknown_key", ["PluginError", "family 'toy_unknown_key'", "component 'likeness' is unknown"]),
        ("no_score", ["PluginError", "family 'toy_no_score'", "'score'"]),
        (
            "missing",
            ["PluginError", "toy-sv6d 0.3.0", "toy_missing = toy_sv6d:NOT_THERE", "does not load", "uninstall"],
        ),
        ("no_family", ["PluginError", "toy-sv6d 0.3.0", "toy_no_family", "PosixPath", "Family"]),
        ("no path", ["PluginError", "toy-sv6d 0.3.0", "toy_no_path", "path of a YAML"]),
        ("unknown task", ["TaskError", "'toy_family'"]),
        ("no taxonomy", ["TaxonomyError", "'toy_cookin'", "did you mean 'toy_cooking'"]),
    ],
)
def test_what_is_wrong_is_named(said, name, words):
    assert all(word in said[name] for word in words), said[name]


def test_a_taxonomy_by_name_with_its_own_normalisation(said):
    """One rank of three apart: Label 1/2, the tag counts as known in spite of its spaces; another case is another tag."""
    assert said["next tag"][1]["label"] == pytest.approx(0.5) and said["next tag"][1]["r_prof"] == 0.0
    assert said["other case"][1]["label"] == 0.0 and said["other case"][1]["r_prof"] == 1.0


def test_sv6d_score_takes_the_family_and_ends_an_answer_that_it_never_gets_over(installed, tmp_path):
    rows = [{"task": "toy_family", "response": text, "ground_truth": "5"} for text in ("5", "please tarry", "7")]
    file = tmp_path / "rollouts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(installed, Path(sys.executable).with_name("sv6d"), "score", file, "--time-limit", "0.5")
    assert done.returncode == 1
    assert "row 1: " in done.stderr and "0.5 s" in done.stderr, done.stderr
    assert "0.667 ±0.333" in next(line for line in done.stdout.splitlines() if "toy_family" in line)


IN_VERL = """
import asyncio, json, time
import numpy as np, torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto
from verl.trainer.ppo.reward import resolve_reward_manager_cls

class Characters:
    def decode(self, ids, skip_special_tokens):
        return "".join(map(chr, ids.tolist()))

def rollout(task, text, truth):
    ids = torch.tensor([[ord(c) for c in text]])
    batch = TensorDict({"prompts": ids, "responses": ids, "attention_mask": torch.ones_like(ids.repeat(1, 2))}, batch_size=1)
    row = {"data_source": task, "reward_model": {"ground_truth": truth}, "extra_info": {}}
    return DataProto(batch=batch, non_tensor_batch={k: np.array([v], dtype=object) for k, v in row.items()})

config = OmegaConf.create({"reward": {
    "reward_manager": {"source": "register", "name": "sv6d"}, "reward_kwargs": {"time_limit": 0.5, "taxonomy": "toy_cooking"},
}})
manager = resolve_reward_manager_cls(config)(config=config, tokenizer=Characters(), compute_score=None)
truth = '[{"start": 0, "end": 5, "labels": {"kitchen": {"heat": "Medium"}}}]'
rows = [("toy_family", "please tarry", "5"), ("toy_family", "7", "5"), ("temporal_grounding", truth, truth), ("toy_too_high", "1", "1")]

async def run():
    return await asyncio.gather(*(manager.run_single(rollout(*row)) for row in rows))

print(json.dumps(asyncio.run(run())))
"""


@pytest.mark.slow
def test_verl_s_reward_manager_takes_family_and_taxonomy_and_ends_what_does_not_end(installed):
    done = run(installed, sys.executable, "-c", IN_VERL)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert [r["reward_score"] for r in results] == [0.0, pytest.approx(1 / 3), 1.0, 0.0]
    assert [r["reward_extra_info"]["failed"] for r in results] == [1.0, 0.0, 0.0, 1.0]
    assert "0.5 s" in done.stderr and "component 'score' is 1.5" in done.stderr, done.stderr


COLLIDING = {
    "ocr = toy:X": "sv6d has a task or family of that name",
    "toy_family = other:X": "has that name already",
}


@pytest.mark.parametrize(("line", "said"), COLLIDING.items())
def test_a_name_that_is_taken_is_refused_whatever_is_asked(installed, tmp_path, line, said):
    metadata = tmp_path / "second_toy-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: second-toy\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[sv6d.families]\n{line}\n")
    code = "from sv6d.rewards import score; score('subject', '', '[]')"
    done = run(installed, sys.executable, "-c", f"import sys; sys.path.append({str(tmp_path)!r}); {code}")
    assert done.returncode == 1
    assert "PluginError" in done.stderr and "second-toy 1.0" in done.stderr and said in done.stderr, done.stderr
