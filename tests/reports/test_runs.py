"""Opening a run's folder: what is read, what is said to be missing, and the numbers that judge a run."""

import json
import math

import pyarrow.parquet as pq
import pytest
from constructed_run import build
from sv6d.reports.recorder import Recorder, part_name, schema
from sv6d.reports.runs import RunError, load_run, summary


def write_metrics(path, lines):
    path.write_text("".join(json.dumps({"step": step, "data": data}) + "\n" for step, data in lines))


def rows(step, scores, **fields):
    base = {"task": "subject", "group": "g", "response_length": 10, "entropy": 1.0, "truncated": False}
    return [base | {"uid": f"{step}-{i}", "score": score} | fields for i, score in enumerate(scores)]


def test_first_and_last_are_means_over_five_steps(tmp_path):
    with Recorder(tmp_path) as recorder:
        for step in range(1, 9):  # step s has the mean reward s / 10, entropy 2 - s / 10, length 10 s
            recorder.write(
                rows(step, [step / 10 - 0.05, step / 10 + 0.05], entropy=2 - step / 10, response_length=10 * step), step
            )
    write_metrics(tmp_path / "metrics.jsonl", [(1, {"timing_s/step": 3.0}), (2, {"timing_s/step": 4.0})])
    judged = summary(load_run(tmp_path))
    assert judged["reward_first"] == pytest.approx(0.3)  # mean of .1 .2 .3 .4 .5
    assert judged["reward_last"] == pytest.approx(0.6)  # mean of .4 .5 .6 .7 .8
    assert judged["entropy_first"] == pytest.approx(1.7)
    assert judged["entropy_last"] == pytest.approx(1.4)
    assert judged["length_first"] == 30
    assert judged["length_last"] == 60
    assert judged["seconds"] == 7.0
    assert (judged["steps"], judged["rollouts"]) == (8, 16)


def test_held_out_scores_are_those_of_the_first_and_the_last_validation(tmp_path):
    lines = [
        (0, {"val-core/subject/reward/mean@1": 0.2, "val-aux/subject/score/mean@1": 0.9, "val-aux/num_turns/mean": 2}),
        (5, {"val-core/subject/reward/mean@1": 0.3}),
        (6, {"critic/score/mean": 0.5}),
        (10, {"val-core/subject/reward/mean@1": 0.4, "val-core/a/b/acc/mean@4": 0.7, "val-core/a/b/acc/std@4": 0.1}),
    ]
    write_metrics(tmp_path / "metrics.jsonl", lines)
    judged = summary(load_run(tmp_path))
    assert judged["heldout_before"] == {"subject": 0.2}
    assert judged["heldout_after"] == {"subject": 0.4, "a/b": 0.7}


def test_one_validation_is_before_and_there_is_no_after(tmp_path):
    write_metrics(tmp_path / "metrics.jsonl", [(0, {"val-core/subject/reward/mean@1": 0.2})])
    judged = summary(load_run(tmp_path))
    assert judged["heldout_before"] == {"subject": 0.2}
    assert judged["heldout_after"] == {}
    assert math.isnan(judged["reward_first"])


def test_a_run_without_our_recorder_takes_figure_3_from_verl_s_own_metrics(tmp_path):
    lines = [(s, {"critic/score/mean": s, "actor/entropy": 1.0, "response_length/mean": 7.0}) for s in (1, 2)]
    write_metrics(tmp_path / "metrics.jsonl", lines)
    run = load_run(tmp_path)
    judged = summary(run)
    assert (judged["reward_first"], judged["entropy_last"], judged["length_last"]) == (1.5, 1.0, 7.0)
    assert "rollouts" in run.missing[0]


def test_entropy_that_no_rollout_has_comes_from_the_metrics(tmp_path):
    with Recorder(tmp_path) as recorder:
        recorder.write(rows(1, [0.5], entropy=None), 1)
    write_metrics(tmp_path / "metrics.jsonl", [(1, {"actor/entropy": 1.25, "critic/score/mean": 0.0})])
    judged = summary(load_run(tmp_path))
    assert (judged["entropy_first"], judged["reward_first"]) == (1.25, 0.5)


def test_entropy_that_nobody_computed_is_noted(tmp_path):
    with Recorder(tmp_path) as recorder:
        recorder.write(rows(1, [0.5], entropy=None), 1)
    write_metrics(tmp_path / "metrics.jsonl", [(1, {"critic/score/mean": 0.5})])
    run = load_run(tmp_path)
    assert run.notes[0].startswith("No entropy")
    assert math.isnan(summary(run)["entropy_first"])


def test_a_resumed_run_s_metrics_are_read_as_one(tmp_path):
    """The first process logged steps 0 to 4 and was killed; the second resumed at 2, validated there, and went on."""
    first = [(0, {"val-core/subject/reward/mean@1": 0.1}), *((s, {"critic/score/mean": 0.1 * s}) for s in (1, 2, 3, 4))]
    second = [(2, {"val-core/subject/reward/mean@1": 0.3}), (3, {"critic/score/mean": 0.9})]
    write_metrics(tmp_path / "metrics-001.jsonl", first)
    write_metrics(tmp_path / "metrics.jsonl", second)
    metrics = load_run(tmp_path).metrics
    assert metrics.index.tolist() == [0, 1, 2, 3]
    assert metrics["critic/score/mean"].dropna().tolist() == [0.1, 0.2, 0.9]
    assert metrics["val-core/subject/reward/mean@1"].dropna().tolist() == [0.1, 0.3]


def test_a_line_that_the_killed_process_left_half_is_left_out_and_noted(tmp_path):
    run = build(tmp_path / "run", steps=3, tasks=("subject",))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "data": {"critic/sco')
    loaded = load_run(run)
    assert loaded.metrics.index.max() == 3
    assert "metrics.jsonl, line 5" in loaded.notes[0]
    assert loaded.missing == ()


def test_null_which_verl_writes_for_nan_is_not_measured(tmp_path):
    run = build(tmp_path / "run", steps=3, tasks=("subject",))
    assert "actor/kl_loss" not in load_run(run).metrics


def test_a_part_that_is_not_parquet_is_named_and_left_out(tmp_path):
    run = build(tmp_path / "run", steps=3, tasks=("subject",))
    (run / "rollouts" / part_name(2)).write_bytes(b"PAR1 torn")
    loaded = load_run(run)
    assert "rollouts/step-000002.parquet cannot be read" in loaded.missing[0]
    assert sorted(loaded.rollouts["step"].unique()) == [1, 3]
    assert "1 trained step(s) have no recorded rollouts: 2" in loaded.notes


def test_parts_of_an_older_recorder_with_fewer_columns_are_read(tmp_path):
    run = build(tmp_path / "run", steps=2, tasks=("subject",))
    table = pq.read_table(run / "rollouts" / part_name(1)).drop_columns(["advantage"])
    pq.write_table(table, run / "rollouts" / part_name(1))
    advantage = load_run(run).rollouts.groupby("step")["advantage"].count()
    assert advantage[1] == 0
    assert advantage[2] > 0


def test_skipped_data_rows_are_listed_once(tmp_path):
    run = build(tmp_path / "run", steps=2, tasks=("subject",))
    line = json.dumps({"task": "subject", "index": 3, "id": "clip-3", "error": "moov atom not found"}) + "\n"
    (run / "skipped_rows.jsonl").write_text(line + line + '{"task": "sub')
    assert [row["id"] for row in load_run(run).skipped] == ["clip-3"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "no such folder"),
        (lambda path: path.mkdir(), "nothing to report"),
        (lambda path: (path / "rollouts").mkdir(parents=True), "VERL_FILE_LOGGER_PATH"),
    ],
)
def test_a_folder_without_a_run_is_refused_with_the_mend(tmp_path, make, says):
    make(tmp_path / "run")
    with pytest.raises(RunError, match=says):
        load_run(tmp_path / "run")


def test_the_generator_writes_the_recorder_s_schema(tmp_path):
    run = build(tmp_path / "run", steps=1, tasks=("subject",))
    assert pq.read_schema(run / "rollouts" / part_name(1)).equals(schema())


def test_a_later_look_at_an_earlier_checkpoint_ends_nothing(tmp_path):
    write_metrics(tmp_path / "metrics-001.jsonl", [(step, {"critic/score/mean": step / 10}) for step in (1, 2, 3, 4)])
    write_metrics(tmp_path / "metrics.jsonl", [(2, {"val-core/subject/reward/mean@1": 0.7})])  # trainer.val_only
    run = load_run(tmp_path)
    assert run.metrics["critic/score/mean"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert summary(run)["heldout_before"] == {"subject": 0.7}
    write_metrics(tmp_path / "metrics.jsonl", [(3, {"critic/score/mean": 0.5})])  # trained on, after step 2
    assert load_run(tmp_path).metrics["critic/score/mean"].tolist() == [0.1, 0.2, 0.5]


def test_a_run_is_found_below_the_folder_that_holds_it(tmp_path):
    build(tmp_path / "demo" / "grpo", steps=2)
    (tmp_path / "demo" / "sft").mkdir()
    write_metrics(tmp_path / "demo" / "sft" / "metrics.jsonl", [(1, {"train/loss": 1.0})])
    found, run = load_run(tmp_path / "demo"), load_run(tmp_path / "demo" / "grpo")
    assert found.metrics.equals(run.metrics)
    assert found.rollouts.equals(run.rollouts) and found.about == run.about and found.missing == run.missing == ()
    build(tmp_path / "demo" / "other", steps=2)
    with pytest.raises(RunError, match=r"2 runs are here, with grpo/rollouts/.*, other/rollouts/"):
        load_run(tmp_path / "demo")


def test_the_folder_of_the_rollouts_is_the_run_too(tmp_path):
    build(tmp_path / "run", steps=2)
    assert len(load_run(tmp_path / "run" / "rollouts" / part_name(2)).metrics) == 3
    assert load_run(tmp_path / "run" / "rollouts").rollouts.equals(load_run(tmp_path / "run").rollouts)


@pytest.mark.parametrize("text", [b"{bro", b"[1]", b"\xff"])
def test_files_beside_the_rollouts_that_are_broken_cost_what_they_held(tmp_path, text):
    build(tmp_path / "run", steps=2)
    (tmp_path / "run" / "about.json").write_bytes(text)
    (tmp_path / "run" / "skipped_rows.jsonl").write_bytes(
        b'{"task": "subject", "index": 3}\n{"task": "\xc3'
    )  # killed within a letter
    run = load_run(tmp_path / "run")
    assert run.about == {} and run.missing[0].startswith("about.json is not what our recorder writes")
    assert run.skipped == ({"task": "subject", "index": 3},)
