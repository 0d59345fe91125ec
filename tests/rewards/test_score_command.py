"""`sv6d score FILE`: a table by task, an output file, and bad rows named."""

import json

import pandas as pd
import pytest
from click.testing import CliRunner
from sv6d.rewards import COMPONENTS
from sv6d.rewards.cli import command

HALF = {
    "task": "temporal_action_localization",
    "response": '[{"start": 0, "end": 1}]',
    "ground_truth": '[{"start": 0, "end": 2}]',
}
TEXT = {"data_source": "ocr_regular", "output": "abc", "reward_model": {"ground_truth": "abd"}, "id": "x"}


def jsonl(tmp_path, *rows):
    path = tmp_path / "rollouts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], env={"COLUMNS": "200"})


def test_a_table_by_task_with_components(tmp_path):
    result = run(jsonl(tmp_path, HALF, HALF, TEXT))
    assert result.exit_code == 0, result.output
    assert "all" in result.output
    line = next(line for line in result.output.splitlines() if "temporal_action_localization" in line)
    assert " 2 " in line and "0.600 ±0.000" in line
    assert "0.667" in next(line for line in result.output.splitlines() if "ocr_regular" in line)


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_each_row_is_written_with_its_components(tmp_path, name):
    source = tmp_path / "in.parquet"
    pd.DataFrame([HALF]).to_parquet(source)
    assert run(source, "-o", tmp_path / name).exit_code == 0
    reader = pd.read_parquet if name.endswith("parquet") else lambda p: pd.read_json(p, lines=True)
    row = reader(tmp_path / name).iloc[0]
    assert row["score"] == pytest.approx(0.6) and row["response"] == HALF["response"]
    assert set(COMPONENTS) <= set(row.index)
    assert not list(tmp_path.glob("*.partial"))


def test_settings_and_task_from_the_command_line(tmp_path):
    settings = tmp_path / "rewards.yaml"
    settings.write_text("localization: {format: 0.0, iou: 1.0}\n")
    row = {k: v for k, v in HALF.items() if k != "task"}
    result = run(jsonl(tmp_path, row), "--task", "action_localization", "--config", settings)
    assert "0.500" in result.output, result.output
    settings.write_text("localisation: {}\n")
    assert "did you mean 'localization'" in run(jsonl(tmp_path, HALF), "--config", settings).output


def test_rows_that_cannot_be_scored_are_named_and_counted(tmp_path):
    result = run(jsonl(tmp_path, HALF, {**HALF, "ground_truth": "oops"}, {**HALF, "task": "nonsense"}))
    assert result.exit_code == 1
    assert "row 1: ground truth 'oops'" in result.output and "row 2: unknown task 'nonsense'" in result.output
    assert "2 of 3 rows could not be scored" in result.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no rows"),
        ("{oops\n", "line 1: is not JSON"),
        ("[1]\n", "line 1: is no object"),
        ('{"task": "ocr", "response": "a"}\n', "row 0: no ground_truth"),
        ('{"response": "a", "ground_truth": "a"}\n', "give --task"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, text, said):
    path = tmp_path / "in.jsonl"
    path.write_text(text)
    result = run(path)
    assert result.exit_code == 1 and said in result.output
