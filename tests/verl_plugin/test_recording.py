"""The trainers: a row a rollout, metrics by task and component, and no start with a broken plug-in."""

import math
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from sv6d.data_mixers import Mixture
from sv6d.rewards import COMPONENTS
from sv6d.verl_plugin import recording, trainers
from verl.trainer.ppo.v1 import get_trainer_cls

NAN = math.nan


def components(score, **known):
    return {name: known.get(name, NAN) for name in COMPONENTS} | {"score": score}


def batch():
    """Three rollouts of two prompts: two of the group `a` (OCR), one of `b` (a cut task)."""
    keys = ["a_0_0", "a_1_0", "b_0_0"]
    tags = [
        {"response_len": 2, "min_global_steps": 3, "max_global_steps": 3},
        {"response_len": 4, "min_global_steps": 3, "max_global_steps": 4},
        {"response_len": 3, "min_global_steps": 2, "max_global_steps": 4},
    ]
    data = {
        "data_source": ["ocr_regular", "ocr_regular", "cut_point_detection"],
        "extra_info": [{"dataset": "demo"}, {"dataset": "demo"}, {}],
        "extra_fields": [
            {"reward_extra_info": components(1.0, similarity=1.0, failed=0.0)},
            {"reward_extra_info": components(0.5, similarity=0.5, failed=0.0)},
            {"reward_extra_info": components(0.25, iou=0.5, label=0.0, format=1.0, failed=0.0)},
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
        "responses": torch.tensor([[5, 6, 0, 0], [5, 6, 7, 8], [9, 9, 9, 0]]),
    }
    return keys, tags, Columns(data)


class Columns(dict):
    """A TransferQueue batch: columns that are asked for by name."""


def rows(**options):
    keys, tags, data = batch()
    return recording.rollout_rows(keys, tags, data, step=5, limit=4, **options)


def test_a_row_has_what_the_recorder_takes():
    from sv6d.reports.recorder import schema

    first = rows(decode=lambda ids: str(ids.tolist()))[0]
    assert set(first) == set(schema().names)


def test_values_of_a_row():
    first, second, third = rows()
    assert (first["uid"], first["group"], first["task"], first["dataset"]) == ("a_0_0", "a", "ocr_regular", "demo")
    assert (first["score"], first["similarity"], first["advantage"], first["entropy"]) == (1.0, 1.0, 1.0, 2.0)
    assert math.isnan(first["iou"]) and third["iou"] == 0.5
    assert (third["dataset"], third["version_start"], third["version_end"]) == ("", 2, 4)
    assert [row["response_length"] for row in (first, second, third)] == [2, 4, 3]
    assert [row["truncated"] for row in (first, second, third)] == [False, True, False]  # four tokens are the limit
    assert "response" not in first


def test_entropy_is_null_where_nobody_computed_it():
    keys, tags, data = batch()
    del data["entropy"]
    assert recording.rollout_rows(keys, tags, data, step=5, limit=4)[0]["entropy"] is None


def test_metrics_by_task():
    metrics = recording.task_metrics(rows())
    assert metrics["task/ocr_regular/score"] == 0.75  # (1 + .5) / 2
    assert metrics["task/ocr_regular/entropy"] == 1.5
    assert metrics["task/ocr_regular/truncated"] == 0.5
    assert metrics["task/cut_point_detection/iou"] == 0.5
    assert "task/ocr_regular/iou" not in metrics  # does not apply to the family
    assert metrics["task/ocr_regular/groups"] == metrics["task/cut_point_detection/groups"] == 1
    # one group has two different scores, the other a single one: nothing to learn from it
    assert metrics["task/ocr_regular/groups_without_signal"] == 0
    assert metrics["task/cut_point_detection/groups_without_signal"] == 1
    assert all(isinstance(value, float | int) and not math.isnan(value) for value in metrics.values())


def test_rollout_and_actor_are_compared_where_the_present_policy_wrote():
    _, tags, data = batch()
    assert recording.fresh_difference(tags, data, step=3) == pytest.approx(0.25)  # the third began at version 2
    assert recording.fresh_difference(tags, data, step=4) == 0.0  # padding behind the responses does not count
    assert recording.fresh_difference(tags, data, step=9) is None


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

    def fit(self, agent_loop_manager):
        self._compute_metrics(agent_loop_manager, {}, {}, 1, 0)

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
            "actor_rollout_ref": {"rollout": {"calculate_log_probs": True}},
        }
    )


@pytest.fixture
def queue(monkeypatch):
    """TransferQueue with the batch above and one padding row; remembers which fields were fetched."""
    keys, tags, data = batch()
    asked = []

    def kv_batch_get(keys, partition_id, select_fields):
        asked.append((list(keys), partition_id, list(select_fields)))
        return Columns({name: data[name] for name in select_fields})

    monkeypatch.setattr(recording.tq, "kv_batch_get", kv_batch_get)
    monkeypatch.setattr(recording, "require_plugin", lambda: None)
    meta = SimpleNamespace(
        keys=[*keys, "b_0_0_pad"], tags=[*tags, {**tags[0], "is_padding": True}], partition_id="train"
    )
    return meta, asked


def test_verl_sees_the_mode_that_it_knows(queue):
    assert Trainer(config()).mode_seen == "colocate_async"


def test_a_step_is_recorded_without_its_padding_and_fetched_once(queue, tmp_path):
    import pandas as pd
    from sv6d.reports.recorder import ABOUT

    meta, asked = queue
    Trainer(config(record_dir=str(tmp_path))).fit(meta)
    (part,) = (tmp_path / "rollouts").glob("*.parquet")
    written = pd.read_parquet(part)
    assert list(written["uid"]) == ["a_0_0", "a_1_0", "b_0_0"] and set(written["step"]) == {1}
    assert written["response"].isna().all()
    assert len(asked) == 1 and "responses" not in asked[0][2]
    assert '"ocr_regular": 2' in (tmp_path / ABOUT).read_text()


def test_without_a_folder_nothing_is_recorded_but_the_metrics_are_there(queue, tmp_path):
    meta, _ = queue
    trainer, metrics = Trainer(config()), {}
    trainer.fit(meta)
    trainer._compute_metrics(meta, metrics, {}, 2, 0)
    assert metrics["task/ocr_regular/score"] == 0.75 and metrics["timing_s/sv6d_record"] >= 0
    assert metrics["sv6d/padded_sequences"] == 1
    assert list(tmp_path.iterdir()) == []


def test_the_text_is_recorded_when_asked_for(queue, tmp_path):
    import pandas as pd

    trainer = Trainer(config(record_dir=str(tmp_path), record_responses=True))
    trainer.tokenizer = SimpleNamespace(decode=lambda ids, skip_special_tokens: f"{len(ids)} tokens")
    trainer.fit(queue[0])
    (part,) = (tmp_path / "rollouts").glob("*.parquet")
    assert set(pd.read_parquet(part)["response"]) == {"4 tokens"}


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
