"""The report's numbers on runs small enough to work out by hand."""

import json

import pytest
from constructed_run import TASKS, build
from sv6d.reports.numbers import numbers, task_order
from sv6d.reports.recorder import Recorder
from sv6d.reports.runs import load_run


def record(directory, steps, about=None):
    """steps: step -> list of (task, group, score, extra fields)."""
    with Recorder(directory, about=about) as recorder:
        for step, rollouts in steps.items():
            rows = [
                {"uid": f"{step}-{i}", "task": task, "group": group, "score": score, "response_length": 10}
                | {"version_start": step - 1, "truncated": False, "failed": 0.0, **extra}
                for i, (task, group, score, extra) in enumerate(rollouts)
            ]
            recorder.write(rows, step)
    (directory / "metrics.jsonl").write_text("")
    return numbers(load_run(directory))


def test_a_group_is_dead_when_all_its_rewards_are_equal(tmp_path):
    """Groups a (.5 .5) dead, b (.5 .6) alive, c one rollout alone: not a group. Dead share 1 of 2."""
    rollouts = [("subject", g, s, {}) for g, s in [("a", 0.5), ("a", 0.5), ("b", 0.5), ("b", 0.6), ("c", 0.1)]]
    shown = record(tmp_path, {1: rollouts})
    assert (shown["groups"]["subject"]["groups"], shown["groups"]["subject"]["dead_share"]) == (2, 0.5)
    assert shown["overall"]["dead_groups"] == [0.5]


def test_dead_groups_that_earned_everything_or_nothing_are_told_apart(tmp_path):
    """a (1 1) solved, b (0 0) nought, c (.5 .5) neither, d (0 1) alive."""
    scores = {"a": (1.0, 1.0), "b": (0.0, 0.0), "c": (0.5, 0.5), "d": (0.0, 1.0)}
    shown = record(tmp_path, {1: [("subject", g, s, {}) for g, pair in scores.items() for s in pair]})
    expected = {"groups": 4, "dead_share": 0.75, "solved_share": 0.25, "nought_share": 0.25}
    assert shown["groups"]["subject"] == expected


def test_the_spread_of_a_group_is_the_standard_deviation_of_its_rewards(tmp_path):
    """a (.4 .4): 0; b (.4 .6): .2 / sqrt 2 = .141421; c (0 1): 1 / sqrt 2 = .707107. Mean .282843, median .141421."""
    scores = {"a": (0.4, 0.4), "b": (0.4, 0.6), "c": (0.0, 1.0)}
    shown = record(tmp_path, {1: [("subject", g, s, {}) for g, pair in scores.items() for s in pair]})
    assert shown["by_task"]["subject"]["spread"] == [0.282843]
    assert shown["spread"]["quantiles"]["p50"] == [0.141421]
    assert shown["spread"]["quantiles"]["p75"] == [0.424264]  # half-way from .141421 to .707107
    third = 0.333333
    assert dict(zip(shown["spread"]["bins"], shown["spread"]["by_task"]["subject"], strict=True)) == {
        "all equal": third,
        "below 0.05": 0.0,
        "0.05 to 0.15": third,
        "0.15 to 0.3": 0.0,
        "0.3 and more": third,
    }


def test_the_same_group_id_in_two_steps_is_two_groups(tmp_path):
    shown = record(tmp_path, {s: [("subject", "a", 0.1 * s, {}), ("subject", "a", 0.1 * s, {})] for s in (1, 2)})
    assert (shown["groups"]["subject"]["groups"], shown["groups"]["subject"]["dead_share"]) == (2, 1.0)


def test_mixture_compares_the_weights_with_what_was_trained_on(tmp_path):
    """Asked 3 : 1, trained on 2 of 4 rollouts each."""
    rollouts = [(task, "a", 0.5, {}) for task in ("subject", "subject", "ocr_regular", "ocr_regular")]
    shown = record(tmp_path, {1: rollouts}, about={"mixture": {"subject": 3, "ocr_regular": 1}})
    assert shown["mixture"]["subject"] == {"requested": 0.75, "realised": 0.5, "rollouts": 2}
    assert shown["mixture"]["ocr_regular"]["requested"] == 0.25


def with_metrics(directory, steps):
    """The numbers of a run, once more, whose metrics are these: step -> data."""
    lines = [json.dumps({"step": step, "data": data}) + "\n" for step, data in steps.items()]
    (directory / "metrics.jsonl").write_text("".join(lines))
    return numbers(load_run(directory))


def test_the_mixture_of_every_step_is_what_the_trainer_says_it_was(tmp_path):
    record(tmp_path, {1: [("subject", "a", 0.5, {}), ("ocr_regular", "b", 0.5, {})]})
    names = {"requested": 0.75, "realised": 0.5, "debt": 2, "replaced": 1}
    shown = with_metrics(tmp_path, {1: {f"mixture/subject/{name}": value for name, value in names.items()}})
    assert (shown["by_task"]["subject"]["share"], shown["requested"]["subject"]) == ([0.5], [0.75])
    assert (shown["by_task"]["subject"]["debt"], shown["replaced"]["subject"]) == ([2.0], [1.0])
    assert shown["by_task"]["ocr_regular"]["share"] == [0.5]  # counted: the trainer did not say


def test_kl_is_shown_where_it_was_measured(tmp_path):
    record(tmp_path, {s: [("subject", "a", 0.5, {})] for s in (1, 2)})
    shown = with_metrics(tmp_path, {2: {"sv6d/kl": 0.25, "task/subject/kl": 0.5, "actor/kl_loss": 0.1}})
    assert shown["overall"]["kl"] == [None, 0.25]
    assert shown["by_task"]["subject"]["kl"] == [None, 0.5]


def test_the_times_of_scoring_and_of_judging_are_quantiles_of_a_step(tmp_path):
    """1, 2, 3, 4, 5 s: median 3, 95th percentile 4.8. One rollout asked the judge."""
    extras = [{"reward_seconds": float(s)} for s in (1, 2, 3, 4, 5)]
    extras[0]["judge_seconds"] = 0.5
    shown = record(tmp_path, {1: [("visual_reasoning", "a", 0.5, extra) for extra in extras]})["overall"]
    assert [shown[f"reward_seconds_{end}"] for end in ("p50", "p95", "max")] == [[3.0], [4.8], [5.0]]
    assert shown["judge_seconds_max"] == [0.5]


def test_a_run_without_rollouts_has_its_tasks_from_the_metrics_by_task(tmp_path):
    shown = with_metrics(tmp_path, {1: {"task/subject/score": 0.5, "task/subject/iou": 0.25, "critic/score/mean": 0.5}})
    assert shown["tasks"] == ["subject"]
    assert shown["by_task"]["subject"] == {"reward": [0.5], "iou": [0.25]}


def test_a_mixture_that_nobody_recorded_is_none_not_zero(tmp_path):
    shown = record(tmp_path, {1: [("subject", "a", 0.5, {})]})
    assert shown["mixture"]["subject"]["requested"] is None


def test_staleness_counts_policy_versions_from_the_oldest_token(tmp_path):
    """The update of step 5 starts from version 4: a rollout begun by version 4 is 0 stale, one by version 2 is 2."""
    rollouts = [("subject", "a", 0.5, {"version_start": v, "version_end": 4}) for v in (4, 2)]
    shown = record(tmp_path, {5: rollouts})
    assert (shown["overall"]["staleness"], shown["overall"]["staleness_max"]) == ([1.0], [2.0])


def test_components_are_means_where_they_apply_and_absent_where_not(tmp_path):
    grounding = [("subject", "a", 0.5, {"iou": iou, "format": 1.0}) for iou in (0.2, 0.4)]
    reading = [("ocr_regular", "b", 0.5, {"similarity": 0.5})]
    shown = record(tmp_path, {1: grounding + reading})
    assert shown["components"]["subject"]["iou"] == {"first": 0.3, "last": 0.3}
    assert set(shown["components"]["ocr_regular"]) == {"reward", "similarity"}
    assert "iou" not in shown["by_task"]["ocr_regular"]


def test_failures_and_truncation_are_counted_by_task(tmp_path):
    rollouts = [("subject", "a", 0.0, {"failed": 1.0}), ("subject", "a", 0.5, {"truncated": True})]
    shown = record(tmp_path, {1: rollouts, 2: [("ocr_regular", "a", 0.5, {}), ("ocr_regular", "a", 0.5, {})]})
    assert shown["failures"]["failed"] == {"subject": 1, "ocr_regular": 0}
    assert shown["failures"]["truncated_share"] == 0.25
    assert shown["overall"]["failed"] == [1.0, 0.0]


def test_groups_that_were_replaced_and_sequences_that_pad_are_counted(tmp_path):
    record(tmp_path, {1: [("subject", "a", 0.5, {})], 2: [("subject", "b", 0.5, {})]})
    steps = [
        {"training/rollout_failure/evicted_samples": 2, "training/off_policy/evicted_samples": 1},
        {"training/rollout_failure/evicted_samples": 1, "sv6d/padded_sequences": 4},
    ]
    lines = [json.dumps({"step": step, "data": data}) + "\n" for step, data in enumerate(steps, 1)]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    shown = numbers(load_run(tmp_path))["failures"]
    assert (shown["failed_groups"], shown["stale_groups"], shown["padded_sequences"]) == (3, 1, 4)


def test_a_task_that_a_step_did_not_draw_has_a_gap_there(tmp_path):
    shown = record(tmp_path, {1: [("subject", "a", 0.5, {})], 2: [("ocr_regular", "a", 0.7, {})]})
    assert shown["by_task"]["subject"]["reward"] == [0.5, None]
    assert shown["by_task"]["ocr_regular"]["reward"] == [None, 0.7]


def test_time_that_no_phase_accounts_for_is_shown_as_other(tmp_path):
    with Recorder(tmp_path) as recorder:
        recorder.write([{"task": "subject", "group": "a", "score": 0.5}], 1)
    timing = {
        "timing_s/step": 10.0,
        "timing_s/gen": 6.0,
        "timing_s/adv": 1.0,
        "timing_s/testing": 5.0,
        "timing_s/a/b": 9,
    }
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "data": timing}))
    shown = numbers(load_run(tmp_path))["timing"]
    assert shown == {"step": [10.0], "gen": [6.0], "adv": [1.0], "testing": [5.0], "other": [3.0]}


def test_supervised_fine_tuning_has_losses_and_a_rate_a_component(tmp_path):
    """Validated at every second step; its loss falls from 3 by .25 a step, in six steps: first five 2.5, last five 2.25."""
    steps = [
        {"train/loss": 3 - 0.25 * i, "train/lr": 0.1, "language/lr": 0.01, "vision/lr": 0.001}
        | ({"val/loss": 2.0} if i % 2 else {})
        for i in range(6)
    ]
    tmp_path.joinpath("metrics.jsonl").touch()
    shown = with_metrics(tmp_path, dict(enumerate(steps, 1)))
    assert shown["steps"] == [1, 2, 3, 4, 5, 6] and shown["missing"] == []
    assert shown["supervised"]["losses"]["validation"] == [None, 2.0] * 3
    assert shown["supervised"]["ends"] == {"training": [2.5, 2.25], "validation": [2.0, 2.0]}
    assert {name: rates[0] for name, rates in shown["supervised"]["rates"].items()} == {
        "language": 0.01,
        "vision": 0.001,
    }


def test_supervised_fine_tuning_by_others_has_one_rate(tmp_path):
    shown = with_metrics(tmp_path, {1: {"train/loss": 1.0, "train/lr": 0.1}})
    assert shown["supervised"]["rates"] == {"all": [0.1]}


def test_reinforcement_learning_is_no_supervised_fine_tuning(tmp_path):
    shown = with_metrics(tmp_path, {1: {"critic/score/mean": 0.5, "actor/lr": 0.1}})
    assert shown["supervised"] == {"losses": {}, "rates": {}, "ends": {}}


def test_tasks_stand_in_the_order_of_the_task_table_and_strangers_after_them():
    assert task_order({"zebra", "visual_reasoning", "aardvark", "shot_framing"}) == [
        "shot_framing",
        "visual_reasoning",
        "aardvark",
        "zebra",
    ]


@pytest.mark.parametrize("gone", ["rollouts", "metrics.jsonl", "about.json"])
def test_whatever_a_run_lacks_the_numbers_have_the_same_shape(tmp_path, gone):
    whole = numbers(load_run(build(tmp_path / "whole", steps=3)))
    run = build(tmp_path / "part", steps=3)
    (run / gone).rename(tmp_path / "elsewhere")
    shown = numbers(load_run(run))
    assert set(shown) == set(whole)
    assert set(shown["tasks"]) == set(TASKS)
    json.dumps(shown, allow_nan=False)
