"""`sv6d report`: the page, the numbers, and what it says of folders that are not whole runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from constructed_run import TASKS, build
from sv6d.reports.cli import command
from sv6d.reports.recorder import part_name


def report(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_a_whole_run_gives_a_page_and_its_numbers(tmp_path):
    run = build(tmp_path / "run", steps=6)
    result = report(run, "-o", tmp_path / "report.html", "--json", tmp_path / "report.json")
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "report.json").read_text())["runs"][0]
    assert numbers["summary"]["steps"] == 6
    ends = numbers["summary"]
    assert f"{ends['reward_first']:.3f} -> {ends['reward_last']:.3f}" in result.output
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert not list(tmp_path.glob("*.tmp"))


def test_without_an_output_the_run_is_told_in_a_few_lines_and_nothing_is_written(tmp_path):
    run = build(tmp_path / "run", steps=2, tasks=("subject",))
    before = sorted(tmp_path.rglob("*"))
    result = report(run)
    assert result.exit_code == 0
    assert "reward " in result.output
    assert "-o report.html writes the page" in result.output
    assert sorted(tmp_path.rglob("*")) == before


def test_several_runs_go_on_one_page_under_names_of_their_own(tmp_path):
    runs = [build(tmp_path / name / "grpo", steps=2, seed=i, tasks=("subject",)) for i, name in enumerate("ab")]
    result = report(*runs, runs[0], "-o", tmp_path / "report.html", "--json", tmp_path / "report.json")
    assert result.exit_code == 0, result.output
    shown = json.loads((tmp_path / "report.json").read_text())["runs"]
    assert [run["name"] for run in shown] == ["a/grpo", "b/grpo", "a/grpo (2)"]
    assert shown[0]["summary"] == shown[2]["summary"] != shown[1]["summary"]


def test_check_prints_what_was_found_and_exits_with_4_on_an_alarm(tmp_path):
    """Half of a task's rollouts could not be scored: an alarm of the diagnosis."""
    run = build(tmp_path / "run", steps=8, tasks=("subject", "ocr_regular"), failing={"ocr_regular": 0.5})
    result = report(run, "--check")
    assert result.exit_code == 4
    assert "alarm: Scoring fails (ocr_regular, steps" in result.output
    assert re.search(r"[1-9]\d* alarm\(s\)", result.output)
    assert report(run).exit_code == 0  # without --check a finding is no failure


def test_check_on_a_healthy_run_exits_with_0(tmp_path):
    result = report(build(tmp_path / "run", steps=8, tasks=("subject", "ocr_regular"), prompts=6), "--check")
    assert result.exit_code == 0
    assert "0 alarm(s)" in result.output


def test_the_page_is_one_file_that_asks_nothing_of_the_network(tmp_path):
    run = build(tmp_path / "run", steps=2)
    report(run, "-o", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "default-src 'none'" in page
    assert "<script src" not in page
    assert '<link rel="stylesheet"' not in page


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "</script><b>", "a&b"])
def test_names_in_the_data_are_text_never_markup(tmp_path, name):
    run = build(tmp_path / "run", steps=2, tasks=("subject", name))
    report(run, "-o", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    markup = page[: page.index('<script type="application/json"')]
    data = page[page.index('<script type="application/json"') :].split("</script>")[0]
    assert name not in markup
    assert json.loads(data[data.index(">") + 1 :])["tasks"] == ["subject", name]


def test_an_empty_folder_has_nothing_to_report(tmp_path):
    (tmp_path / "run").mkdir()
    result = report(tmp_path / "run", "-o", tmp_path / "report.html")
    assert result.exit_code == 1
    assert "nothing to report" in result.output
    assert "sv6d_* trainers" in result.output
    assert not (tmp_path / "report.html").exists()


def test_a_run_without_metrics_gets_a_page_that_says_so_and_status_3(tmp_path):
    run = build(tmp_path / "run", steps=3)
    (run / "metrics.jsonl").unlink()
    result = report(run, "-o", tmp_path / "report.html")
    assert result.exit_code == 3
    assert "missing: No metrics (metrics.jsonl)" in result.output
    assert "No metrics (metrics.jsonl)" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("tasks", [(), ("subject", "ocr_regular")])
def test_a_run_of_which_only_metrics_are_left_is_drawn_from_them(tmp_path, tasks):
    """Any verl run has the curves of Figure 3; one of ours has its small charts too."""
    (tmp_path / "run").mkdir()
    whole = {"critic/score/mean": 0.5, "actor/entropy": 1.0, "response_length/mean": 7.0}
    by_task = {f"task/{task}/{name}": 0.5 for task in tasks for name in ("score", "iou", "response_length", "kl")}
    lines = [json.dumps({"step": step, "data": whole | by_task}) + "\n" for step in range(1, 31)]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(lines))
    result = report(tmp_path / "run", "-o", tmp_path / "report.html", "--check")
    assert result.exit_code == 3, result.output
    assert "missing: No rollouts" in result.output
    page = (tmp_path / "report.html").read_text()
    assert 'id="panel-dynamics-entropy"' in page
    assert [task for task in TASKS if f'id="panel-task-{task}"' in page] == list(tasks)


def test_a_run_with_a_torn_part_gets_a_page_that_names_it_and_status_3(tmp_path):
    run = build(tmp_path / "run", steps=3)
    (run / "rollouts" / part_name(2)).write_bytes(b"torn")
    result = report(run, "-o", tmp_path / "report.html")
    assert result.exit_code == 3
    assert "step-000002.parquet cannot be read" in result.output


@pytest.mark.parametrize("option", ["-o", "--json", "--figures"])
def test_what_cannot_be_written_is_named_as_it_was_asked_for_and_leaves_nothing(tmp_path, option):
    run = build(tmp_path / "run", steps=2, tasks=("subject",))
    (tmp_path / "a file").write_text("")
    asked = tmp_path / "a file" / "deep" / "x"
    result = report(run, option, asked)
    assert result.exit_code == 1
    assert f"Error: {asked}: cannot be written (Not a directory)." in result.output
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a file", "run"]


@pytest.mark.parametrize("option", ["-o", "--json"])
def test_a_folder_in_the_place_of_a_file_stays_as_it_is(tmp_path, option):
    run, folder = build(tmp_path / "run", steps=2, tasks=("subject",)), tmp_path / "folder"
    folder.mkdir()
    result = report(run, option, folder)
    assert result.exit_code == 1
    assert f"Error: {folder}: cannot be written (Is a directory)." in result.output
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "run"] and list(folder.iterdir()) == []


def test_folders_above_what_is_written_are_made(tmp_path):
    run, deep = build(tmp_path / "run", steps=2, tasks=("subject",)), tmp_path / "not" / "yet"
    assert report(run, "-o", deep / "a" / "x.html", "--json", deep / "b" / "x.json").exit_code == 0
    assert (deep / "a" / "x.html").exists() and (deep / "b" / "x.json").exists()


@pytest.mark.parametrize("port", ["99999", "-1"])
def test_a_port_that_is_none_is_refused(tmp_path, port):
    result = report(tmp_path, "--watch", "--port", port)
    assert result.exit_code == 2 and "0<=x<=65535" in result.output


@pytest.mark.parametrize(("status", "ends"), [(0, 0), (1, 0), (3, 0), (4, 4)])
def test_the_line_for_cluster_jobs_stops_them_on_an_alarm_alone(status, ends):
    """As the docs have it, in a script that ends at the first failure: what a run lacks is no reason to kill it."""
    page = (Path(__file__).parents[2] / "docs" / "diagnosis.md").read_text()
    (line,) = [line.strip() for line in page.splitlines() if "-ne 4" in line]
    script = f"set -e; sv6d() {{ return {status}; }}; {line}; exit 0"
    assert subprocess.run(["bash", "-c", script]).returncode == ends


def test_reports_need_no_torch_verl_ray_or_transformers():
    code = (
        "import sys, sv6d.reports.recorder, sv6d.reports.numbers, sv6d.reports.page, sv6d.reports.cli;"
        "print([m for m in ('torch', 'verl', 'ray', 'transformers', 'vllm', 'plotly') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
