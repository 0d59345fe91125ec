"""Two runs against each other: what pairs, what an interval covers, and the line that is quoted."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sv6d.reports.compare_cli import command
from sv6d.reports.comparison import ComparisonError, _bootstrap, _interval, _sum, compare
from sv6d.reports.recorder import Recorder
from sv6d.reports.runs import load_run


@pytest.fixture
def run(tmp_path):
    """A run of one step or more from (task, prompt, score) rows: `run("a", [...])`."""

    def make(name, rows, n_true=None, step=1):
        with Recorder(tmp_path / name) as recorder:
            recorder.write(
                [
                    {"uid": f"{task}{prompt}{i}", "task": task, "prompt": prompt, "group": f"{task}{prompt}",
                     "score": score, "n_true": n_true, "response_length": 10, "entropy": 1.0}
                    for i, (task, prompt, score) in enumerate(rows)
                ],
                step,
            )  # fmt: skip
        return load_run(tmp_path / name)

    return make


def rows(task, scores, prefix="p"):
    return [(task, f"{prefix}{i}", score) for i, score in enumerate(scores)]


def test_paired_differences_do_not_see_how_hard_the_prompts_are(run):
    """Prompts from .1 to .9, each .05 better in B: paired, that is nine times the same; not paired, the interval holds 0."""
    hard = np.linspace(0.1, 0.9, 9)
    a, b = run("a", rows("subject", hard)), run("b", rows("subject", hard + 0.05))
    (task,) = compare(a, b).tasks
    assert task.paired and task.prompts == 9
    assert task.difference.mean == pytest.approx(0.05) and task.difference.verdict == "better"
    other = run("other", rows("subject", hard + 0.05, prefix="q"))
    (task,) = compare(a, other).tasks
    assert not task.paired and task.difference.mean == pytest.approx(0.05)
    assert task.difference.low < 0 < task.difference.high and task.difference.verdict == "even"


def test_only_shared_prompts_count_where_half_of_them_are_shared(run):
    a = run("a", [*rows("subject", [0.1, 0.2, 0.3]), ("subject", "only in a", 0.9)])
    b = run("b", rows("subject", [0.2, 0.3, 0.4]))
    (task,) = compare(a, b).tasks
    assert task.paired and task.prompts == 3 and (task.a, task.b) == pytest.approx((0.2, 0.3))


def test_the_rollouts_of_a_prompt_are_one_unit(run):
    """Eight rollouts of each of three prompts are three units, however often they are asked."""
    many = [(task, prompt, score) for task, prompt, score in rows("subject", [0.1, 0.5, 0.9]) for _ in range(8)]
    (task,) = compare(run("a", many), run("b", many)).tasks
    assert task.prompts == 3


def test_prompts_of_other_data_are_not_paired(run):
    """The same names, other truths: a dataset that was made with another seed."""
    a, b = run("a", rows("subject", [0.1, 0.2, 0.3]), n_true=1), run("b", rows("subject", [0.1, 0.2, 0.3]), n_true=2)
    found = compare(a, b)
    assert not found.tasks[0].paired
    assert found.left_out[0].startswith("prompts of the same name have other true segments")


def test_each_task_weighs_the_same(run):
    """One task with 8 prompts gains .3, one with 30 gains nothing: +.15, not +.063. The 8 agree: in 95 % of the cases at most
    q = 1 - .025^(1/8) = .369 of others differ the other way, so that the task gains at least .3 (1 - 2 q) = .079."""
    few, many = [0.1, 0.2, 0.3, 0.4] * 2, [0.5] * 30
    a = run("a", rows("subject", few) + rows("ocr_regular", many))
    b = run("b", rows("subject", np.add(few, 0.3)) + rows("ocr_regular", many))
    found = compare(a, b)
    assert found.overall.mean == pytest.approx(0.15)
    assert [t.task for t in found.tasks] == ["subject", "ocr_regular"]  # in the order of the task table
    assert found.verdict == (
        f"{b.name} earns more than {a.name}: +0.150 (95% interval +0.039 to +0.150, over 2 tasks and 38 prompts, "
        "paired by prompt); better in 1, worse in 0."
    )


def test_intervals_cover_as_often_as_they_say():
    """200 samples from a skewed distribution with mean 1: a bootstrap falls a little short of 95 % for these."""
    rng = np.random.default_rng(0)
    found = [_interval(_bootstrap(rng, rng.exponential(size=20)), 0.95) for _ in range(200)]
    assert 0.87 <= np.mean([i.low <= 1.0 <= i.high for i in found]) <= 0.98


def test_three_prompts_that_agree_by_chance_are_no_proof():
    """Where nothing differs, all three have the same sign in a quarter of the cases, and a bootstrap alone would
    call each of these a difference: with 13 tasks, three of them."""
    rng = np.random.default_rng(0)
    level = 1 - 0.05 / 13
    tasks = [_interval(_bootstrap(rng, rng.normal(size=3)), level) for _ in range(300)]
    assert np.mean([i.verdict == "even" for i in tasks]) > 0.97
    runs = [_sum([_bootstrap(rng, rng.normal(size=3)) for _ in range(13)], [1 / 13] * 13) for _ in range(100)]
    assert 0.9 <= np.mean([_interval(run, 0.95).verdict == "even" for run in runs]) <= 0.99


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("prompts", "verdict"), [(3, "even"), (5, "even"), (6, "better"), (20, "better")])
def test_rewards_of_0_and_1_that_agree_exactly_are_judged_as_by_a_sign_test(run, prompts, verdict, shared):
    """All prompts 0 in A and 1 in B: by chance they agree in 2 * .5^n of the cases, 6 % of five and 3 % of six."""
    a = run("a", rows("subject", [0.0] * prompts))
    b = run("b", rows("subject", [1.0] * prompts, prefix="p" if shared else "q"))
    found = compare(a, b)
    assert found.tasks[0].paired is shared
    assert found.tasks[0].difference.verdict == found.overall.verdict == verdict
    assert found.overall.low < found.overall.mean == found.overall.high == 1.0
    assert compare(a, a).overall == (0.0, 0.0, 0.0)


def test_tasks_that_agree_exactly_and_tasks_that_scatter_make_one_interval(run):
    """One of two tasks is 0 in A and 1 in B: what its three prompts leave open widens the interval of the whole."""
    scattered = rows("ocr_regular", np.linspace(0, 1, 40)), rows("ocr_regular", np.linspace(1, 0, 40))
    found = compare(
        *(run(n, rows("subject", [s] * 3) + more) for n, s, more in zip("ab", (0.0, 1.0), scattered, strict=True))
    )
    agreed, scatter = (task.difference for task in found.tasks)
    assert agreed.verdict == "even" and found.overall.mean == pytest.approx(0.5)
    assert found.overall.low < 0.5 - (scatter.mean - scatter.low) / 2 - 0.2


def test_runs_whose_rollouts_have_no_score_are_not_compared(run):
    a, b = run("a", rows("subject", [None] * 3)), run("b", rows("subject", [0.5] * 3))
    for pair in ((a, b), (b, a)):
        with pytest.raises(ComparisonError, match="/a: none of its 3 recorded rollouts has a score to compare"):
            compare(*pair)


def test_too_few_pairs_are_compared_without_pairing(run):
    """Two of four prompts are in both: too few for an interval, so all eight count."""
    a = run("a", rows("subject", [0.1, 0.2, 0.3, 0.4]))
    b = run("b", rows("subject", [0.1, 0.2]) + rows("subject", [0.3, 0.4], prefix="q"))
    (task,) = compare(a, b).tasks
    assert not task.paired and task.prompts == 4


def test_the_seconds_are_those_of_the_steps_compared(run):
    a = run("a", rows("subject", [0.1] * 3))
    lines = [{"step": s, "data": {"timing_s/step": float(10 * s)}} for s in (1, 2, 3)]
    (a.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    a = load_run(a.path)
    assert compare(a, a, steps=2).beside["seconds"] == (25.0, 25.0)


def test_the_confidence_is_said_as_it_was_asked_for(run):
    a = run("a", rows("subject", [0.1, 0.5, 0.9]))
    assert "(97.5% interval" in compare(a, a, confidence=0.975).verdict


def test_more_tasks_make_wider_intervals_for_each(run):
    rng = np.random.default_rng(1)
    one = rows("subject", rng.random(20))
    more = [row for task in ("ocr_regular", "shot_framing") for row in rows(task, rng.random(20))]
    shifted = [(t, p, s + 0.1 * rng.random()) for t, p, s in one + more]
    alone = compare(run("a1", one), run("b1", shifted[:20])).tasks[0].difference
    among = compare(run("a3", one + more), run("b3", shifted)).tasks[0].difference
    assert among.high - among.low > alone.high - alone.low


def test_what_cannot_be_compared_is_said(run, tmp_path):
    a = run("a", rows("subject", [0.1] * 3) + rows("ocr_regular", [0.1] * 2))
    b = run("b", rows("subject", [0.1] * 3) + rows("ocr_regular", [0.1] * 2) + rows("shot_framing", [0.2] * 3))
    assert compare(a, b).left_out == (
        f"shot_framing is in {b.name} alone",
        "ocr_regular has fewer than 3 prompts to compare (2)",
    )
    with pytest.raises(ComparisonError, match="have no task that can be compared"):
        compare(a, run("c", rows("shot_framing", [0.2] * 3)))
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "metrics.jsonl").write_text('{"step": 1, "data": {"critic/score/mean": 0.5}}\n')
    with pytest.raises(ComparisonError, match="has no recorded rollouts to compare"):
        compare(a, load_run(bare))


def test_only_the_last_steps_count(run, tmp_path):
    run("a", rows("subject", [0.0] * 3), step=1)
    a = run("a", rows("subject", [0.5] * 3), step=2)
    assert compare(a, a, steps=1).tasks[0].a == 0.5 and compare(a, a, steps=1).steps == ((2, 2), (2, 2))
    assert compare(a, a, steps=2).tasks[0].a == 0.25


def test_runs_of_other_lengths_are_said_to_be(run):
    a, b = run("a", rows("subject", [0.1] * 3), step=40), run("b", rows("subject", [0.2] * 3), step=30)
    assert compare(a, b).left_out == ("A ends at step 40, B at step 30: what differs may be how long they trained",)
    assert compare(a, a).left_out == ()


def test_the_command_prints_table_and_verdict(run):
    a, b = run("a", rows("subject", [0.1, 0.5, 0.8])), run("b", rows("subject", [0.2, 0.6, 0.91]))
    result = CliRunner().invoke(command, [str(a.path), str(b.path)], env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    assert "subject" in result.output and "3 pairs" in result.output
    assert result.output.splitlines()[-1].startswith(f"{b.name} earns more than {a.name}: +0.103")


def test_the_command_s_json_is_the_comparison(run):
    a, b = run("a", rows("subject", [0.1, 0.5, 0.8])), run("b", rows("subject", [0.2, 0.6, 0.91]))
    told = json.loads(CliRunner().invoke(command, [str(a.path), str(b.path), "--json"]).output)
    found = compare(a, b)
    assert told["verdict"] == found.verdict and told["overall"]["verdict"] == "better"
    assert told["tasks"][0]["difference"]["mean"] == pytest.approx(found.tasks[0].difference.mean, abs=1e-6)
    assert told["beside"]["heldout"] == {"a": None, "b": None}


def test_a_folder_that_is_no_run_is_named(run, tmp_path):
    a = run("a", rows("subject", [0.1] * 3))
    result = CliRunner().invoke(command, [str(a.path), str(tmp_path / "nowhere")])
    assert result.exit_code == 1 and "nowhere: no such folder" in result.output


def test_runs_are_compared_as_tables_without_a_group_name(run):
    """Rows whose prompt has no name never pair."""
    a = run("a", [("subject", "", s) for s in (0.1, 0.2, 0.3)])
    frame = pd.concat([a.rollouts.assign(group=pd.Categorical([f"g{i}"] * 3)) for i in range(3)])
    a = a.__class__(**{**a.__dict__, "rollouts": frame})
    assert not compare(a, a).tasks[0].paired
