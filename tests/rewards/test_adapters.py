"""What the adapters share: the text of a completion, and rows that are scored whatever they hold."""

import asyncio
import logging
import subprocess
import sys

import pytest
from sv6d.rewards import COMPONENTS, RewardConfigError, score
from sv6d.rewards.adapters.rows import RowScorer
from sv6d.rewards.adapters.trl import SV6DReward
from sv6d.rewards.completions import response_text

TEXTS = {
    "text": ("abc", "abc"),
    "conversation": ([{"role": "assistant", "content": "abc"}], "abc"),
    "blocks": (
        [{"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "bc"}]}],
        "abc",
    ),
    "last of several": (
        [
            {"role": "assistant", "content": "a"},
            {"role": "tool", "content": "b"},
            {"role": "assistant", "content": "c"},
        ],
        "c",
    ),
    "separated thinking": ([{"role": "assistant", "content": "b", "reasoning_content": "a"}], "<think>a</think>b"),
    "an empty answer": ([{"role": "assistant", "content": None}], ""),
}


@pytest.mark.parametrize(("completion", "text"), TEXTS.values(), ids=TEXTS)
def test_the_text_of_a_completion(completion, text):
    assert response_text(completion) == text


def score_rows(rows, **options):
    scorer = RowScorer(**options)
    return asyncio.run(scorer.score_all(*map(list, zip(*rows, strict=True))))


def test_a_bad_row_is_flagged_and_logged_once_a_kind(caplog, monkeypatch):
    monkeypatch.setattr("sv6d.rewards.flagged._logged", set())
    good, bad = ("ocr", "ab", "ab"), ("no_such_task", "ab", "ab")
    with caplog.at_level(logging.WARNING):
        scores = score_rows([good, bad, ("ocr", [], "ab"), ("ocr", "ab", None), ("ocr", 3, "ab"), bad])
    assert [s.value for s in scores] == [1, 0, 0, 0, 0, 0]
    assert [s.components["failed"] for s in scores] == [0, 1, 1, 1, 1, 1]
    assert all(tuple(s.components) == COMPONENTS for s in scores)
    assert len(caplog.records) == 4 and "task no_such_task" in caplog.text


def test_settings_are_those_of_the_manager():
    rows = [("shot_framing", "<think>x</think>[]", "[]")]
    assert score_rows(rows, settings={"mode": "literal"})[0] == score(*rows[0], config={"mode": "literal"})
    assert score_rows([(None, "a", "a")], task="ocr")[0].value == 1.0
    with pytest.raises(RewardConfigError, match="did you mean 'alpha'"):
        RowScorer({"alfa": 1})
    with pytest.raises(RewardConfigError, match=r"judge\.fallback = 'mask' is wrong.* use one of sv6d's verl trainers"):
        RowScorer({"judge": {"url": "http://localhost:1/v1", "model": "m", "fallback": "mask"}})


def test_a_data_set_without_the_columns_flags_every_row():
    assert asyncio.run(SV6DReward()(prompts=["q"], completions=["a"])) == [0.0]


def test_the_adapters_import_no_trainer():
    names = ("trl", "ms_swift", "verifiers")
    code = f"import sys; {'; '.join(f'import sv6d.rewards.adapters.{n}' for n in names)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "trl", "swift", "verifiers", "transformers", "datasets", "openai"} & set(loaded)
