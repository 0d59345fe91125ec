"""The trainers: a row a rollout, metrics by task and component, and no start with a broken plug-in."""

import math
import threading
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from sv6d.data_mixers import Mixture
from sv6d.reports.recorder import ABOUT, TEXTS, schema
from sv6d.rewards import COMPONENTS
from sv6d.verl_plugin import recording, trainers
from sv6d.verl_plugin.rollout_frame import ended_by_itself, fresh_difference, pick_texts, rollout_frame
from sv6d.verl_plugin.task_metrics import task_metrics
from tensordict import NonTensorData, NonTensorStack, TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import get_trainer_cls
from verl.utils.tensordict_utils import nested_tensor_from_tensor_list

NAN = math.nan


def components(score, **known):
    known = {"failed": 0.0, "reward_seconds": 0.01} | known
    return {name: known.get(name, NAN) for name in (*COMPONENTS, "reward_seconds", "judge_seconds")} | {"score": score}


def batch():
    """Three rollouts of two prompts: two of the group `a` (OCR), one of `b` (a cut task)."""
    keys = ["a_0_0", "a_1_0", "b_0_0"]
    tags = [
        {"prompt_len": 9, "response_len": 2, "min_global_steps": 3, "max_global_steps": 3},
        {"prompt_len": 9, "response_len": 4, "min_global_steps": 3, "max_global_steps": 4},
        {"prompt_len": 9, "response_len": 3, "min_global_steps": 2, "max_global_steps": 4},
    ]
    data = {
        "data_source": ["ocr_regular", "ocr_regular", "cut_point_detection"],
        "extra_info": [{"dataset": "demo"}, {"dataset": "demo"}, {}],
        "extra_fields": [
            {"reward_extra_info": components(1.0, similarity=1.0)},
            {"reward_extra_info": components(0.5, similarity=0.5)},
            {"reward_extra_info": components(0.25, iou=0.5, label=0.0, format=1.0)},
        ],
        "rm_scores": torch.tensor([[0.0, 1.0, 0, 0], [0, 0, 0, 0.5], [0, 0, 0.25, 0]]),
        "response_mask": torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]),
        "advantages": torch.tensor([[1.0, 1, 9, 9], [-1, -1, -1, -1], [0, 0, 0, 9]]),
        # mean over the response: 2; 1; 0.5
        "entropy": torch.tensor([[1.0, 3, 9, 9], [1, 1, 1, 1], [0.5, 0.5, 0.5, 9]]),
        # the rollout is sure of every token; the actor gives the second token of the last rollout .75
        "rollout_log_probs": torch.zeros(3, 4),
        "old_log_probs": torch.tensor([[0.0, 0, -9, -9], [0, 0, 0, 0], [0, 0.75, 0, -9]]).where(
            torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1]]).bool(), torch.tensor(0.75).log()
        ),
        "responses": torch.nested.as_nested_tensor([torch.tensor(ids) for ids in ([5, 6], [5, 6, 7, 8], [9, 9, 9])]),
        "reward_model": [{"ground_truth": "56"}, {"ground_truth": "56"}, {"ground_truth": [{"start": 0}]}],
    }
    return keys, tags, Columns(data)


class Columns(dict):
    """A TransferQueue batch: columns that are asked for by name."""


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


def _rows(values, rows):
    return (
        [values[row] for row in rows]
        if isinstance(values, list)
        else torch.nested.as_nested_tensor([values.unbind()[row] for row in rows])
    )


class Stream:
    """Stands for the dataset: a run of three prompts."""

    mixture = Mixture({"ocr_regular": 5, "cut_point_detection": 5}, {"ocr_regular": 2, "cut_point_detection": 1})

    def __len__(self):
        return 3


class Base:
    """Stands for verl's trainer under the mixin."""

    global_steps = 0
    train_dataset = Stream()

    def __init__(self, config):
        self.config = config
        self.mode_seen = config.trainer.v1.trainer_mode

    tokenizer = SimpleNamespace(
        eos_token_id=8, pad_token_id=None, decode=lambda ids, skip_special_tokens: " ".join(map(str, ids.tolist()))
    )

    def fit(self, agent_loop_manager):
        self.global_steps = 1
        self._update_actor(agent_loop_manager, {})
        self._compute_metrics(agent_loop_manager, {}, {}, 1, 0)

    def _update_actor(self, batch, metrics):
        return batch

    def _compute_metrics(self, batch, metrics, timing_raw, global_steps, epoch):
        pass


class Trainer(recording.RecordingTrainer, Base):
    base_mode = "colocate_async"


def config(**sv6d):
    return OmegaConf.create(
        {
            "sv6d": sv6d,
            "trainer": {"v1": {"trainer_mode": "sv6d_colocate_async"}},
            "data": {"max_response_length": 4},
            "algorithm": {"rollout_correction": None},
            "actor_rollout_ref": {"rollout": {"calculate_log_probs": True, "max_model_len": None}},
        }
    )


@pytest.fixture
def fetched(monkeypatch):
    """TransferQueue with the batch above and one padding row; remembers which fields were fetched."""
    keys, tags, data = batch()
    asked = []

    def kv_batch_get(keys, partition_id, select_fields):
        asked.append((threading.current_thread().name, list(select_fields)))
        rows = [batch()[0].index(key) for key in keys]
        return Columns({name: _rows(data[name], rows) for name in select_fields})

    monkeypatch.setattr(recording.tq, "kv_batch_get", kv_batch_get)
    monkeypatch.setattr(recording, "require_plugin", lambda: None)
    meta = SimpleNamespace(
        keys=[*keys, "b_0_0_pad"], tags=[*tags, {**tags[0], "is_padding": True}], partition_id="train"
    )
    return meta, asked


def test_verl_sees_the_mode_that_it_knows(fetched):
    assert Trainer(config()).mode_seen == "colocate_async"


def recorded(directory):
    (part,) = (directory / "rollouts").glob("*.parquet")
    return pd.read_parquet(part).astype(object).where(lambda table: table.notna(), None)


def test_a_step_is_recorded_without_its_padding_and_beside_the_update(fetched, tmp_path):
    meta, asked = fetched
    Trainer(config(record_dir=str(tmp_path), record_responses="none")).fit(meta)
    written = recorded(tmp_path)
    assert list(written["uid"]) == ["a_0_0", "a_1_0", "b_0_0"] and set(written["step"]) == {1}
    assert written["response"].isna().all()
    assert {thread for thread, _ in asked} == {"sv6d-recording_0"}  # the trainer's own thread fetches nothing
    assert '"ocr_regular": 2' in (tmp_path / ABOUT).read_text()


def test_an_answer_with_its_end_at_the_limit_is_not_truncated(fetched, tmp_path):
    Trainer(config(record_dir=str(tmp_path))).fit(fetched[0])
    assert recorded(tmp_path)["truncated"].tolist() == [False, False, False]  # the second has 4 tokens, the last is 8
    Base.tokenizer.eos_token_id = 7
    try:
        Trainer(config(record_dir=str(tmp_path))).fit(fetched[0])
    finally:
        Base.tokenizer.eos_token_id = 8
    assert recorded(tmp_path)["truncated"].tolist() == [False, True, False]


def test_a_prompt_that_leaves_less_room_lowers_the_limit(fetched, tmp_path):
    settings = config(record_dir=str(tmp_path))
    settings.actor_rollout_ref.rollout.max_model_len = 9 + 3
    Trainer(settings).fit(fetched[0])
    assert recorded(tmp_path)["truncated"].tolist() == [False, False, True]


def test_several_updates_a_step_are_recorded_together(fetched, tmp_path):
    """`parameter_sync_step` of separate_async: verl hands the batches of all updates over as one."""
    keys, tags, _ = batch()
    trainer, metrics = Trainer(config(record_dir=str(tmp_path))), {}
    trainer.global_steps = 1
    for part in (slice(0, 2), slice(2, 3)):
        trainer._update_actor(SimpleNamespace(keys=keys[part], tags=tags[part], partition_id="train"), {})
    trainer._compute_metrics(fetched[0], metrics, {}, 1, 0)
    assert metrics["task/ocr_regular/score"] == 0.75 and metrics["task/cut_point_detection/score"] == 0.25
    assert metrics["sv6d/padded_sequences"] == 1


def test_a_step_without_an_update_has_its_metrics(fetched):
    trainer, metrics = Trainer(config()), {}
    trainer._compute_metrics(fetched[0], metrics, {}, 2, 0)
    assert metrics["task/ocr_regular/score"] == 0.75


def test_what_cannot_be_measured_ends_the_step_with_its_reason(fetched, monkeypatch):
    monkeypatch.setattr(recording.tq, "kv_batch_get", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Trainer(config()).fit(fetched[0])


def test_a_validation_of_an_earlier_checkpoint_keeps_what_was_recorded_after_it(fetched, tmp_path):
    settings = config(record_dir=str(tmp_path))
    Trainer(settings).fit(fetched[0])
    (tmp_path / "metrics.jsonl").write_text("verl empties this")
    settings.trainer.val_only = True
    trainer = Trainer(settings)
    trainer._update_actor = trainer._compute_metrics = lambda *_: None
    trainer.fit(fetched[0])
    assert len(recorded(tmp_path)) == 3 and (tmp_path / "metrics-001.jsonl").exists()


def test_without_a_folder_nothing_is_recorded_but_the_metrics_are_there(fetched, tmp_path):
    trainer, metrics = Trainer(config()), {}
    trainer._compute_metrics(fetched[0], metrics, {}, 2, 0)
    assert metrics["task/ocr_regular/score"] == 0.75 and metrics["timing_s/sv6d_record"] >= 0
    assert "sv6d/unrecorded_rollouts" not in metrics
    assert list(tmp_path.iterdir()) == []


def test_texts_of_some_of_all_or_of_none_are_recorded(fetched, tmp_path):
    for asked, expected in ((1, ["5 6", None, None]), ("all", ["5 6", "5 6 7 8", "9 9 9"]), ("none", [None] * 3)):
        Trainer(config(record_dir=str(tmp_path / str(asked)), record_responses=asked)).fit(fetched[0])
        assert recorded(tmp_path / str(asked))["response"].tolist() == expected
    truths = recorded(tmp_path / "all")["ground_truth"].tolist()
    assert truths == ["56", "56", '[{"start": 0}]']
    assert recorded(tmp_path / "1")["text_at_random"].tolist() == [False, None, None]  # the first is task 1's best
    assert recorded(tmp_path / "all")["text_at_random"].tolist() == [True] * 3


@pytest.mark.parametrize("asked", [True, -1, "some", 2.5])
def test_another_wish_for_texts_is_refused(asked, fetched):
    with pytest.raises(ValueError, match=f"sv6d.record_responses={asked}: give the number"):
        Trainer(config(record_responses=asked))


class Busy(Trainer):
    """Reads the queue on its own thread for as long as the recording thread reads it, as verl's trainer may."""

    def _update_actor(self, batch, metrics):
        result = super()._update_actor(batch, metrics)
        while not self._measuring[-1].done():
            recording.tq.kv_batch_get(keys=batch.keys[:5], partition_id="train", select_fields=["rm_scores"])
        return result


@pytest.mark.slow  # Ray and a TransferQueue: ten seconds to start
def test_on_a_real_transfer_queue_that_the_trainer_reads_at_the_same_time(queue, tmp_path, monkeypatch):
    """Forty rollouts of 1 to 40 tokens: score i / 40, every token's entropy i, two tasks by turns, groups of four."""
    monkeypatch.setattr(recording, "require_plugin", lambda: None)
    count = 40
    keys = [f"{i // 8}{'ab'[i % 2]}_{i}_0" for i in range(count)]
    tasks = [("ocr_regular", "subject")[i % 2] for i in range(count)]
    rewards = [{"reward_extra_info": components(i / count)} for i in range(count)]
    tokens = {
        "rm_scores": [torch.cat([torch.zeros(i), torch.tensor([i / count])]) for i in range(count)],
        "response_mask": [torch.ones(i + 1, dtype=torch.int64) for i in range(count)],
        "entropy": [torch.full((i + 1,), float(i)) for i in range(count)],
        "responses": [torch.full((i + 1,), 7) for i in range(count)],
    }
    tokens |= {name: tokens["entropy"] for name in ("advantages", "rollout_log_probs", "old_log_probs")}
    columns = {"data_source": tasks, "extra_info": [{"id": "p"}] * count, "extra_fields": rewards}
    columns["reward_model"] = [{"ground_truth": task} for task in tasks]
    fields = {name: NonTensorStack.from_list([NonTensorData(v) for v in values]) for name, values in columns.items()}
    fields |= {name: nested_tensor_from_tensor_list(rows) for name, rows in tokens.items()}
    tags = [
        {"prompt_len": 9, "response_len": i + 1, "min_global_steps": 0, "max_global_steps": 0} for i in range(count)
    ]
    queue.kv_batch_put(keys=keys, partition_id="train", tags=tags, fields=TensorDict(fields, batch_size=count))
    trainer = Busy(config(record_dir=str(tmp_path), record_responses=2))
    trainer.fit(KVBatchMeta(partition_id="train", keys=keys, tags=tags))
    queue.kv_clear(keys=keys, partition_id="train")
    written = recorded(tmp_path)
    assert written["score"].tolist() == pytest.approx([i / count for i in range(count)])
    assert written["entropy"].tolist() == written["advantage"].tolist() == list(range(count))
    assert written["task"].tolist() == tasks and written.groupby("group").size().tolist() == [4] * 10
    assert written["truncated"].tolist() == [length >= 4 for length in range(1, count + 1)]
    kept = written[written["response"].notna()]
    assert kept["uid"].tolist() == [keys[1], keys[39]]  # step 1: the worst and the best of the second task
    assert kept["ground_truth"].tolist() == ["subject"] * 2 and kept["response"].tolist()[0] == "7 7"


def test_verl_knows_the_three_trainers():
    names = {"sv6d_sync": "sync", "sv6d_colocate_async": "colocate_async", "sv6d_separate_async": "separate_async"}
    for name, base_mode in names.items():
        cls = get_trainer_cls(name)
        assert issubclass(cls, recording.RecordingTrainer) and issubclass(cls, get_trainer_cls(base_mode))
        assert cls.base_mode == base_mode and cls.__module__ == trainers.__name__


def test_a_plugin_that_loaded_half_does_not_train(monkeypatch):
    monkeypatch.setattr(recording, "PROBLEMS", ["reward manager: ImportError: no"])
    with pytest.raises(RuntimeError, match="did not load whole: reward manager: ImportError: no"):
        recording.require_plugin()
