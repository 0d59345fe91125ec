"""The trainers: a row a rollout, metrics by task and component, and no start with a broken plug-in."""

import threading
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from recorded_batch import Columns, batch, components
from sv6d.data_mixers import Mixture
from sv6d.reports.recorder import ABOUT, read_dropped
from sv6d.verl_plugin import trainers
from sv6d.verl_plugin.recording import trainer as recording
from tensordict import NonTensorData, NonTensorStack, TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import get_trainer_cls
from verl.utils.tensordict_utils import nested_tensor_from_tensor_list


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
            "actor_rollout_ref": {
                "model": {"path": "/nowhere"},
                "rollout": {"calculate_log_probs": True, "max_model_len": None},
            },
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


@pytest.mark.parametrize(("stated", "truncated"), [(8, False), (7, True)])
def test_an_answer_with_its_end_at_the_limit_is_not_truncated(fetched, tmp_path, monkeypatch, stated, truncated):
    """The second has 4 tokens, the last is 8; the model ends answers with it, the tokenizer does not name it."""
    (tmp_path / "generation_config.json").write_text(f'{{"eos_token_id": [{stated}]}}')
    monkeypatch.setattr(Base.tokenizer, "eos_token_id", 3)
    settings = config(record_dir=str(tmp_path / "run"))
    settings.actor_rollout_ref.model.path = str(tmp_path)
    Trainer(settings).fit(fetched[0])
    assert recorded(tmp_path / "run")["truncated"].tolist() == [False, truncated, False]


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


def test_what_cannot_be_measured_costs_its_rows_and_not_the_run(fetched, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(recording.tq, "kv_batch_get", lambda **_: 1 / 0)
    trainer, metrics = Trainer(config(record_dir=str(tmp_path))), {}
    monkeypatch.setattr(Base, "fit", lambda self, meta: self._compute_metrics(meta, metrics, {}, 1, 0))
    trainer.fit(fetched[0])
    told = {
        name: metrics[f"sv6d/{name}"] for name in ("unmeasured_rollouts", "unrecorded_rollouts", "padded_sequences")
    }
    assert told == {"unmeasured_rollouts": 3, "unrecorded_rollouts": 3, "padded_sequences": 1}
    assert "step 1: 3 rollouts could not be measured" in caplog.text and "ZeroDivisionError" in caplog.text
    lost = {"rows": 3, "last": "step 1: not measured: ZeroDivisionError: division by zero"}
    assert read_dropped(tmp_path) == lost and list((tmp_path / "rollouts").iterdir()) == []


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
