"""`sv6d mix`: the schedule of given weights, what it keeps and how peers do, before a run follows it."""

import json
import re

import pytest
from click.testing import CliRunner
from sv6d.data_mixers.cli import command
from sv6d.data_mixers.rows import RL_SCHEMA


def run(*arguments):
    return CliRunner().invoke(command, arguments, terminal_width=100)


def test_without_weights_the_13_tasks_weigh_the_same():
    result = run()
    assert result.exit_code == 0
    assert len(re.findall(r" \w +\w+ +0\.0769 +1 +30 +13\n", result.output)) == 13
    assert re.search(r"any prefix +0\.9231 draws \(bound 1 - 1/\(2n-2\) = 0\.9583, kept\)", result.output)
    assert re.search(r"any window of 390 +0\.0000 draws", result.output)


def test_the_strip_names_each_draw_by_its_tasks_letter():
    # Shares 2 : 1 (bound 1/2): a b a, for ever; without colour the letters still tell the tasks apart.
    result = run("subject=2", "ocr_regular=1", "--step", "6")
    assert re.search(r" a +subject ", result.output)
    assert re.search(r" b +ocr_regular ", result.output)
    strip = result.output.split("begins a line:\n")[1].split("\n\n")[0]
    assert strip.split("\n") == ["abaaba"] * 65


def test_weights_are_shares_of_any_scale():
    # 6 : 4 : 1 of 11 draws; the first 390 draws are 35 periods of 11 and 5 more.
    result = run("cut_point_detection=3", "subject=2", "ocr_regular=0.5")
    assert re.search(r"cut_point_detection +0\.5455 +6 +213", result.output)
    assert "11 draws; every count is exact after each" in result.output


def test_peers_are_measured_by_the_same_errors():
    # Shares 1/2 and 1/2: every greedy rule alternates, so any window errs by 1/2; random draws stray.
    result = run("subject=1", "ocr_regular=1")
    for name in ("Megatron greedy", "smooth round robin (nginx)", "this schedule (prefix)"):
        assert re.search(re.escape(name) + r" +0\.5000 +0\.0000 +0\.5000\n", result.output)
    stray = re.search(r"random draws \(datasets, torchdata\) +(\S+) +\S+ +(\S+)", result.output)
    assert float(stray[1]) > 25
    assert float(stray[2]) > 25


def test_window_mode_errs_less_on_windows():
    worst = {}
    for mode in ("prefix", "window"):
        result = run("a=5", "b=3", "c=2", "d=1", "--mode", mode)
        worst[mode] = float(re.search(r"any window +(\S+) draws", result.output)[1])
    assert worst["window"] < worst["prefix"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("weights.yaml", "subject: 2\nocr_regular: 1\n"), ("weights.json", '{"subject": 2, "ocr_regular": 1}')],
)
def test_weights_from_a_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert run(str(tmp_path / name)).output == run("subject=2", "ocr_regular=1").output


def test_tasks_may_be_named_by_numbers(tmp_path):
    (tmp_path / "weights.yaml").write_text("1: 2\n2: 1\n")
    assert re.search(r"1 +0\.6667", run(str(tmp_path / "weights.yaml")).output)


def test_what_was_not_measured_is_not_called_without_error():
    assert re.search(r"Megatron greedy +0\.\d+ +- ", run("a=1", "b=2", "--step", "50000").output)


def test_a_list_of_segments_is_a_plan(tmp_path):
    segments = [{"start": 0, "weights": {"a": 1, "b": 1}}, {"start": 390, "weights": {"a": 3, "b": 1}, "ramp": 390}]
    (tmp_path / "plan.json").write_text(json.dumps(segments))
    result = run(str(tmp_path / "plan.json"))
    assert result.exit_code == 0, result.output
    assert re.search(r"a +a +0\.5000 +0\.7500", result.output)
    assert "ramp 390" in result.output
    assert re.search(r"any prefix +0\.\d+ draws \(bound .* = 0\.5000, kept\)", result.output)


def test_weights_from_the_rows_of_a_folder(tmp_path):
    for task, rows in (("subject", 3), ("ocr_regular", 1)):
        lines = [json.dumps(dict.fromkeys(RL_SCHEMA.names) | {"data_source": task})] * rows
        (tmp_path / f"{task}.jsonl").write_text("\n".join(lines))
    assert re.search(r"ocr_regular +0\.5000", run(str(tmp_path)).output)
    assert re.search(r"ocr_regular +0\.2500", run(str(tmp_path), "--by-rows").output)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["subject"], "write TASK=NUMBER"),
        (["subject=many"], "write TASK=NUMBER"),
        (["subject=0"], "'subject' is 0.0; a weight is a finite number above 0"),
        (["subject=1", "subject=2"], "named twice"),
        (["subject=1", "--by-rows"], "needs a folder of row files"),
        (["nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_weights_that_make_no_schedule_are_refused(arguments, error):
    result = run(*arguments)
    assert result.exit_code == 2
    assert error in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("- {begin: 0, weights: {a: 1}}", "list of segments {start, weights, ramp}"),
        (
            "- {start: 0, weights: {a: 1}}\n- {start: 1e4, weights: {a: 2}}",
            "start of a segment is '1e4'; it is a whole",
        ),
        ("- {start: 0, weights: [1, 2]}", "weights of the segment at 0 are [1, 2]"),
        ("just words", "list of segments {start, weights, ramp}"),
        ("a: [1", "flow sequence"),
        ("- {start: 0, weights: {a: 1}}\n- {start: 10, weights: {a: 0}}", "no task has a weight"),
    ],
)
def test_files_that_hold_no_weights_are_refused(tmp_path, text, error):
    (tmp_path / "weights.yaml").write_text(text)
    result = run(str(tmp_path / "weights.yaml"))
    assert result.exit_code == 2
    assert error in " ".join(result.output.split())
