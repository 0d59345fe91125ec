"""Each rule sees what it is for and nothing else: runs with one fault each, and real runs of the demo."""

import json
from pathlib import Path

import pytest
from sv6d.reports.diagnosis import RULES, diagnose
from sv6d.reports.diagnosis.evidence import change
from sv6d.reports.runs import load_run
from told_run import told_run

TASKS = ("subject", "shot_framing", "ocr_regular", "visual_reasoning")
BEFORE_AFTER = {0: 0.3, 30: 0.5}


def seen(run, *levels):
    """(rule, task) of the findings of these levels."""
    return {(f.rule, f.task) for f in diagnose(run) if f.level in (levels or ("alarm", "warning"))}


@pytest.fixture
def told(tmp_path):
    return lambda tasks, **more: told_run(tmp_path / "run", {task: tasks.get(task, {}) for task in TASKS}, **more)


def heldout(scores):
    """Metrics with a validation at the given steps: {step: score}."""
    return lambda step: {f"val-core/{task}/reward/mean@1": scores[step] for task in TASKS} if step in scores else {}


def test_a_healthy_run_has_no_finding(told):
    run = told({}, metrics=heldout({0: 0.3, 30: 0.48}))
    assert seen(run) == set()


def test_a_rule_that_lacks_its_data_says_what(told):
    lacking = {f.rule: f.evidence for f in diagnose(told({})) if f.level == "unjudged"}
    assert lacking["judge_failures"] == "no judge was asked (judge/asked)"
    assert lacking["rollout_mismatch"].startswith("no training/rollout_actor_probs_pearson_corr")
    assert "entropy_collapse" not in lacking


def test_a_run_of_few_steps_is_not_judged_by_its_trend(told):
    run = told({task: {"entropy": lambda t: 0.001} for task in TASKS}, steps=6)
    assert ("entropy_collapse", None) in seen(run, "unjudged") and not seen(run)


def test_answers_that_grow_for_nothing(told):
    run = told({"subject": {"response_length": lambda t: 20 + 60 * t, "score": lambda t: 0.3}})
    assert seen(run) == {("length_hacking", "subject")}
    run = told({task: {"response_length": lambda t: 20 + 60 * t, "score": lambda t: 0.3} for task in TASKS})
    assert ("length_hacking", None) in seen(run, "alarm")


def test_answers_that_grow_and_earn_by_it_are_fine(told):
    assert seen(told({"subject": {"response_length": lambda t: 20 + 60 * t}})) == set()


def test_answers_that_grow_and_earn_by_it_in_a_noisy_run_are_fine(told):
    """+.05 of reward on groups that scatter by .3: not proven, but not nothing either."""
    curves = {"response_length": lambda t: 20 + 60 * t, "score": lambda t: 0.3 + 0.06 * t}
    assert "length_hacking" not in {rule for rule, _ in seen(told({"subject": curves}, noise=0.3))}


def test_answers_that_reach_the_limit(told):
    run = told({"subject": {"truncated": lambda t: 0.6 * t}})
    (found,) = [f for f in diagnose(run) if f.level == "warning"]
    assert found.rule == "length_hacking" and found.title == "Answers run into the length limit"


def test_answers_that_were_cut_from_the_start_are_a_warning(told):
    run = told({task: {"truncated": lambda t: 0.6} for task in TASKS})
    assert seen(run, "alarm") == set()
    assert seen(run, "warning") == {("length_hacking", task) for task in (None, *TASKS)}


def test_length_that_pays_within_groups(tmp_path):
    """Every second answer of a group is ten times as long and earns .2 more."""
    import numpy as np
    import pandas as pd
    from sv6d.reports.recorder import Recorder
    from sv6d.reports.runs import load_run

    rng = np.random.default_rng(0)
    with Recorder(tmp_path) as recorder:
        for step in range(1, 31):
            long = rng.random(32) < step / 60
            table = pd.DataFrame({"uid": [f"{step}-{i}" for i in range(32)], "task": "subject"})
            table["group"] = [f"{step}-{i // 8}" for i in range(32)]
            table["score"] = 0.3 + 0.2 * long + 0.01 * rng.standard_normal(32)
            table["response_length"] = np.where(long, 200, 20)
            recorder.write(table.to_dict("records"), step)
            recorder.flush()
    titles = {f.title for f in diagnose(load_run(tmp_path)) if f.level == "warning"}
    assert "Within a group the longer answer earns more" in titles


def test_the_held_out_reward_falls_while_the_training_reward_rises(told):
    found = diagnose(told({}, metrics=heldout({0: 0.4, 30: 0.3})))
    alarm = next(f for f in found if f.level == "alarm")
    assert alarm.rule == "reward_hacking" and "held-out 0.400 -> 0.300" in alarm.evidence


def test_the_held_out_reward_falls_from_its_best_while_the_training_reward_rises(told):
    """Up to step 12 both rise, then the policy finds a flaw: the last validation is still above the first."""
    scores = {0: 0.3, 6: 0.4, 12: 0.5, 18: 0.45, 24: 0.42, 30: 0.40}
    (alarm,) = [f for f in diagnose(told({}, metrics=heldout(scores))) if f.level == "alarm"]
    assert "held-out 0.500 -> 0.420" in alarm.evidence and alarm.steps == (12, 30)  # the better of the last two
    assert seen(told({}, metrics=heldout(scores | {30: 0.49}))) == set()  # one that is low between two that are not


def test_held_out_scores_of_few_rows_scatter_and_that_is_no_alarm(told):
    """Of four tasks two fall by .12 and two rise by .06: -.03 on average, with a standard error of .05."""
    falls = dict(zip(TASKS, (0.12, 0.12, -0.06, -0.06), strict=True))

    def metrics(step):
        return {f"val-core/{t}/reward/mean@1": 0.5 - falls[t] * (step == 30) for t in TASKS} if step in (0, 30) else {}

    assert seen(told({}, metrics=metrics)) == set()


def test_a_component_falls_while_the_reward_rises(told):
    run = told({"subject": {"format": lambda t: 0.6 + 0.4 * t, "label": lambda t: 0.5 - 0.4 * t}})
    found = [f for f in diagnose(run) if f.task == "subject"]
    assert [(f.rule, f.level, f.title) for f in found] == [
        ("reward_hacking", "warning", "The reward rises and label falls")
    ]


def test_a_reward_that_is_always_0_is_a_wiring_error(told):
    run = told({"ocr_regular": {"score": lambda t: 0.0}}, noise=0.0)
    wired = {f.task: f for f in diagnose(run) if f.rule == "constant_reward"}
    assert set(wired) == {"ocr_regular"} and wired["ocr_regular"].title == "The reward is always 0"
    assert wired["ocr_regular"].evidence == "360 rollouts in 30 steps, every score 0"


def test_a_reward_that_is_always_1_but_where_scoring_failed_is_still_constant(told):
    now_and_then = {"failed": lambda t: float(t == 0.5), "score": lambda t: float(t != 0.5)}
    run = told({"ocr_regular": now_and_then}, noise=0.0)
    assert ("constant_reward", "ocr_regular") in seen(run, "alarm")


def test_a_constant_reward_of_a_run_without_recorded_rollouts(tmp_path):
    def run(high):
        lines = [
            {"step": s, "data": {"critic/score/min": 0.0, "critic/score/max": high, "critic/score/mean": 0.0}}
            for s in (1, 2, 3)
        ]
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return load_run(tmp_path)

    assert seen(run(0.0), "alarm") == {("constant_reward", None)} and seen(run(0.5)) == set()


def test_dead_groups_of_a_task_and_of_a_run(told):
    run = told({"ocr_regular": {"score": lambda t: 0.3 + 0.2 * t}}, noise=0.0)
    assert ("dead_groups", None) in seen(run, "alarm")
    assert {("dead_groups", task) for task in TASKS} <= seen(run, "warning")


def test_a_starved_task(told):
    run = told({}, absent=lambda task, step: task == "subject" and step > 10)
    assert seen(run) == {("starved_task", "subject")}
    assert seen(told({}, mixture={"subject": 9, "shot_framing": 1, "ocr_regular": 1, "visual_reasoning": 1})) == {
        ("starved_task", "subject")  # 25 % of the groups where 75 % were asked for
    }


def test_a_task_that_chance_left_out_is_not_starved(told):
    """One group of one of four tasks a step, drawn by lot: in the last five steps some task was not drawn at all."""
    import numpy as np

    drawn = np.random.default_rng(1).integers(4, size=31)
    assert len(set(drawn[26:])) < 4
    assert seen(told({}, absent=lambda task, step: TASKS[drawn[step]] != task, groups=1)) == set()


def test_scoring_that_fails(told):
    run = told({"subject": {"failed": lambda t: float(t > 0.5)}})
    assert seen(run, "alarm") == {("failed_scoring", "subject")}


def test_scoring_that_failed_for_a_while_is_not_forgotten(told):
    """A judge that was down from step 10 to 15: six of thirty steps."""
    down = {"failed": lambda t: float(10 <= round(30 * t) <= 15)}
    run = told({"visual_reasoning": down}, metrics=lambda step: judge(100, 100 * (10 <= step <= 15))(step))
    found = {f.rule: f for f in diagnose(run) if f.level == "warning"}
    assert set(found) == {"failed_scoring", "judge_failures"}
    assert found["failed_scoring"].steps == (10, 15)
    assert "0.0% of the task's rollouts in the last steps, 20.0% in the run" in found["failed_scoring"].evidence


def judge(asked, failed):
    return lambda step: {"judge/asked": asked, "judge/failed": failed}


@pytest.mark.parametrize(("failed", "level"), [(1, None), (10, "warning"), (50, "alarm")])
def test_a_judge_that_fails(told, failed, level):
    found = [f.level for f in diagnose(told({}, metrics=judge(100, failed))) if f.rule == "judge_failures"]
    assert found == ([level] if level else [])


def test_a_judge_that_is_changed_in_the_middle(told):
    jump = {"visual_reasoning": {"judge": lambda t: 0.4 if t < 0.5 else 0.8}}
    run = told(jump, metrics=judge(100, 0))
    (found,) = [f for f in diagnose(run) if f.rule == "judge_drift"]
    assert found.steps == (14, 15) and found.task == "visual_reasoning"


def test_a_judge_that_is_not_asked_in_every_step_is_seen_to_change(told):
    jump = {"visual_reasoning": {"judge": lambda t: 0.4 if t < 0.5 else 0.8}}
    run = told(jump, metrics=judge(100, 0), absent=lambda task, step: task == "visual_reasoning" and step % 3 == 0)
    (found,) = [f for f in diagnose(run) if f.rule == "judge_drift"]
    assert found.steps == (14, 16)


def test_a_judge_whose_marks_rise_as_the_policy_learns_does_not_drift(told):
    slow = {"visual_reasoning": {"judge": lambda t: 0.2 + 0.6 * t}}
    assert ("judge_drift", "visual_reasoning") not in seen(told(slow, metrics=judge(100, 0)))
    fast = {"visual_reasoning": {"judge": lambda t: 0.4 + 0.4 * (t > 0.5), "format": lambda t: 0.3 + 0.6 * (t > 0.5)}}
    assert ("judge_drift", "visual_reasoning") not in seen(told(fast, metrics=judge(100, 0)))


def test_rollouts_of_another_policy(told):
    run = told({}, metrics=lambda step: {"training/rollout_actor_probs_pearson_corr": 0.7})
    assert seen(run, "alarm") == {("rollout_mismatch", None)}


SIZES = ("close-up", "medium shot", "long shot", "extreme long shot")


def answer(*shots) -> str:
    labelled = [{"start": s, "end": e, "labels": {"camera_language": {"shot_size": tag}}} for s, e, tag in shots]
    return json.dumps({"segments": labelled})


def truth(*shots) -> str:
    return json.dumps(json.loads(answer(*shots))["segments"])


def test_labels_that_fall_to_one_tag(told):
    def texts(task, step, i):
        true = SIZES[(step + i) % 4]
        said = "medium shot" if step > 10 else true
        return (answer((0, 2, said)), truth((0, 2, true))) if task == "shot_framing" else (None, None)

    (found,) = [f for f in diagnose(told({}, texts=texts)) if f.rule == "constant_tag"]
    assert found.title == "camera_language.shot_size is always 'medium shot'" and found.task == "shot_framing"
    assert "100% of the answers, 25% of the truth; label entropy 2.00 -> 0.00 bits, true 2.00" in found.evidence
    assert found.steps == (21, 30)  # the last third, of which the texts are read


def test_labels_that_nearly_fall_to_one_tag_are_not_said_to_be_always_it(told):
    """Eleven of twelve answers of a step say one tag: 92 %."""

    def texts(task, step, i):
        said = "long shot" if i == 0 else "medium shot"
        return (answer((0, 2, said)), truth((0, 2, SIZES[(step + i) % 4]))) if task == "shot_framing" else (None, None)

    (found,) = [f for f in diagnose(told({}, texts=texts)) if f.rule == "constant_tag"]
    assert found.title == "camera_language.shot_size is nearly always 'medium shot'" and "92% of" in found.evidence


def test_answers_that_were_kept_for_their_score_do_not_count(told):
    """All texts but one of a step say one tag; the best, which does not, was kept because it is the best."""

    def texts(task, step, i):
        said = SIZES[(step + i) % 4] if i % 4 == 0 else "medium shot"
        return (answer((0, 2, said)), truth((0, 2, SIZES[(step + i) % 4]))) if task == "shot_framing" else (None, None)

    run = told({}, texts=texts, text_at_random=lambda i: i % 4 != 0)
    assert "constant_tag" in {f.rule for f in diagnose(run) if f.level == "warning"}
    run = told({}, texts=texts, text_at_random=lambda i: None)  # an older recorder's: all are looked at
    assert "constant_tag" not in {f.rule for f in diagnose(run)}


@pytest.mark.parametrize(
    ("clock", "evidence"),
    [
        (lambda s: 1.25 * s, "+25% of the true time"),
        (lambda s: 2.0 * s, "+100% of the true time"),  # half the rate: by overlap, shots meet the wrong ones
        (lambda s: 0.5 * s, "-50% of the true time"),
        (lambda s: s + 0.6, "+0.60 s (0.60 s in the middle, 0.00 s without it"),
    ],
)
def test_answers_on_another_clock(told, clock, evidence):
    def texts(task, step, i):
        cut = 1.0 + 0.5 * (i % 5)
        times = [(0.0, cut), (cut, 5.0)]
        said = [(clock(s) if s else 0.0, clock(e), "long shot") for s, e in times]
        return answer(*said), truth(*((s, e, "long shot") for s, e in times))

    run = told({}, texts=lambda task, step, i: texts(task, step, i) if task == "subject" else (None, None))
    (found,) = [f for f in diagnose(run) if f.rule == "video_clock"]
    assert found.level == "alarm" and found.task == "subject" and evidence in found.evidence
    assert found.steps == (21, 30)  # the last third, of which the texts are read


def test_answers_that_are_merely_wrong_have_no_clock(told):
    def texts(task, step, i):
        cut, said = 1.0 + 0.5 * (i % 5), 0.7 + 0.9 * ((i * 7 + step) % 4)
        shots = [(0.0, cut, "long shot"), (cut, 5.0, "long shot")]
        return answer((0.0, said, "long shot"), (said, 5.0, "long shot")), truth(*shots)

    run = told({}, texts=lambda task, step, i: texts(task, step, i) if task == "subject" else (None, None))
    assert "video_clock" not in {f.rule for f in diagnose(run)}


def test_one_answer_for_all_videos_is_no_clock(told):
    """Videos of 4.6 to 5 s, and every answer cuts at 3 s and ends at 4: 20 % too early everywhere, but not after the truth."""

    def texts(task, step, i):
        end = 5.0 - 0.1 * (i % 5)
        shots = truth((0.0, end - 1.0, "long shot"), (end - 1.0, end, "long shot"))
        return (answer((0.0, 3.0, "long shot"), (3.0, 4.0, "long shot")), shots) if task == "subject" else (None, None)

    run = told({}, texts=texts)
    assert "video_clock" not in {f.rule for f in diagnose(run)}


def test_other_thresholds(told):
    run = told({})
    assert any(f.rule == "dead_groups" for f in diagnose(run, thresholds={"dead_groups": {"share": -1}}))
    with pytest.raises(ValueError, match="no rule is called 'dead_group'; there are constant_reward, "):
        diagnose(run, thresholds={"dead_group": {}})
    with pytest.raises(ValueError, match="dead_groups has no threshold shar; it has share, task_share"):
        diagnose(run, thresholds={"dead_groups": {"shar": 1}})


def test_the_gravest_come_first_and_every_rule_has_a_sentence(told):
    run = told({task: {"entropy": lambda t: 1.2 - 1.19 * t, "truncated": lambda t: 0.6 * t} for task in TASKS})
    levels = [f.level for f in diagnose(run)]
    assert levels == sorted(levels, key=["alarm", "warning", "unjudged"].index)
    assert all(rule.about.endswith(".") and rule.thresholds for rule in RULES)


def test_a_change_is_measured_against_its_own_noise():
    import numpy as np

    # windows of 2: means 1 and 5; variances 2 and 2 (n - 1): error = sqrt((2 + 2) / 2)
    found = change(np.array([0.0, 2.0, 9.0, 4.0, 6.0]), 2)
    assert (found.first, found.last) == (1.0, 5.0) and found.error == pytest.approx(2**0.5)
    assert not found.rose(0.1)  # 4 < 3 * 1.414
    assert change(np.array([1.0, float("nan"), 2.0, 3.0]), 2) is None


@pytest.mark.parametrize("seed", [0, 2])
def test_the_demo_s_runs_raise_no_alarm_and_warn_of_what_is_so(seed):
    """Two real runs of the demo, as recorded (tests/reports/recorded). Both learn; their weak places are true ones: the
    localization task ends with one answer for everything, and text recognition grows longer and no better."""
    run = load_run(Path(__file__).parent / "recorded" / f"demo-seed{seed}")
    assert seen(run, "alarm") == set()
    fixed = {("dead_groups", "temporal_action_localization"), ("entropy_collapse", "temporal_action_localization")}
    warned = {0: fixed, 2: set()}[seed]
    assert seen(run, "warning") == warned | {("length_hacking", "ocr_regular"), ("length_hacking", "ocr_handwritten")}
    assert {rule for rule, _ in seen(run, "unjudged")} == {
        "constant_tag",
        "judge_failures",
        "judge_drift",
        "video_clock",
    }
    localization = run.rollouts[run.rollouts["task"] == "temporal_action_localization"]
    spread = localization[localization["step"] > 35].groupby("group")["score"].agg(lambda s: s.max() - s.min())
    assert ((spread < 1e-9).mean() > 0.8) == (seed == 0)
    entropy = localization.groupby("step")["entropy"].mean()
    assert (entropy.tail(5).mean() < 0.15 * entropy.head(5).mean()) == (seed == 0)
    ocr = run.rollouts[run.rollouts["task"] == "ocr_regular"].groupby("step")[["response_length", "score"]].mean()
    assert ocr["response_length"].tail(5).mean() > 1.5 * ocr["response_length"].head(5).mean()
    assert abs(ocr["score"].tail(5).mean() - ocr["score"].head(5).mean()) < 0.02


def test_the_rules_that_read_answers_raise_no_alarm_on_real_ones():
    """A real run of the demo, 30 steps, with the texts that the recorder keeps by default. What it is warned of is so: the
    answers call one framing in 52 of 53 cases, which is right for 51 of 62 shots."""
    run = load_run(Path(__file__).parent / "recorded" / "demo-texts")
    kept = run.texts()["text_at_random"]
    assert len(kept) == 30 * 52 and kept.mean() > 0.5  # the lot may also draw the best and the worst
    assert seen(run, "alarm") == set() and seen(run, "warning") == {("constant_tag", "subject")}
    assert {rule for rule, _ in seen(run, "unjudged")} == {"judge_failures", "judge_drift"}
    texts = run.texts().merge(run.rollouts[["step", "uid", "task"]], on=["step", "uid"])
    last = texts[(texts["task"] == "subject") & (texts["step"] > 20)]
    assert last["response"].str.count('"framing_type":"objective"').sum() == 52


def test_the_page_names_every_rule_with_its_thresholds():
    page = (Path(__file__).parents[2] / "docs" / "diagnosis.md").read_text()
    for found in RULES:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{found.name}` |")]
        for name, value in found.thresholds.items():
            assert f"`{name}` {value:g}" in row
