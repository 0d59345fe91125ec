"""The recorder: every rollout a row, a part whole or absent, and training that never waits for the disk."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import pyarrow.parquet as pq
import pytest
from sv6d.reports import recorder as module
from sv6d.reports.recorder import QUEUED_STEPS, Recorder, part_name, schema
from sv6d.rewards import COMPONENTS


def row(score=0.5, **fields):
    return {"uid": "a_0_0", "task": "subject", "dataset": "d", "group": "a", "score": score} | fields


def part(directory, step):
    return pd.read_parquet(directory / "rollouts" / part_name(step))


def test_a_step_becomes_a_part_with_one_row_a_rollout(tmp_path):
    with Recorder(tmp_path) as recorder:
        recorder.write([row(0.25, iou=0.5, truncated=True), row(0.75)], step=12)
    frame = pd.read_parquet(tmp_path / "rollouts" / "step-000012.parquet")
    assert frame["score"].tolist() == [0.25, 0.75]
    assert frame["step"].tolist() == [12, 12]
    assert frame["iou"].isna().tolist() == [False, True]


def test_the_columns_are_the_same_whatever_the_rows_hold(tmp_path):
    with Recorder(tmp_path) as recorder:
        recorder.write([row()], step=1)
        recorder.write([row(iou=1.0, failed=1.0, entropy=0.3, response="text")], step=2)
    first, second = (pq.read_schema(tmp_path / "rollouts" / part_name(step)) for step in (1, 2))
    assert first.equals(second)
    assert set(COMPONENTS) <= set(first.names)


def test_a_step_written_again_replaces_its_part(tmp_path):
    for score in (0.1, 0.9):
        with Recorder(tmp_path) as recorder:
            recorder.write([row(score)], step=3)
    assert part(tmp_path, 3)["score"].tolist() == [0.9]


def test_resuming_removes_the_steps_that_will_be_done_again(tmp_path):
    with Recorder(tmp_path) as recorder:
        for step in (1, 2, 3):
            recorder.write([row()], step=step)
    Recorder(tmp_path, resume_step=2).close()
    assert sorted(p.name for p in (tmp_path / "rollouts").iterdir()) == [part_name(1), part_name(2)]


def test_an_unknown_column_is_refused_at_once_and_named(tmp_path):
    with Recorder(tmp_path) as recorder, pytest.raises(ValueError, match=r"step 4: unknown column\(s\) iuo"):
        recorder.write([row(iuo=1.0)], step=4)


def test_a_value_that_does_not_fit_costs_its_step_and_is_counted(tmp_path):
    with Recorder(tmp_path) as recorder:
        recorder.write([row("high"), row()], step=1)
        recorder.write([row()], step=2)
    assert recorder.dropped == 2
    assert json.loads((tmp_path / "dropped.json").read_text())["rows"] == 2
    assert [p.name for p in (tmp_path / "rollouts").iterdir()] == [part_name(2)]


def test_a_full_disk_drops_rows_and_training_goes_on(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with Recorder(tmp_path) as recorder:
        monkeypatch.setattr(module.pq, "write_table", full)
        recorder.write([row()] * 3, step=1)
        assert recorder.flush()
        monkeypatch.undo()
        recorder.write([row()], step=2)
    assert recorder.dropped == 3
    assert "No space left" in recorder.last_error
    assert [p.name for p in (tmp_path / "rollouts").iterdir()] == [part_name(2)]


def test_a_disk_that_hangs_never_stalls_the_training_step(tmp_path, monkeypatch):
    disk = threading.Event()
    monkeypatch.setattr(module.os, "fsync", lambda _: disk.wait(60))
    recorder = Recorder(tmp_path)
    start = time.monotonic()
    steps = QUEUED_STEPS + 10
    for step in range(steps):
        recorder.write([row()], step=step)
    assert time.monotonic() - start < 5
    assert recorder.dropped >= steps - QUEUED_STEPS - 1  # one is being written, QUEUED_STEPS wait, the rest is lost
    assert not recorder.flush(timeout=0.05)
    disk.set()
    recorder.close()
    assert len(list((tmp_path / "rollouts").glob("*.parquet"))) == steps - recorder.dropped


def test_closing_gives_up_on_a_disk_that_hangs_and_counts_what_was_waiting(tmp_path, monkeypatch):
    disk = threading.Event()
    monkeypatch.setattr(module.os, "fsync", lambda _: disk.wait(60))
    recorder = Recorder(tmp_path)
    recorder.write([row()], step=1)
    while not list((tmp_path / "rollouts").glob("*.tmp")):
        time.sleep(0.01)  # until the thread is in the write that hangs
    recorder.write([row(), row()], step=2)
    recorder.close(timeout=0.05)
    assert recorder.dropped == 2
    disk.set()


def test_rows_lost_before_a_resume_stay_counted(tmp_path):
    with Recorder(tmp_path, resume_step=0) as recorder:
        recorder.write([row("high")], step=1)
    with Recorder(tmp_path, resume_step=1) as recorder:
        recorder.write([row("high")] * 2, step=2)
    assert json.loads((tmp_path / "dropped.json").read_text())["rows"] == 3


def test_writing_after_close_is_a_mistake_that_is_named(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.close()
    with pytest.raises(ValueError, match="closed"):
        recorder.write([row()], step=1)


def test_resuming_sets_the_metrics_aside_before_verl_empties_the_file(tmp_path):
    for text in ("one", "two", ""):  # an empty file holds nothing to keep
        (tmp_path / "metrics.jsonl").write_text(text)
        Recorder(tmp_path, resume_step=3).close()
    assert (tmp_path / "metrics-001.jsonl").read_text() == "one"
    assert (tmp_path / "metrics-002.jsonl").read_text() == "two"
    assert not (tmp_path / "metrics-003.jsonl").exists()


def test_a_new_run_in_an_old_folder_does_not_inherit_its_parts_and_metrics(tmp_path):
    with Recorder(tmp_path) as recorder:
        recorder.write([row()], step=9)
    (tmp_path / "metrics-001.jsonl").write_text("old")
    Recorder(tmp_path, resume_step=0).close()
    assert list((tmp_path / "rollouts").iterdir()) == []
    assert not list(tmp_path.glob("metrics-*"))


WRITER = """
import sys
from sv6d.reports.recorder import Recorder
rows = [{"uid": str(i), "task": "subject", "group": "g", "score": 0.5, "response": "x" * 2000} for i in range(2000)]
recorder = Recorder(sys.argv[1])
for step in range(1, 100_000):
    recorder.write(rows, step)
    recorder.flush()
    print(step, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.011, 0.023])
def test_kill_9_leaves_only_whole_parts(tmp_path, delay):
    process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True)
    done = 0
    while done < 3:
        done = int(process.stdout.readline())
    time.sleep(delay)  # three moments of a write; which ones does not matter
    os.kill(process.pid, signal.SIGKILL)
    done += len(process.stdout.read().splitlines())
    process.wait()
    parts = sorted((tmp_path / "rollouts").glob("*.parquet"))
    assert len(parts) >= done
    assert all(pq.read_table(p).num_rows == 2000 for p in parts)
    Recorder(tmp_path, resume_step=2).close()
    assert sorted(p.name for p in (tmp_path / "rollouts").iterdir()) == [part_name(1), part_name(2)]


def test_the_schema_names_the_columns_that_the_docs_promise():
    promised = (
        "step uid task dataset prompt group score response_length truncated entropy version_start version_end advantage "
        "reward_seconds judge_seconds judge_failed response ground_truth"
    )
    assert set(promised.split()) | set(COMPONENTS) == set(schema().names)
