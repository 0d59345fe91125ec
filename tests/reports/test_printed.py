"""`sv6d report RUN --figures DIR`: charts for print, and Figure 3 in the report's own layout with one command."""

import json
import math
import re

import pytest
from click.testing import CliRunner
from constructed_run import build
from hypothesis import given
from hypothesis import strategies as st
from sv6d.reports.cli import command
from sv6d.reports.page import gather
from sv6d.reports.printed import _fitted, smoothed, write_figures
from sv6d.reports.runs import load_run


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("printed")
    run = load_run(build(folder / "run", steps=9, tasks=("subject", "<b>odd/name")))
    list(write_figures(gather([run])["runs"], folder / "figures", ("svg",)))
    return folder / "figures"


def texts(file):
    """The text of an SVG with the place of its start, from left to right."""
    found = re.findall(r'<text[^>]*?(?:x="([\d.]+)"|translate\(([\d.]+))[^>]*>([^<]+)<', file.read_text())
    return [text for _, text in sorted((float(x or moved), text) for x, moved, text in found)]


def test_figure_3_stands_side_by_side_entropy_reward_length(figures):
    titles = [
        text for text in texts(figures / "figure3.svg") if text in ("Entropy", "Mean reward", "Mean response length")
    ]
    assert titles == ["Entropy", "Mean reward", "Mean response length"]
    assert texts(figures / "figure3.svg").count("training step") == 3


def test_every_panel_is_there_and_the_small_charts_as_a_grid_a_measure(figures):
    names = {file.stem for file in figures.iterdir()}
    panels = (
        "figure3 dynamics-reward heldout component-iou groups-tasks groups-spread mixture mixture-debt kl truncation"
    )
    panels += " staleness agreement reward-seconds timing tasks-reward tasks-entropy tasks-dead-groups"
    panels += " example-0-best-subject example-0-worst-subject"
    assert set(panels.split()) - names == set()


def test_one_command_writes_pdf_svg_and_png(tmp_path):
    run, figures = tmp_path / "run", tmp_path / "figures"
    run.mkdir()
    curves = {"critic/score/mean": 0.5, "actor/entropy": 1.0, "response_length/mean": 7.0}
    (run / "metrics.jsonl").write_text("".join(json.dumps({"step": s, "data": curves}) + "\n" for s in (1, 2)))
    result = CliRunner().invoke(command, [str(run), "--figures", str(figures)])
    assert "12 files, figure3.pdf among them" in result.output  # figure3 and its three panels in three formats
    assert (figures / "figure3.pdf").read_bytes().startswith(b"%PDF")
    assert (figures / "figure3.png").read_bytes().startswith(b"\x89PNG")
    assert "Mean response length" in texts(figures / "figure3.svg")


def test_names_of_tasks_are_text_in_a_figure(figures):
    assert "&lt;b&gt;odd/name" in (figures / "tasks-reward.svg").read_text()


def test_several_runs_have_a_line_each_and_their_names_below(tmp_path):
    runs = [build(tmp_path / name, steps=3, seed=i, tasks=("subject",)) for i, name in enumerate(("one", "two"))]
    shown = gather([load_run(run) for run in runs])
    figure3 = next(write_figures(shown["runs"], tmp_path, ("svg",)))
    assert figure3.name == "figure3.svg"
    assert {run["name"] for run in shown["runs"]} <= set(texts(figure3))


@pytest.mark.parametrize(
    ("room", "shown"), [(20, "long shot, eye level"), (19, "long shot, …"), (9, "long sho…"), (4, "lon…"), (2, "")]
)
def test_a_shot_shows_as_many_of_its_labels_as_it_has_room_for(room, shown):
    assert _fitted("long shot, eye level", room) == shown


def test_every_figure_of_several_runs_names_them(tmp_path):
    runs = [build(tmp_path / name, steps=3, seed=i, tasks=("subject",)) for i, name in enumerate(("one", "two"))]
    shown = gather([load_run(run) for run in runs])["runs"]
    files = list(write_figures(shown, tmp_path / "figures", ("svg",)))
    names = {run["name"] for run in shown}
    assert [file.stem for file in files if "example" not in file.stem and not names <= set(texts(file))] == []
    assert {"tasks-reward", "component-format", "heldout", "mixture"} <= {file.stem for file in files}


def test_the_small_charts_of_a_run_have_one_key(figures):
    assert {"the task", "all tasks", "held-out"} <= set(texts(figures / "tasks-reward.svg"))
    assert "requested" in texts(figures / "tasks-share.svg")


def test_smoothing_is_a_mean_of_both_neighbours_by_hand():
    """Weight 1/2: (2 + 4/2) / (1 + 1/2) = 8/3 at the first of two; what was not measured stays so and counts for nothing."""
    assert smoothed([2.0, 4.0], 0.5) == pytest.approx([8 / 3, 10 / 3])
    assert smoothed([2.0, math.nan, 4.0], 0.5) == pytest.approx([12 / 5, math.nan, 18 / 5], nan_ok=True)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), st.floats(0.0, 0.95))
def test_smoothing_stays_within_the_range_of_the_values(values, weight):
    assert all(min(values) - 1e-6 <= value <= max(values) + 1e-6 for value in smoothed(values, weight))
