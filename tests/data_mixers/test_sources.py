"""Row files on their way into training: which formats there are, and which rows stop a run and which are skipped."""

import json
import logging
from pathlib import Path

import datasets
import pytest
import sv6d.schema
from sv6d.data_mixers.rows import MissingMedia, RowError, read_rows, write_rows
from sv6d.data_mixers.sources import examine_rows, load_rows, row_files
from sv6d.schema import Taxonomy


def test_a_folder_stands_for_its_files(data):
    both = [str(data / "rl" / "ocr_regular.parquet"), str(data / "rl" / "subject.parquet")]
    assert row_files(str(data / "rl")) == both
    assert row_files(both[::-1]) == both[::-1]
    assert row_files([data / "rl", both[0]]) == [*both, both[0]]


def test_what_lies_beside_rows_is_no_row_file(data):
    both = row_files(data / "rl")
    for name in ("x.bad.jsonl", "qa-00000.rejected.jsonl", "qa-00000.phrasings.jsonl", "captions.replies.jsonl"):
        (data / "rl" / name).write_text('{"reason": "x"}\n')
    (data / "rl" / "more").mkdir()
    write_rows(read_rows(both[0]), data / "rl" / "more" / "ocr.parquet")
    assert row_files(data / "rl") == both
    assert row_files(data / "rl", deep=True) == sorted([*both, str(data / "rl" / "more" / "ocr.parquet")])


def test_files_that_are_not_there_are_named(data):
    with pytest.raises(FileNotFoundError, match=r"none\.parquet does not exist"):
        row_files(str(data / "none.parquet"))
    with pytest.raises(FileNotFoundError, match=r"media holds no \.parquet or \.jsonl file and no saved dataset"):
        row_files(str(data / "media"))


def test_all_rows_are_read_with_absolute_media(data):
    rows = load_rows(row_files(data / "rl"))
    assert [row["extra_info"]["id"] for row in rows] == ["a", "b", "a", "b", "c"]
    assert rows[-1]["videos"][0]["video"] == str(data / "media" / "c.mp4")


def test_files_without_rows_are_named(tmp_path):
    with pytest.raises(RowError, match=r"hold no row: .*empty\.parquet"):
        load_rows([write_rows([], tmp_path / "empty.parquet")])


@pytest.mark.parametrize("kind", ["jsonl", "saved"])
def test_a_row_file_may_have_another_format(data, kind):
    """The same rows, relative media paths included, as lines of JSON or as a folder that `datasets` saved."""
    parquet = data / "rl" / "subject.parquet"
    expected, stored = read_rows(parquet), datasets.Dataset.from_parquet(str(parquet), cache_dir=str(data / "cache"))
    if kind == "saved":
        other = data / "rl" / "subject"
        stored.save_to_disk(str(other))
    else:
        other = data / "rl" / "subject.jsonl"
        other.write_text("".join(json.dumps(row) + "\n" for row in stored))
    assert read_rows(other) == expected
    parquet.unlink()
    assert row_files(data / "rl") == sorted([str(data / "rl" / "ocr_regular.parquet"), str(other)])


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "subject.jsonl"
    path.write_text('{"data_source": "subject"}\n\n{"data_sou\n')
    with pytest.raises(RowError, match=r"subject\.jsonl, line 3: is not JSON"):
        read_rows(path)
    path.write_text('{"data_source": ["subject"]}\n')
    with pytest.raises(RowError, match=r"subject\.jsonl: a row does not have the row format's columns"):
        read_rows(path)


def test_a_folder_that_is_no_saved_dataset_is_named(tmp_path):
    with pytest.raises(RowError, match=r"has no dataset_info\.json"):
        read_rows(tmp_path)


def spoil(path, row, truth="soon"):
    rows = read_rows(path)
    rows[row]["reward_model"]["ground_truth"] = truth
    write_rows(rows, path)


def test_broken_rows_are_listed_with_file_and_row(data):
    spoil(data / "rl" / "subject.parquet", 1)
    with pytest.raises(RowError, match=r"1 of 5 rows are broken:\n.*subject\.parquet: row 1 \(subject, id 'b'\)"):
        load_rows(row_files(data / "rl"))


def test_a_few_broken_rows_are_told_and_left_to_be_skipped(data, caplog):
    path = data / "rl" / "subject.parquet"
    rows = read_rows(path)
    write_rows(rows * 4, path)
    spoil(path, 7)
    with caplog.at_level(logging.WARNING):
        loaded = examine_rows(row_files(data / "rl"))
    assert len(loaded.rows) == 2 + 12
    assert list(loaded.broken) == [2 + 7]  # the files come in name order: two rows of ocr_regular first
    assert "subject.parquet: row 1 (subject, id 'b'): reward_model.ground_truth" in loaded.broken[9]
    assert "1 of 12 rows of subject are broken" in caplog.text


def test_many_broken_rows_stop_the_run(data):
    spoil(data / "rl" / "subject.parquet", 1)
    with pytest.raises(RowError, match=r"1 of 3 rows of subject are broken; mend or remove them\n.*id 'b'"):
        examine_rows(row_files(data / "rl"))


def test_a_row_of_no_task_stops_the_run(data):
    path = data / "rl" / "subject.parquet"
    rows = read_rows(path) * 4
    rows[3] = {**rows[3], "data_source": "subjekt"}
    write_rows(rows, path)
    with pytest.raises(RowError, match=r"1 of 12 rows are broken:\n.*data_source 'subjekt' is no task"):
        examine_rows([path])


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
