"""`sv6d score FILE...`: any file of rollouts, a table by task, an output file, and bad rows named while the rest is scored."""

import json

import pandas as pd
import pytest
from click.testing import CliRunner
from judge_server import grades, serve, status
from sv6d.reports.recorder import Recorder
from sv6d.rewards import COMPONENTS, score
from sv6d.rewards.rescoring.cli import command
from sv6d.rewards.rescoring.rollouts import BATCH

HALF = {
    "task": "temporal_action_localization",
    "response": '[{"start": 0, "end": 1}]',
    "ground_truth": '[{"start": 0, "end": 2}]',
}
TEXT = {"data_source": "ocr_regular", "output": "abc", "reward_model": {"ground_truth": "abd"}, "id": "x"}


def jsonl(tmp_path, *rows, name="rollouts.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], env={"COLUMNS": "200"})


def line(result, start):
    return next(" ".join(line.split()) for line in result.output.splitlines() if line.strip().startswith(start))


def test_a_table_by_task_with_components(tmp_path):
    result = run(jsonl(tmp_path, HALF, HALF, TEXT))
    assert result.exit_code == 0, result.output
    assert line(result, "task") == "task rows score format iou similarity failed"
    assert line(result, "temporal_action_localization") == "temporal_action_localization 2 0.600 ±0.000 1.000 0.500 – 0"
    assert line(result, "ocr_regular") == "ocr_regular 1 0.667 – – 0.667 0"
    assert line(result, "all") == "all 3 0.622 ±0.022 1.000 0.500 0.667 0"


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_each_row_is_written_with_its_components(tmp_path, name):
    source = tmp_path / "in.parquet"
    pd.DataFrame([{**HALF, "score": 0.25}]).to_parquet(source)
    assert run(source, "-o", tmp_path / name).exit_code == 0
    reader = pd.read_parquet if name.endswith("parquet") else lambda p: pd.read_json(p, lines=True)
    row = reader(tmp_path / name).iloc[0]
    assert row["score"] == pytest.approx(0.6) and row["response"] == HALF["response"]
    assert (row["file"], row["row"], row["recorded"]) == (str(source), 0, 0.25) and pd.isna(row["problem"])
    assert set(COMPONENTS) <= set(row.index)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_text_that_is_no_unicode_is_scored_and_written(tmp_path, name):
    source = jsonl(tmp_path, {"task": "ocr", "response": "a\ud800", "ground_truth": "ab"})
    assert run(source, "-o", tmp_path / name).exit_code == 0
    again = run(tmp_path / name)
    assert again.exit_code == 0 and "0.500" in line(again, "ocr")


def test_a_run_that_dies_leaves_the_earlier_output(tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    out.write_text("earlier")

    def die(batches, settings, processes):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("sv6d.rewards.rescoring.cli.score_batches", die)
    assert run(jsonl(tmp_path, HALF), "-o", out).exit_code != 0
    assert out.read_text() == "earlier" and [p.name for p in tmp_path.glob("out*")] == ["out.jsonl"]


def test_settings_and_task_from_the_command_line(tmp_path):
    settings = tmp_path / "rewards.yaml"
    settings.write_text("localization: {format: 0.0, iou: 1.0}\n")
    row = {k: v for k, v in HALF.items() if k != "task"}
    result = run(jsonl(tmp_path, row), "--task", "action_localization", "--config", settings)
    assert "0.500" in line(result, "action_localization"), result.output
    settings.write_text("localisation: {}\n")
    assert "did you mean 'localization'" in run(jsonl(tmp_path, HALF), "--config", settings).output
    assert "neither a file nor the name of a plug-in" in run(jsonl(tmp_path, HALF), "--taxonomy", "nope.yaml").output


def test_several_processes_score_alike_and_in_order(tmp_path):
    texts = [f"line {i}" for i in range(3 * BATCH + 7)]  # four batches, the last one short
    source = jsonl(tmp_path, *({"task": "ocr", "response": t, "ground_truth": "line 7", "id": t} for t in texts))
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    assert run(source, "-o", one).output.replace("one", "two") == run(source, "-o", two, "--processes", 2).output
    pd.testing.assert_frame_equal(pd.read_parquet(one), pd.read_parquet(two))
    assert pd.read_parquet(one)["id"].tolist() == texts


def test_rows_that_cannot_be_scored_are_listed_and_the_rest_is_scored(tmp_path):
    source = jsonl(
        tmp_path, HALF, {**HALF, "ground_truth": "oops"}, {**HALF, "task": "nonsense"}, {**HALF, "response": 3}
    )
    source.write_text(source.read_text() + "\n{broken\n[1]\n" + json.dumps(HALF))
    result = run(source, "-o", tmp_path / "out.jsonl")
    assert result.exit_code == 1
    assert (
        f"{source}: row 1: ground truth 'oops'" in result.output and "row 2: unknown task 'nonsense'" in result.output
    )
    assert "row 3: response is 3; write text" in result.output
    assert "row 5: line 6 is not JSON" in result.output and "row 6: line 7 is no object" in result.output
    assert "5 of 7 rows could not be scored" in result.output
    assert line(result, "all").startswith("all 7 0.600 ±0.000") and line(result, "all").endswith(" 5")
    written = [json.loads(text) for text in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["failed"], row["problem"] is None) for row in written] == [(0, True), *[(1, False)] * 5, (0, True)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there are no rows"),
        ('{"task": "ocr", "response": "a"}\n', "row 0: no ground_truth or gts"),
        ('{"response": "a", "ground_truth": "a"}\n', "give --task"),
    ],
)
def test_what_a_file_lacks_is_said(tmp_path, text, said):
    path = tmp_path / "in.jsonl"
    path.write_text(text)
    result = run(path)
    assert result.exit_code == 1 and said in result.output


def test_other_kinds_of_files_are_refused(tmp_path):
    (tmp_path / "rows.csv").write_text("")
    assert "give a .jsonl or .parquet" in run(tmp_path / "rows.csv").output
    assert "holds no .jsonl and no .parquet" in run(tmp_path).output
    (tmp_path / "rows.parquet").write_text("no parquet")
    assert "row 0: cannot be read as parquet" in run(tmp_path / "rows.parquet").output
    assert "end its name in" in run(jsonl(tmp_path, HALF), "-o", tmp_path / "out.csv").output
    assert "there is no folder" in run(jsonl(tmp_path, HALF), "-o", tmp_path / "new" / "out.jsonl").output


@pytest.fixture
def asked(tmp_path):
    """Training rows of two tasks that share a ground truth and one that does not."""
    question = {
        "temporal_action_localization": "<video>When does he jump?",
        "cut_point_detection": "<video>Find every\ncut.",
        "ocr_regular": "<image>Read the text.",
    }
    truths = [HALF["ground_truth"], HALF["ground_truth"], "abd"]
    path = tmp_path / "train.parquet"
    pd.DataFrame(
        [
            {
                "data_source": task,
                "prompt": [{"role": "user", "content": text}],
                "reward_model": {"style": "rule", "ground_truth": truth},
                "extra_info": {"dataset": "clips", "id": task[:3]},
            }
            for (task, text), truth in zip(question.items(), truths, strict=True)
        ]
    ).to_parquet(path)
    return path


def test_verl_s_dumps_of_a_run(tmp_path, asked):
    """Written by verl itself; they name no task, so the rows asked tell it by ground truth and question."""
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    folder = tmp_path / "dumps"
    inputs = [
        "user\nWhen does he jump?\nassistant",
        "user\nFind every cut.\nassistant",
        "user\nRead the text.\nassistant",
    ]
    truths = [HALF["ground_truth"], HALF["ground_truth"], "abd"]
    for step in (2, 10, 1):
        outputs = [HALF["response"], HALF["response"], "abc" if step == 1 else "abd"]
        extra = {"uid": [f"u{step}{i}_0_0" for i in range(3)]}
        PPOTrainer._write_generations(inputs, outputs, truths, [0.5, 0.5, 0.5], extra, str(folder), step)
    result = run(folder, "--data", asked, "-o", tmp_path / "out.jsonl")
    assert result.exit_code == 0, result.output
    assert line(result, "temporal_action_localization").startswith("temporal_action_localization 3 0.600 ±0.000 0.500")
    assert line(result, "cut_point_detection").startswith("cut_point_detection 3 ")
    assert line(result, "ocr_regular") == "ocr_regular 3 0.889 ±0.111 0.500 – – 0.889 0"  # the dumped scores: 0.5
    written = [json.loads(text) for text in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["file"][-8:] for row in written[::3]] == ["/1.jsonl", "/2.jsonl", "10.jsonl"]
    assert written[0]["id"] == "u10_0_0"
    assert "give --task or --data" in run(folder).output
    assert run(folder / "1.jsonl", "--data", asked, "--explain", "u12_0_0").exit_code == 0


def test_the_recorder_s_folder_of_a_run(tmp_path, asked):
    """Those of its rollouts whose text it kept, which is that of a few a step."""
    row = {"uid": "a_0_0", "task": "ocr_regular", "dataset": "clips", "prompt": "ocr", "score": 0.5, "response": "abc"}
    for name, truth in (("older", None), ("newer", "abd")):
        with Recorder(tmp_path / name) as recorder:
            recorder.write([{**row, "uid": "a_1_0", "response": None}, {**row, "ground_truth": truth}], step=1)
    result = run(tmp_path / "older", "--data", asked.parent)
    assert line(result, "ocr_regular").startswith("ocr_regular 1 0.667") and result.exit_code == 0, result.output
    assert (
        "row 1: no ground_truth" in run(tmp_path / "older").output and "give --data" in run(tmp_path / "older").output
    )
    assert run(tmp_path / "newer").exit_code == 0


def test_a_run_without_any_text_says_how_to_keep_it(tmp_path):
    with Recorder(tmp_path / "run") as recorder:
        recorder.write([{"uid": "a_0_0", "task": "ocr_regular"}], step=1)
    assert "sv6d.record_responses=all" in run(tmp_path / "run").output


def test_verifiers_results(tmp_path):
    """Messages, the task in `info`, a reward of their own."""
    row = {
        "prompt": [{"role": "user", "content": "q"}],
        "completion": [{"role": "assistant", "content": "abc"}],
        "answer": "abd",
        "task": "default",
        "info": {"task": "ocr_regular"},
        "reward": 0.5,
    }
    result = run(jsonl(tmp_path, row, {**row, "completion": []}))
    assert line(result, "ocr_regular") == "ocr_regular 2 0.667 0.500 0.667 1"
    assert "row 1: completion []: has no assistant message" in result.output


@pytest.mark.parametrize("recorded", [10**400, float("inf"), float("nan"), "0.5", True, None])
def test_a_recorded_score_that_is_no_number_is_left_out(tmp_path, recorded):
    result = run(jsonl(tmp_path, {**HALF, "score": recorded}))
    assert result.exit_code == 0 and "recorded" not in result.output, result.output


def test_training_rows_of_another_form_are_refused(tmp_path):
    pd.DataFrame([HALF]).to_parquet(tmp_path / "train.parquet")
    result = run(jsonl(tmp_path, HALF), "--data", tmp_path / "train.parquet")
    assert result.exit_code == 1 and "has no data_source and no prompt and no reward_model" in result.output
    pd.DataFrame([{"data_source": "ocr", "prompt": "q", "reward_model": None}]).to_parquet(tmp_path / "train.parquet")
    result = run(jsonl(tmp_path, HALF), "--data", tmp_path / "train.parquet")
    assert result.exit_code == 1 and "train.parquet: row 0: is no training row of verl's" in result.output


def test_an_id_that_several_rows_have_is_refused(tmp_path):
    result = run(jsonl(tmp_path, TEXT, TEXT), "--explain", "x")
    assert result.exit_code == 1 and "2 rows have the id or number 'x'" in result.output


WHY = {"task": "visual_reasoning", "response": "<think>so</think><answer>two</answer>", "ground_truth": "2"}


def test_an_endpoint_judges_reasoning(tmp_path):
    with serve(grades(0.5)) as server:
        result = run(jsonl(tmp_path, WHY, WHY, HALF), "--judge-url", server.url, "--judge-model", "m")
        assert result.exit_code == 0, result.output
        assert line(result, "visual_reasoning") == "visual_reasoning 2 0.650 ±0.000 1.000 – 0.500 0"  # 0.3 + 0.7 / 2
        explained = run(jsonl(tmp_path, WHY), "--explain", 0, "--judge-url", server.url, "--judge-model", "m")
    assert "judge 0.3500 the judge gave 0.500" in " ".join(explained.output.split())
    assert "the judge compared: two" in explained.output
    assert 2 <= len(server.requests) <= 3  # the two alike are asked about once, if they are in flight together
    assert {request["model"] for request in server.requests} == {"m"}
    assert "so" not in server.requests[0]["messages"][-1]["content"].split()


def test_a_judge_that_is_down_stops_the_command_or_leaves_rows_unscored(tmp_path):
    settings = tmp_path / "rewards.yaml"
    with serve(status(500)) as server:
        judge = {"url": server.url, "model": "m", "attempts": 1, "min_failures": 1, "window": 5}
        settings.write_text(json.dumps({"judge": judge}))
        result = run(jsonl(tmp_path, *[WHY] * 6), "--config", settings)
        assert result.exit_code == 1 and "Error: " in result.output and "Traceback" not in result.output, result.output
        settings.write_text(json.dumps({"judge": {**judge, "max_failure_rate": 1.0, "fallback": "mask"}}))
        result = run(jsonl(tmp_path, WHY, HALF), "--config", settings)
    assert "row 0: the judge failed, and judge.fallback = 'mask' gives no score" in result.output
    assert line(result, "all").startswith("all 2 0.600")


def test_the_scores_are_those_of_the_public_call(tmp_path):
    assert score(**HALF).value == pytest.approx(0.6)
    help = run("--help").output
    assert "Examples:" in help and "--explain clip-17" in help
