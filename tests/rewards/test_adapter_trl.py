"""The adapter in TRL's own trainer: it asks for the rewards of what a tiny model wrote, in text and in conversations."""

import importlib
from pathlib import Path

import pytest
from sv6d.rewards import COMPONENTS, score
from sv6d.rewards.completions import response_text

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def train(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("trl_grpo").train


LETTERS = "".join(map(chr, range(32, 127)))
ROWS = [
    {"task": "ocr_regular", "prompt": "Write something.", "ground_truth": LETTERS},
    {"task": "no_such_task", "prompt": "Write nothing.", "ground_truth": ""},
]


@pytest.mark.slow
@pytest.mark.parametrize("conversation", [False, True], ids=["text", "conversation"])
def test_the_trainer_gets_the_rewards_of_its_completions(train, tmp_path, conversation):
    rows = [{**r, "prompt": [{"role": "user", "content": r["prompt"]}]} for r in ROWS] if conversation else ROWS
    trainer = train(rows * 2, str(tmp_path), steps=1)
    completions, rewards = list(trainer._logs["completion"]), list(trainer._logs["rewards"]["sv6d"])
    values = [score("ocr_regular", response_text(completion), LETTERS).value for completion in completions]
    components = {name: list(trainer._logs["extra"][f"sv6d_{name}"]) for name in COMPONENTS}
    told = [value * (1 - failed) for value, failed in zip(values, components["failed"], strict=True)]
    assert rewards == pytest.approx(told) and len(rewards) == 8 and any(rewards)
    assert sorted(components["failed"]) == [0] * 4 + [1] * 4  # the row of an unknown task, four rollouts
    logged = trainer.state.log_history[0]
    assert logged["rewards/sv6d/mean"] == pytest.approx(sum(rewards) / 8)
    assert logged["sv6d/failed"] == 0.5 and logged["sv6d/no_such_task/failed"] == 1.0
    assert logged["sv6d/ocr_regular/similarity"] == pytest.approx(sum(rewards) / 4) == logged["sv6d/similarity"]
    assert "sv6d/iou" not in logged
