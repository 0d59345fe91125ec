"""The recorder: every rollout a row, a part whole or absent, and training that never waits for the disk."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pyarrow.parquet as pq
import pytest
from sv6d.reports import parts
from sv6d.reports.parts import BUNDLED, bundle_oldest, find_parts, part_name
from sv6d.reports.recorder import QUEUED_STEPS, Recorder, read_dropped, schema
from sv6d.reports.runs import load_run
from sv6d.rewards import COMPONENTS


def row(score=0.5, **fields):
    return {"uid": "a_0_0", "task": "subject", "dataset": "d", "group": "a", "score": score} | fields


def steps_in(directory):
    return sorted(load_run(directory).rollouts["step"].tolist())


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


FULL = """
import json, resource, sys
from sv6d.reports.recorder import Recorder
with Recorder(sys.argv[1]) as recorder:
    recorder.write([{"uid": "a"}], step=1)
    recorder.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))  # writes end in an OSError of the kernel
    recorder.write([{"uid": str(i), "response": str(i)} for i in range(5000)], step=2)
    recorder.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    recorder.write([{"uid": "b"}], step=3)
print(recorder.dropped, recorder.last_error)
"""


def test_a_disk_without_room_drops_rows_and_training_goes_on(tmp_path):
    told = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=True).stdout
    assert told.startswith("5000 step 2: OSError: [Errno 27]")
    assert json.loads((tmp_path / "dropped.json").read_text())["rows"] == 5000
    assert steps_in(tmp_path) == [1, 3]
    assert not list((tmp_path / "rollouts").glob("*.tmp"))


def test_the_count_of_lost_rows_is_written_once_there_is_room_again(tmp_path):
    """A disk that is quite full has no room for the count either."""
    with Recorder(tmp_path) as recorder:
        (tmp_path / "dropped.tmp").mkdir()  # in the way of the count, as a full disk is
        recorder.write([row("high")], step=1)
        recorder.flush()
        assert read_dropped(tmp_path)["rows"] == 0
        (tmp_path / "dropped.tmp").rmdir()
        recorder.write([row()], step=2)
    assert read_dropped(tmp_path)["rows"] == 1


class HangingDisk:
    """A FIFO in the place of the file that a step is written to: opening it blocks until someone reads it."""

    def __init__(self, directory, step):
        self.path = (directory / "rollouts" / part_name(step)).with_suffix(".tmp")
        os.mkfifo(self.path)

    def answer(self):
        with open(self.path, "rb") as file:
            file.read()


def test_a_disk_that_hangs_never_stalls_the_training_step(tmp_path):
    recorder = Recorder(tmp_path)
    disk = HangingDisk(tmp_path, step=1)
    steps = QUEUED_STEPS + 10
    for step in range(1, steps + 1):
        recorder.write([row()], step=step)  # returns, or this test never ends
    assert 9 <= recorder.dropped <= 10  # QUEUED_STEPS wait, one is being written or about to be, the rest is lost
    assert not recorder.flush(timeout=0.05)
    disk.answer()
    recorder.close()
    assert recorder.dropped <= 11  # a FIFO is no disk: the step that was written into it is lost, too
    assert len(steps_in(tmp_path)) == steps - recorder.dropped


def test_closing_gives_up_on_a_disk_that_hangs_and_counts_what_was_waiting(tmp_path):
    recorder = Recorder(tmp_path)
    disk = HangingDisk(tmp_path, step=1)
    recorder.write([row()], step=1)
    while recorder._queue.qsize():
        time.sleep(0.01)  # until the thread has taken the step whose write hangs
    recorder.write([row(), row()], step=2)
    recorder.close(timeout=0.05)
    assert recorder.dropped == 2
    disk.answer()


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


def test_metrics_that_were_set_aside_are_never_written_over(tmp_path):
    (tmp_path / "metrics-002.jsonl").write_text("two")  # the first was removed by hand
    (tmp_path / "metrics.jsonl").write_text("three")
    Recorder(tmp_path, resume_step=3).close()
    assert (tmp_path / "metrics-002.jsonl").read_text() == "two"
    assert (tmp_path / "metrics-003.jsonl").read_text() == "three"


def test_a_new_run_in_an_old_folder_does_not_inherit_its_parts_and_metrics_nor_erase_them(tmp_path):
    with Recorder(tmp_path, about={"mixture": {"subject": 3}}) as recorder:
        recorder.write([row()], step=9)
    for name in ("metrics-001.jsonl", "metrics.jsonl"):  # the latter stays where the new run logs elsewhere
        (tmp_path / name).write_text("old")
    Recorder(tmp_path, resume_step=0).close()
    assert list((tmp_path / "rollouts").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"rollouts", "rollouts-001"}
    kept = {path.name for path in (tmp_path / "rollouts-001").iterdir()}
    assert kept == {"step-000009.parquet", "metrics-001.jsonl", "metrics.jsonl", "about.json"}


def test_no_reader_takes_a_run_that_was_set_aside_for_a_part_of_the_new_one(tmp_path):
    """The old one had more steps, and a validation before the first."""
    for steps, resume_step in ((9, None), (2, 0)):
        with Recorder(tmp_path, resume_step=resume_step) as recorder:
            lines = [json.dumps({"step": 0, "data": {"val-core/subject/reward/mean@1": 0.1}})] if steps == 9 else []
            for step in range(1, steps + 1):
                recorder.write([row()], step=step)
                lines.append(json.dumps({"step": step, "data": {"timing_s/step": float(steps)}}))
            (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    run = load_run(tmp_path)
    assert sorted(run.rollouts.step) == list(run.metrics.index) == [1, 2]
    assert run.metrics["timing_s/step"].tolist() == [2.0, 2.0] and list(run.metrics) == ["timing_s/step"]


def test_every_run_that_is_begun_anew_is_kept(tmp_path):
    for step in (1, 2, 3):
        with Recorder(tmp_path, resume_step=0) as recorder:
            recorder.write([row()], step=step)
    parts = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*.parquet"))
    assert parts == [
        "rollouts-001/step-000001.parquet",
        "rollouts-002/step-000002.parquet",
        "rollouts/step-000003.parquet",
    ]


def test_a_run_that_came_to_no_step_leaves_nothing_to_keep(tmp_path):
    Recorder(tmp_path, resume_step=0, about={"mixture": None}).close()
    Recorder(tmp_path, resume_step=0).close()
    assert [path.name for path in tmp_path.iterdir()] == ["rollouts"]


def test_a_count_of_lost_rows_that_cannot_be_read_keeps_nobody_from_training(tmp_path):
    for text in ("", "[]", '{"rows": null}'):
        (tmp_path / "dropped.json").write_text(text)
        Recorder(tmp_path, resume_step=3).close()
        assert read_dropped(tmp_path) == {
            "rows": 0,
            "last": "dropped.json cannot be read: how many rows were lost is not known",
        }


def test_a_table_is_written_as_rows_are(tmp_path):
    rows = [row(0.25, truncated=True, response="x"), row(0.75, iou=0.5)]
    with Recorder(tmp_path / "rows") as recorder:
        recorder.write(rows, step=1)
    with Recorder(tmp_path / "table") as recorder:
        recorder.write(pd.DataFrame(rows), step=1)
    assert part(tmp_path / "rows", 1).equals(part(tmp_path / "table", 1))


# Bundles


def record(directory, steps, score=0.5, **options):
    with Recorder(directory, **options) as recorder:
        for step in steps:
            recorder.write([row(score, uid=f"{step}-0")], step=step)
            recorder.flush()  # a test is faster than the disk
    assert recorder.dropped == 0


def test_a_long_run_stays_few_files(tmp_path):
    record(tmp_path, range(1, 2 * BUNDLED + 11))
    assert [p.path.name for p in find_parts(tmp_path / "rollouts")][:2] == [
        "steps-000001-000050.parquet",
        part_name(51),
    ]
    assert steps_in(tmp_path) == list(range(1, 2 * BUNDLED + 11))


def test_resuming_in_the_middle_of_a_bundle_keeps_the_steps_before(tmp_path):
    record(tmp_path, range(1, 2 * BUNDLED + 1))
    record(tmp_path, [31], resume_step=30)
    assert [p.path.name for p in find_parts(tmp_path / "rollouts")] == ["steps-000001-000030.parquet", part_name(31)]
    assert steps_in(tmp_path) == list(range(1, 32))


def test_a_step_of_a_bundle_that_is_written_again_counts_once_and_anew(tmp_path):
    record(tmp_path, range(1, 2 * BUNDLED + 1))
    record(tmp_path, [7], score=0.9)
    rollouts = load_run(tmp_path).rollouts
    assert rollouts["step"].tolist() == list(range(1, 2 * BUNDLED + 1))
    assert rollouts.loc[rollouts["step"] == 7, "score"].tolist() == [0.9]


def test_a_bundle_that_was_being_cut_when_its_writer_was_killed_counts_once(tmp_path, monkeypatch):
    record(tmp_path, range(1, 2 * BUNDLED + 1))
    for path in (tmp_path / "rollouts").glob("step-*"):
        path.unlink()
    with monkeypatch.context() as killed:
        killed.setattr(parts.Path, "unlink", lambda *_, **__: None)
        parts.cut_after(tmp_path / "rollouts", 30, schema())
    assert len(find_parts(tmp_path / "rollouts")) == 2
    assert steps_in(tmp_path) == list(range(1, 31))
    record(tmp_path, [31], resume_step=30)
    assert [p.path.name for p in find_parts(tmp_path / "rollouts")] == ["steps-000001-000030.parquet", part_name(31)]


def test_a_step_without_rollouts_does_not_keep_others_from_being_bundled(tmp_path):
    with Recorder(tmp_path) as recorder:
        recorder.write([], step=1)
    record(tmp_path, range(2, 2 * BUNDLED + 1))
    assert find_parts(tmp_path / "rollouts")[0].path.name == "steps-000002-000050.parquet"


def test_parts_of_an_older_recorder_are_bundled_with_empty_columns(tmp_path):
    record(tmp_path, range(1, 2 * BUNDLED))
    old = tmp_path / "rollouts" / part_name(1)
    pq.write_table(pq.read_table(old).drop_columns(["judge_failed"]), old)
    record(tmp_path, [2 * BUNDLED])
    bundle = pq.read_table(tmp_path / "rollouts" / "steps-000001-000050.parquet")
    assert bundle.schema.equals(schema()) and bundle["judge_failed"].null_count == BUNDLED


def test_parts_that_cannot_be_bundled_stay_and_nothing_is_lost(tmp_path, monkeypatch, caplog):
    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts, "_merge", broken)
    record(tmp_path, range(1, 2 * BUNDLED + 3))
    assert steps_in(tmp_path) == list(range(1, 2 * BUNDLED + 3))
    assert [r.getMessage() for r in caplog.records] == [
        "recorder: old parts stay single files (OSError: [Errno 28] No space left on device)"
    ]


# kill -9

WRITER = """
import sys
from sv6d.reports import parts
from sv6d.reports.recorder import Recorder
parts.BUNDLED = 3  # so that it is also killed while it bundles
rows = [{"uid": str(i), "task": "subject", "group": "g", "score": 0.5, "response": f"{i} " * 100} for i in range(500)]
recorder = Recorder(sys.argv[1], resume_step=int(sys.argv[2]))
for step in range(int(sys.argv[2]) + 1, 100_000):
    recorder.write(rows, step)
    recorder.flush()
    print(step, flush=True)
"""


def test_killed_at_any_moment_it_leaves_every_finished_step_whole(tmp_path):
    """A process is killed (SIGKILL) and resumed eight times, each after a random time; every step it said was written is there."""
    moments = random.Random(0)
    done = 0
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path, str(done)], stdout=subprocess.PIPE, text=True
        )
        goal = done + moments.randint(1, 12)
        while done < goal:
            done = int(process.stdout.readline())
        time.sleep(moments.uniform(0.0, 0.02))
        os.kill(process.pid, signal.SIGKILL)
        done += len(process.stdout.read().splitlines())
        process.wait()
        run = load_run(tmp_path)
        written = run.rollouts["step"].value_counts()
        assert not [m for m in run.missing if "rollouts/" in m and "cannot be read" in m]
        assert set(written) == {500} and set(range(1, done + 1)) <= set(written.index) <= set(range(1, done + 2))


def test_a_bundle_whose_parts_could_not_be_removed_counts_once(tmp_path, monkeypatch):
    """What a process leaves that is killed between making a bundle and removing its parts."""
    record(tmp_path, range(1, 2 * BUNDLED))
    with monkeypatch.context() as killed:
        killed.setattr(parts.Path, "unlink", lambda *_, **__: None)
        record(tmp_path, [2 * BUNDLED])
    assert len(find_parts(tmp_path / "rollouts")) == 2 * BUNDLED + 1
    assert steps_in(tmp_path) == list(range(1, 2 * BUNDLED + 1))
    assert not bundle_oldest(tmp_path / "rollouts", schema())  # parts beside their bundle are not bundled again


def test_the_schema_names_the_columns_that_the_docs_promise():
    promised = (
        "step uid task dataset prompt group score response_length truncated entropy kl version_start version_end "
        "advantage reward_seconds judge_seconds judge_failed response ground_truth text_at_random"
    )
    assert set(promised.split()) | set(COMPONENTS) == set(schema().names)


def test_rows_that_were_lost_on_their_way_are_counted_with_the_disk_s(tmp_path):
    with Recorder(tmp_path) as recorder:
        recorder.lose(1, 3, "not measured")
        recorder.flush()
        assert read_dropped(tmp_path) == {"rows": 3, "last": "step 1: not measured"}
        recorder.write([row()], step=2)
    assert recorder.dropped == 3 and steps_in(tmp_path) == [2]
