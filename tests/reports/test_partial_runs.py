"""Runs of which little is known: what there is, is told; nothing ends in a traceback."""

import json

import pytest
from click.testing import CliRunner
from sv6d.reports.cli import command
from sv6d.reports.compare_cli import command as compare_command
from sv6d.reports.diagnosis import diagnose
from sv6d.reports.numbers import numbers
from sv6d.reports.recorder import Recorder
from sv6d.reports.runs import load_run


def report(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


def logged(folder, data, steps=30):
    """A run of which nothing but these metrics is left, alike in every step."""
    folder.mkdir()
    lines = [json.dumps({"step": step, "data": data}) + "\n" for step in range(1, steps + 1)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    return folder


PARTIAL = {
    "rollout_mismatch": {"training/rollout_actor_probs_pearson_corr": 0.5, "timing_s/step": 3.0},
    "judge_failures": {"judge/asked": 10, "judge/failed": 5, "timing_s/step": 3.0},
}


@pytest.mark.parametrize(("rule", "data"), PARTIAL.items(), ids=PARTIAL)
def test_metrics_without_reward_entropy_or_length_are_judged_by_what_they_have(tmp_path, rule, data):
    run = logged(tmp_path / "run", data)
    (found,) = [f for f in diagnose(load_run(run)) if f.level != "unjudged"]
    assert (found.rule, found.level, found.steps) == (rule, "alarm", (26, 30))
    shown = numbers(load_run(run))
    assert shown["steps"] == list(range(1, 31)) and shown["summary"]["steps"] == 30
    assert shown["timing"]["step"] == [3.0] * 30
    result = report(run, "--check", "-o", tmp_path / "report.html", "--figures", tmp_path / "figures")
    assert result.exit_code == 4, result.output


def test_a_validation_before_the_first_step_is_no_step(tmp_path):
    run = logged(tmp_path / "run", {"critic/score/mean": 0.5}, steps=2)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 0, "data": {"val-core/subject/reward/mean@1": 0.25}}) + "\n")
    assert numbers(load_run(run))["steps"] == [1, 2]


@pytest.fixture
def scoreless(tmp_path):
    """verl's rollout dumps without `score`."""
    folder = tmp_path / "dumps"
    folder.mkdir()
    for step in range(1, 13):
        lines = [{"input": f"q{i // 4}", "output": "a", "gts": "b", "step": step} for i in range(8)]
        (folder / f"{step}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_dumps_without_scores_are_told_as_far_as_they_go(tmp_path, scoreless):
    result = report(scoreless, "--check", "-o", tmp_path / "report.html", "--json", tmp_path / "report.json")
    assert result.exit_code == 3, result.output
    (shown,) = json.loads((tmp_path / "report.json").read_text())["runs"]
    assert shown["steps"] == list(range(1, 13)) and shown["summary"]["rollouts"] == 96


def test_dumps_without_scores_cannot_be_compared_and_that_is_said(scoreless):
    result = CliRunner().invoke(compare_command, [str(scoreless), str(scoreless)])
    assert result.exit_code == 1
    assert "none of its 96 recorded rollouts has a score to compare" in result.output


WRONG = {
    "no weight above 0": {"ocr_regular": 0},
    "text": "x",
    "a list": [1, 2],
    "below 0": {"subject": -1, "ocr_regular": 2},
    "no number": {"subject": "3"},
    "not finite": {"subject": float("inf")},
}


@pytest.mark.parametrize("mixture", WRONG.values(), ids=WRONG)
def test_a_mixture_that_is_none_is_left_out_and_named(tmp_path, mixture):
    with Recorder(tmp_path / "run", about={"mixture": mixture, "seed": 3}) as recorder:
        for step in range(1, 13):
            rows = [{"uid": f"{i}", "task": "ocr_regular", "group": "g", "score": 0.1 * i} for i in range(4)]
            recorder.write(rows, step)
            recorder.flush()
    run = load_run(tmp_path / "run")
    assert run.about == {"seed": 3}
    assert run.missing[-1] == (
        "about.json is not what our recorder writes: its `mixture` is not {task: weight} with weights of 0 or more, one of "
        "them above 0, and is left out, so that the requested mixture is not known."
    )
    result = report(tmp_path / "run", "--check", "-o", tmp_path / "report.html")
    assert result.exit_code == 3 and "starved_task: the mixture that was asked for was not recorded" in result.output


@pytest.mark.parametrize("told", ["[1, 2]", "{half"])
def test_facts_that_are_none_are_left_out_and_named(tmp_path, told):
    run = logged(tmp_path / "run", {"critic/score/mean": 0.5})
    (run / "about.json").write_text(told)
    assert load_run(run).about == {}
    assert load_run(run).missing[-1].startswith("about.json is not what our recorder writes: it is left out")


def test_a_mixture_that_was_not_told_is_nothing_to_speak_of(tmp_path):
    run = logged(tmp_path / "run", {"critic/score/mean": 0.5})
    (run / "about.json").write_text('{"mixture": null}')
    assert not any("about.json" in sentence for sentence in load_run(run).missing)
