"""The list of rows that could not be used, on disks that fail and after processes that died."""

import errno
import json
import logging
from pathlib import Path

import pytest
from sv6d.data_mixers.skipped import SkippedRows, read_skipped

ROW = {"extra_info": {"id": "clip-7"}}


def test_a_row_is_listed_once_and_counted(tmp_path):
    skipped = SkippedRows(tmp_path)
    for _ in range(2):
        skipped.add(("subject", 7), ROW, "it is empty")
    assert read_skipped(tmp_path / "skipped_rows.jsonl") == [
        {"task": "subject", "index": 7, "id": "clip-7", "error": "it is empty"}
    ]
    assert skipped.count() == 1


def test_rows_of_all_processes_count_once_each(tmp_path):
    one, other = SkippedRows(tmp_path), SkippedRows(tmp_path)
    one.add(("subject", 7), ROW, "it is empty")
    other.add(("subject", 7), ROW, "it is empty")
    other.add(("subject", 8), ROW, "it is empty")
    assert one.count() == other.count() == 2


@pytest.mark.parametrize("cut", ['{"task": "sub', '{"task": "subject"}', "7", "", "\xff"])
def test_a_line_that_is_not_whole_is_passed_over(tmp_path, cut):
    whole = {"task": "subject", "index": 7}
    path = tmp_path / "skipped_rows.jsonl"
    path.write_bytes(f"{json.dumps(whole)}\n{cut}\n{json.dumps(whole)}\n{cut}".encode("latin-1"))
    assert read_skipped(path) == [whole, whole]
    assert SkippedRows(tmp_path).count() == 1


def test_no_list_lists_nothing(tmp_path):
    assert read_skipped(tmp_path / "skipped_rows.jsonl") == []


def test_a_full_disk_costs_the_line_and_not_the_step(tmp_path, monkeypatch, caplog):
    skipped = SkippedRows(tmp_path)
    with monkeypatch.context() as full, caplog.at_level(logging.WARNING):
        full.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        skipped.add(("subject", 7), ROW, "it is empty")
    assert "skipped row 7 of subject" in caplog.text
    assert "row 7 of subject is not in" in caplog.text and "No space left" in caplog.text
    assert skipped.count() == 1 and ("subject", 7) in skipped
