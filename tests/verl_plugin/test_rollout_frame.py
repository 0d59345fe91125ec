"""A step's rollouts as a table: a row each, metrics by task, whose texts are kept."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from recorded_batch import Columns, batch, components
from sv6d.reports.recorder import TEXTS, schema
from sv6d.verl_plugin.recording.rollout_frame import (
    end_tokens,
    ended_by_itself,
    fresh_difference,
    pick_texts,
    rollout_frame,
)
from sv6d.verl_plugin.recording.task_metrics import task_metrics


def frame(step=5, limits=(4, 4, 4), kl_of=None, **replaced):
    keys, tags, data = batch()
    return rollout_frame(keys, tags, Columns({**data, **replaced}), step=step, limits=limits, kl_of=kl_of or {})


def rows(**options):
    return frame(**options).to_dict("records")


def test_a_row_has_what_the_recorder_takes():
    assert {*frame(), *TEXTS} == set(schema().names)


def test_values_of_a_row():
    first, second, third = rows(kl_of={"b_0_0": 0.125})
    assert (first["uid"], first["group"], first["task"], first["dataset"]) == ("a_0_0", "a", "ocr_regular", "demo")
    assert (first["score"], first["similarity"], first["advantage"], first["entropy"]) == (1.0, 1.0, 1.0, 2.0)
    assert math.isnan(first["iou"]) and third["iou"] == 0.5
    assert (third["dataset"], third["version_start"], third["version_end"]) == ("", 2, 4)
    assert [row["response_length"] for row in (first, second, third)] == [2, 4, 3]
    assert [row["truncated"] for row in (first, second, third)] == [False, True, False]  # four tokens are the limit
    assert math.isnan(first["kl"]) and third["kl"] == 0.125
    assert first["reward_seconds"] == 0.01


def test_a_judge_fails_only_where_it_was_asked():
    judged = [
        {"reward_extra_info": components(0.3, format=1.0, judge=0.0, failed=1.0, judge_seconds=2.5)},
        {"reward_extra_info": components(1.0, format=1.0, judge=1.0, judge_seconds=0.5)},
        {"reward_extra_info": components(0.0, failed=1.0)},  # not scored at all, so that nobody judged
    ]
    assert frame(extra_fields=judged)["judge_failed"].tolist() == [True, False, None]


def test_a_reward_manager_that_is_not_ours_tells_the_score_alone():
    first = rows(extra_fields=[{}, {}, {}])[0]
    assert first["score"] == 1.0 and math.isnan(first["failed"]) and math.isnan(first["reward_seconds"])


def test_a_component_that_is_no_number_is_not_known():
    """A reward of another package may say anything under one of our names."""
    said = [{"reward_extra_info": {"format": value, "judge": 0.5}} for value in ("good", None, [1])]
    table = frame(extra_fields=said)
    assert table["format"].isna().all() and table["judge"].tolist() == [0.5] * 3
    assert task_metrics(table)["task/ocr_regular/judge"] == 0.5


def test_entropy_is_missing_where_nobody_computed_it():
    keys, tags, data = batch()
    del data["entropy"]
    assert rollout_frame(keys, tags, data, step=5, limits=[4] * 3, kl_of={})["entropy"].isna().all()


def test_metrics_by_task():
    metrics = task_metrics(frame(kl_of={"a_1_0": 0.5}))
    assert metrics["task/ocr_regular/score"] == 0.75  # (1 + .5) / 2
    assert metrics["task/ocr_regular/entropy"] == 1.5
    assert metrics["task/ocr_regular/truncated"] == 0.5
    assert metrics["task/ocr_regular/kl"] == 0.5  # of the one that was measured
    assert metrics["task/cut_point_detection/iou"] == 0.5
    assert metrics["task/cut_point_detection/staleness"] == 2  # the update of step 5 starts from version 4, it from 2
    assert "task/ocr_regular/iou" not in metrics  # does not apply to the family
    assert metrics["task/ocr_regular/groups"] == 1 and metrics["task/ocr_regular/groups_without_signal"] == 0
    assert "task/cut_point_detection/groups" not in metrics  # a rollout alone has none to be compared with
    assert task_metrics(frame().assign(score=0.5))["task/ocr_regular/groups_without_signal"] == 1
    assert all(type(value) is float and not math.isnan(value) for value in metrics.values())


def test_rollout_and_actor_are_compared_where_the_present_policy_wrote():
    _, tags, data = batch()
    assert fresh_difference(tags, data, step=3) == pytest.approx(0.25)  # the third began at version 2
    assert fresh_difference(tags, data, step=4) == 0.0  # padding behind the responses does not count
    assert fresh_difference(tags, data, step=9) is None


def test_a_response_that_ends_at_its_limit_with_an_end_token_was_not_cut():
    assert ended_by_itself(torch.tensor([5, 6, 0]), stops={0, 1})
    assert not ended_by_itself(torch.tensor([5, 6, 7]), stops={0, 1})
    assert not ended_by_itself(torch.tensor([]), stops={0, 1})


@pytest.mark.parametrize(("stated", "stops"), [("[7, 9]", {7, 8, 9}), ("7", {7, 8}), ("null", {8}), (None, {8})])
def test_the_model_s_own_end_tokens_end_a_response(tmp_path, stated, stops):
    if stated:
        (tmp_path / "generation_config.json").write_text(f'{{"eos_token_id": {stated}}}')
    assert end_tokens(SimpleNamespace(eos_token_id=8, pad_token_id=None), str(tmp_path)) == stops


def test_texts_are_kept_of_the_best_the_worst_and_two_others_of_each_task():
    scores = {"a": [0.5, 0.1, 0.9, 0.3] * 10, "b": [0.7, 0.2] + [0.4] * 38}
    table = pd.DataFrame([{"task": task, "score": score} for task in scores for score in scores[task]])
    kept = pick_texts(table, 8, step=2)
    assert {38, 1, 40, 41} <= set(kept)  # .9 and .1 of a, .7 and .2 of b
    assert len(kept) == 8 and sum(kept.values()) == 4
    assert kept == pick_texts(table, 8, step=2) != pick_texts(table, 8, step=3)
    assert [{row // 40 for row in pick_texts(table, 4, step=step)} for step in (2, 3)] == [{0}, {1}]  # in turn
    assert pick_texts(table, None, step=2) == pick_texts(table, 80, step=2) == dict.fromkeys(range(80), True)
    assert pick_texts(table, 0, step=2) == {}


def test_what_the_lot_keeps_is_like_all_rollouts():
    """One rollout of eight earns 1: of the texts that the lot kept, as many do; also where the lot drew the best."""
    table = pd.DataFrame({"task": "a", "score": [1.0] + [0.0] * 7})
    drawn = [row for step in range(400) for row, by_lot in pick_texts(table, 4, step).items() if by_lot]
    assert sum(row == 0 for row in drawn) / len(drawn) == pytest.approx(1 / 8, abs=0.03)
