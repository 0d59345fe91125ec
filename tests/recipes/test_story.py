"""The demo's story: which stages run, what a stage that is run afresh forgets, and what the verdict says."""

import io
import json

import pytest
from click.testing import CliRunner
from rich.console import Console
from sv6d.recipes.demo import story
from sv6d.recipes.demo.story import Demo, Stage, chosen_stages, note, print_verdict, run_stage, verdict

SUMMARY = {
    "steps": 40,
    "reward_first": 0.30,
    "reward_last": 0.42,
    "entropy_first": 1.5,
    "entropy_last": 0.9,
    "length_first": 10.0,
    "length_last": 11.0,
    "heldout_before": {"subject": 0.3, "ocr_regular": 0.1},
    "heldout_after": {"subject": 0.5, "ocr_regular": 0.1},
    "seconds": 700.0,
}


@pytest.fixture
def demo(tmp_path) -> Demo:
    return Demo(tmp_path, 0, Console(file=io.StringIO(), width=120))


@pytest.fixture
def stages(monkeypatch):
    """Three stages in place of the six: each leaves a file that says how often it ran."""
    runs = []

    def stage(name):
        def run(demo):
            """Count."""
            runs.append(name)
            (demo.out / name).write_text(name)

        return Stage(run, name)

    monkeypatch.setattr(story, "STAGES", {name: stage(name) for name in "abc"})
    return runs


def test_a_new_demo_runs_every_stage(demo, stages):
    assert chosen_stages(demo, only=None, start=None) == ["a", "b", "c"]


def test_a_demo_that_was_interrupted_continues_with_the_stage_that_is_not_complete(demo, stages):
    run_stage(demo, "a")
    assert chosen_stages(demo, only=None, start=None) == ["b", "c"]


def test_what_an_incomplete_stage_left_is_kept_for_it_to_continue(demo, stages):
    (demo.out / "b").write_text("half")
    chosen_stages(demo, only=None, start=None)
    assert (demo.out / "b").read_text() == "half"


def test_a_stage_asked_for_by_name_starts_afresh_and_alone(demo, stages):
    for name in "abc":
        run_stage(demo, name)
    assert chosen_stages(demo, only="b", start=None) == ["b"]
    assert not (demo.out / "b").exists() and not note(demo, "b").exists()
    assert (demo.out / "c").exists()


def test_from_starts_afresh_what_follows_too(demo, stages):
    for name in "abc":
        run_stage(demo, name)
    assert chosen_stages(demo, only=None, start="b") == ["b", "c"]
    assert [(demo.out / name).exists() for name in "abc"] == [True, False, False]


def test_a_stage_that_fails_is_not_noted_as_complete(demo, stages, monkeypatch):
    def fail(demo):
        """Fail."""
        raise RuntimeError("no")

    monkeypatch.setitem(story.STAGES, "a", Stage(fail, "a"))
    with pytest.raises(RuntimeError):
        run_stage(demo, "a")
    assert not note(demo, "a").exists()


def test_the_verdict_holds_for_a_run_that_learned():
    assert [holds for _, _, holds in verdict(SUMMARY)] == [True] * 5


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"reward_last": 0.37}, "reward"),  # +0.07
        ({"entropy_last": 1.6}, "entropy"),
        ({"length_last": 12.6}, "response length"),  # +26 %
        ({"heldout_after": {"subject": 0.3, "ocr_regular": 0.1}}, "held-out score"),
        ({"seconds": 901.0}, "time"),
    ],
)
def test_the_verdict_names_what_does_not_hold(change, broken):
    assert [what for what, _, holds in verdict({**SUMMARY, **change}) if not holds] == [broken]


def test_the_printed_verdict_has_every_task_and_says_whether_it_learned(demo):
    assert print_verdict(demo, SUMMARY)
    shown = demo.console.file.getvalue()
    assert "subject" in shown and "+0.200" in shown and "The policy learned." in shown
    assert not print_verdict(demo, {**SUMMARY, "reward_last": 0.3})


def test_an_unknown_stage_is_refused_with_the_names_of_the_stages():
    result = CliRunner().invoke(story.command, ["--only", "rl"])
    assert result.exit_code == 2
    assert "grpo" in result.output


def test_seconds_are_noted_by_stage(demo, stages):
    run_stage(demo, "a")
    assert json.loads(note(demo, "a").read_text())["stage"] == "a"
