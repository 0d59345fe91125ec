"""The charts as plain data: scales that hold every value, ticks that differ, runs that do not hide each other."""

import json

import pytest
from constructed_run import build
from sv6d.reports.figures import panels
from sv6d.reports.page import gather
from sv6d.reports.recorder import Recorder
from sv6d.reports.runs import load_run


def scored(folder, *scores, **components):
    """A run of one task, a step a score; `components` in every row."""
    with Recorder(folder) as recorder:
        for step, score in enumerate(scores, 1):
            rows = [{"uid": f"{i}", "task": "subject", "group": "g", "score": score} | components for i in range(2)]
            recorder.write(rows, step)
            recorder.flush()
    return folder


def charts(*folders):
    return {panel.id: panel for panel in panels(gather([load_run(folder) for folder in folders])["runs"])}


@pytest.mark.parametrize(
    ("scores", "scale"),
    [
        ((0.0, 1.0), [-0.02, 1.02]),
        ((-1.0, 1.0), [-1.1, 1.1]),
        ((10.0, 30.0), [9.0, 31.0]),
        ((-2.0, -2.0), [-3.0, -1.0]),
    ],
)
def test_a_small_chart_holds_every_reward(tmp_path, scores, scale):
    """From 0 to 1 where rewards are; else from the least to the most and a twentieth of that on either side."""
    small = charts(scored(tmp_path / "run", *scores))["task-subject"]
    assert small.layout["meta"]["ranges"]["reward"] == pytest.approx(scale)


def test_held_out_rewards_are_held_too(tmp_path):
    run = scored(tmp_path / "run", 0.5)
    (run / "metrics.jsonl").write_text(json.dumps({"step": 1, "data": {"val-core/subject/reward/mean@1": -0.5}}))
    small = charts(run)["task-subject"]
    assert small.layout["meta"]["ranges"]["reward"] == pytest.approx([-0.55, 0.55])


def test_a_component_of_another_scale_is_not_cut_off(tmp_path):
    assert "range" not in charts(scored(tmp_path / "a", 0.5, iou=7.0))["component-iou"].layout["xaxis"]
    assert "range" in charts(scored(tmp_path / "b", 0.5, iou=0.7))["component-iou"].layout["xaxis"]


def test_shares_of_less_than_a_per_cent_have_ticks_of_their_own(tmp_path):
    found = charts(build(tmp_path / "run", steps=3, tasks=("subject", "ocr_regular"), prompts=8))
    forms = {
        id: axis["tickformat"]
        for id, p in found.items()
        for axis in (p.layout["xaxis"], p.layout["yaxis"])
        if "tickformat" in axis
    }
    assert {
        forms[id] for id in ("groups-tasks", "groups-steps", "truncation", "mixture", "judge-failures") if id in forms
    } == {".1~%"}


def test_runs_that_coincide_are_told_apart_by_symbol_and_size(tmp_path):
    run = build(tmp_path / "run", steps=3, tasks=("subject", "ocr_regular"))
    found = charts(run, run, run)["component-format"]
    looks = [(trace["marker"]["symbol"], trace["marker"]["size"]) for trace in found.data]
    assert looks == [("circle", 13), ("diamond", 11), ("square", 9)]


def test_the_request_of_each_run_stands_beside_what_it_trained_on(tmp_path):
    one, two = (build(tmp_path / name, steps=3, tasks=("subject", "ocr_regular")) for name in ("one", "two"))
    (two / "about.json").write_text(json.dumps({"mixture": {"subject": 3, "ocr_regular": 1}}))
    found = charts(one, two)["mixture"]
    hollow = [trace for trace in found.data if trace["marker"]["symbol"].endswith("-open")]
    assert [(trace["meta"]["run"], trace["x"]) for trace in hollow] == [(0, [0.5, 0.5]), (1, [0.75, 0.25])]
    assert found.caption.endswith("(full), and was meant to have (hollow).")
    (two / "about.json").unlink()
    assert len(charts(one, two)["mixture"].data) == 3  # of the second nobody knows


def test_losses_and_rates_of_supervised_fine_tuning_are_drawn(tmp_path):
    (tmp_path / "run").mkdir()
    data = {"train/loss": 1.0, "val/loss": 1.5, "language/lr": 1e-5, "vision/lr": 1e-6}
    (tmp_path / "run" / "metrics.jsonl").write_text(json.dumps({"step": 1, "data": data}))
    found = charts(tmp_path / "run")
    assert [trace["name"] for trace in found["sft-loss"].data] == ["training", "validation"]
    assert [trace["name"] for trace in found["sft-rates"].data] == ["language", "vision"]
    both = charts(tmp_path / "run", tmp_path / "run")["sft-loss"]
    assert both.caption.endswith("A colour a run; solid: training; dashed: validation.")
    assert [trace["meta"]["run"] for trace in both.data] == [0, 0, 1, 1]
