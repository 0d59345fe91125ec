"""Row files on their way into training: broken rows stop the run with their place, a few missing media do not."""

import logging
from pathlib import Path

import pytest
import sv6d.schema
from sv6d.data_mixers.rows import MissingMedia, RowError, read_rows, write_rows
from sv6d.data_mixers.sources import load_rows, row_files
from sv6d.schema import Taxonomy


def test_a_folder_stands_for_its_files(data):
    both = [str(data / "rl" / "ocr_regular.parquet"), str(data / "rl" / "subject.parquet")]
    assert row_files(str(data / "rl")) == both
    assert row_files(both[::-1]) == both[::-1]
    assert row_files([data / "rl", both[0]]) == [*both, both[0]]


def test_files_that_are_not_there_are_named(data):
    with pytest.raises(FileNotFoundError, match=r"none\.parquet does not exist"):
        row_files(str(data / "none.parquet"))
    with pytest.raises(FileNotFoundError, match=r"media holds no \.parquet file"):
        row_files(str(data / "media"))


def test_all_rows_are_read_with_absolute_media(data):
    rows = load_rows(row_files(data / "rl"))
    assert [row["extra_info"]["id"] for row in rows] == ["a", "b", "a", "b", "c"]
    assert rows[-1]["videos"][0]["video"] == str(data / "media" / "c.mp4")


def test_files_without_rows_are_named(tmp_path):
    with pytest.raises(RowError, match=r"hold no row: .*empty\.parquet"):
        load_rows([write_rows([], tmp_path / "empty.parquet")])


def test_broken_rows_are_listed_with_file_and_row(data):
    path = data / "rl" / "subject.parquet"
    rows = read_rows(path)
    rows[1]["reward_model"]["ground_truth"] = "soon"
    write_rows(rows, path)
    with pytest.raises(RowError, match=r"1 of 5 rows are broken:\n.*subject\.parquet: row 1 \(subject, id 'b'\)"):
        load_rows(row_files(data / "rl"))


def test_a_lost_media_folder_is_one_error(data):
    for name in "abc":
        (data / "media" / f"{name}.mp4").unlink()
    with pytest.raises(MissingMedia, match="3 of 3 rows of subject lack their media; was the media folder moved"):
        load_rows(row_files(data / "rl"))


def test_a_few_lost_media_are_only_told(data, caplog):
    path = data / "rl" / "subject.parquet"
    rows = read_rows(path)
    write_rows(rows[:1] * 9 + rows[2:], path)
    (data / "media" / "c.mp4").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(load_rows([path])) == 10
    assert "1 of 10 rows of subject lack their media; they will be skipped" in caplog.text


def test_ground_truths_may_follow_another_taxonomy(data, tmp_path):
    packaged = (Path(sv6d.schema.__file__).parent / "taxonomy.yaml").read_text()
    path = tmp_path / "own.yaml"
    path.write_text(packaged.replace("single-person", "one-person"))
    with pytest.raises(RowError, match=r"3 of 5 rows are broken:\n.*single-person"):
        load_rows(row_files(data / "rl"), Taxonomy.load(path))
