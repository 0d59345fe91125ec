"""Rows: an example becomes verl's row, survives parquet, moves with its folder, and is checked with errors that teach."""

import shutil

import pyarrow.parquet as pq
import pytest
from sv6d.data_mixers.rows import (
    RL_SCHEMA,
    Example,
    MissingMedia,
    RowError,
    fill_options,
    read_rows,
    resolve_media,
    to_rl_row,
    to_sft_row,
    validate_row,
    write_rows,
)
from sv6d.rewards import families
from sv6d.schema import TASKS, GroundTruthError

OPTIONS = {"fps": 2.0, "min_pixels": 1024, "max_pixels": 4096, "total_pixels": 65536}


def localization(**changes):
    values = {
        "task": "temporal_action_localization",
        "media": ["/media/a.mp4"],
        "query": "a dog jumps",
        "duration": 9.5,
    }
    truth = '{"segments": [{"start": 1.0, "end": 2.5}]}'
    return Example(
        **{**values, "ground_truth": truth, "dataset": "made", "id": "x1", "media_options": OPTIONS, **changes}
    )


def reasoning(**changes):
    values = {
        "media": ["/media/a.png"],
        "query": "How many dogs?",
        "ground_truth": "two",
        "thought": "One, then another.",
    }
    return Example("visual_reasoning", **{**values, **changes})


def test_an_rl_row_is_verls_row():
    row = to_rl_row(localization(), index=7)
    assert row["data_source"] == "temporal_action_localization"
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert row["prompt"][1]["content"].startswith("<video>")
    assert "a dog jumps" in row["prompt"][1]["content"]
    assert row["videos"] == [{"video": "/media/a.mp4", **OPTIONS}]
    assert row["images"] == []
    assert row["reward_model"] == {"style": "rule", "ground_truth": '{"segments": [{"start": 1.0, "end": 2.5}]}'}
    assert row["extra_info"] == {
        "index": 7,
        "id": "x1",
        "dataset": "made",
        "split": "train",
        "duration": 9.5,
        "query": "a dog jumps",
    }


def test_the_kind_of_media_follows_the_file():
    row = to_rl_row(reasoning(media=["/media/a.png", "/media/b.mp4"]), 0)
    assert (row["images"], row["videos"]) == ([{"image": "/media/a.png"}], [{"video": "/media/b.mp4"}])
    assert row["prompt"][1]["content"].startswith("<image><video>")


def test_an_sft_row_adds_the_answer():
    row = to_sft_row(localization(), 0)
    assert row["messages"] == [*row["prompt"], {"role": "assistant", "content": row["reward_model"]["ground_truth"]}]


def test_an_sft_row_of_reasoning_thinks_first():
    answer = to_sft_row(reasoning(), 0)["messages"][-1]["content"]
    assert answer == "<think>One, then another.</think><answer>two</answer>"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (
            lambda: to_rl_row(localization(task="dancing"), 3),
            "x1 of made: task 'dancing' is unknown; the tasks are shot_",
        ),
        (lambda: to_rl_row(localization(query=None), 3), "x1 of made.*query"),
        (lambda: to_rl_row(localization(media_options={"fsp": 2}), 3), "media option 'fsp' is unknown for videos"),
        (lambda: to_rl_row(reasoning(media_options={"fps": 2}), 3), "media option 'fps' is unknown for images"),
        (lambda: to_rl_row(localization(query="after the <image>"), 3), "1 <image> and the row 0 images"),
        (lambda: to_sft_row(reasoning(thought=""), 3), "needs a thought"),
    ],
)
def test_an_example_that_makes_no_row_is_refused_with_the_mend(make, error):
    with pytest.raises(RowError, match=error):
        make()


def test_rows_round_trip(tmp_path):
    rl = [to_rl_row(localization(), 0), to_rl_row(reasoning(), 1)]
    sft = [to_sft_row(localization(), 0), to_sft_row(reasoning(), 1)]
    assert read_rows(write_rows(rl, tmp_path / "rl.parquet")) == rl
    assert read_rows(write_rows(sft, tmp_path / "sft.parquet")) == sft


def test_every_file_has_the_same_columns(tmp_path):
    videos = write_rows([to_rl_row(localization(), 0)], tmp_path / "videos.parquet")
    images = write_rows([to_rl_row(reasoning(), 0)], tmp_path / "images.parquet")
    empty = write_rows([], tmp_path / "empty.parquet")
    assert all(pq.read_schema(path).equals(RL_SCHEMA) for path in (videos, images, empty))


def test_a_data_folder_can_be_moved(tmp_path):
    media = tmp_path / "here" / "media" / "a.mp4"
    media.parent.mkdir(parents=True)
    media.write_bytes(b"")
    path = write_rows([to_rl_row(localization(media=[str(media)]), 0)], tmp_path / "here" / "rl" / "task.parquet")
    assert pq.read_table(path)["videos"].to_pylist()[0][0]["video"] == "../media/a.mp4"
    shutil.move(tmp_path / "here", tmp_path / "there")
    [row] = read_rows(tmp_path / "there" / "rl" / "task.parquet")
    assert row["videos"][0]["video"] == str(tmp_path / "there" / "media" / "a.mp4")


def test_media_elsewhere_keep_their_absolute_path(tmp_path):
    path = write_rows([to_rl_row(localization(media=["/far/a.mp4"]), 0)], tmp_path / "data" / "rl" / "task.parquet")
    assert pq.read_table(path)["videos"].to_pylist()[0][0]["video"] == "/far/a.mp4"


def test_addresses_are_left_alone(tmp_path):
    path = write_rows([to_rl_row(localization(media=["https://host/a.mp4"]), 0)], tmp_path / "task.parquet")
    assert read_rows(path)[0]["videos"][0]["video"] == "https://host/a.mp4"


def test_options_that_are_not_set_are_dropped():
    # parquet gives every row every key of the column
    row = {"videos": [{"video": "a.mp4", "fps": 2.0, "nframes": None}], "images": None}
    assert resolve_media(row, "/data") == {"videos": [{"video": "/data/a.mp4", "fps": 2.0}], "images": []}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_rows([to_rl_row(localization(), 0)], tmp_path / "task.parquet")
    before = path.read_bytes()
    broken = to_rl_row(localization(), 0) | {"extra_info": {"index": "not a number"}}
    with pytest.raises(Exception, match="not a number"):
        write_rows([broken], path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["task.parquet"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.parquet: no such row file"):
        read_rows(tmp_path / "none.parquet")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"data_source": "dancing"}, "data_source 'dancing' is no task"),
        ({"videos": []}, "1 <video> and the row 0 videos"),
        (
            {"reward_model": {"ground_truth": "soon"}},
            r"row 4 \(temporal_action_localization, id 'x1'\): reward_model.ground_",
        ),
        ({"reward_model": {"ground_truth": '{"segments": [{"start": 3, "end": 1}]}'}}, r"segments\[0\].*swap"),
    ],
)
def test_a_broken_row_is_named_with_its_mend(changes, error, tmp_path):
    with pytest.raises(RowError, match=error):
        validate_row(to_rl_row(localization(), 4) | changes, tmp_path)


def test_a_task_of_another_package_has_its_own_check(monkeypatch, tmp_path):
    def validate(truth, taxonomy):
        if not truth.isdecimal():
            raise GroundTruthError("count: write a number")

    monkeypatch.setitem(families._found, "counting", families.Family(reward=None, validate=validate))
    row = {"data_source": "counting", "prompt": [{"role": "user", "content": "How many?"}]}
    validate_row({**row, "reward_model": {"ground_truth": "3"}}, tmp_path)
    with pytest.raises(RowError, match=r"reward_model\.ground_truth: count: write a number"):
        validate_row({**row, "reward_model": {"ground_truth": "three"}}, tmp_path)


def test_missing_media_are_told_apart(tmp_path):
    row = to_rl_row(localization(media=["a.mp4"]), 4)
    with pytest.raises(MissingMedia, match=r"a\.mp4 is missing; restore it or remove the row"):
        validate_row(row, tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"")
    validate_row(row, tmp_path)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_makes_rows(task, tmp_path):
    suffix = {"video": "mp4", "image": "png"}[TASKS[task].media]
    example = Example(task, [f"/media/a.{suffix}"], "[]", query="what?", thought="so.")
    [row] = read_rows(write_rows([to_sft_row(example, 0)], tmp_path / "task.parquet"))
    assert len(row[f"{TASKS[task].media}s"]) == 1


def test_a_video_takes_from_a_recipe_what_its_row_leaves_open_times_and_sizes_each_as_a_whole():
    defaults = {"fps": 4, "max_frames": 768, "min_pixels": 65536, "max_pixels": 262144, "total_pixels": 51_200_000}
    assert fill_options({"video": "a.mp4"}, defaults) == {"video": "a.mp4", **defaults}
    # A rate without a bound on its frames keeps qwen-vl-utils' bound; a cut-out says nothing of rates.
    sizes = {key: defaults[key] for key in ("min_pixels", "max_pixels", "total_pixels")}
    assert fill_options({"video": "a.mp4", "fps": 2.0}, defaults) == {"video": "a.mp4", "fps": 2.0, **sizes}
    cut = {"video": "a.mp4", "video_start": 3.0, "total_pixels": 65536}
    assert fill_options(cut, defaults) == {**cut, "fps": 4, "max_frames": 768}
