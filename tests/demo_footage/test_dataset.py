"""The dataset on disk: determined by its seed, complete or not there, and read by the real decoder as it was made."""

import json
import os

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sv6d.data_mixers import media
from sv6d.data_mixers.rows import Example, read_rows, to_rl_row, validate_row, write_rows
from sv6d.recipes.data import command, find_bad_rows
from sv6d.recipes.demo import dataset, footage
from sv6d.recipes.demo.dataset import DatasetError, make_item, read_manifest, write_dataset, write_film
from sv6d.recipes.demo.makers import COUNT, FPS, MAKERS, SIZE

COUNTS = {"per_task": 2, "sft_per_task": 1, "heldout_per_task": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "data"
    write_dataset(folder, seed=3, **COUNTS)
    return folder


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_each_task_has_rows_of_each_kind_that_validate(made):
    for part, count in (("rl", 2), ("sft", 1), ("heldout", 1)):
        for task in MAKERS:
            rows = read_rows(made / part / f"{task}.parquet")
            assert [row["data_source"] for row in rows] == [task] * count
            for row in rows:
                validate_row(row, made / part)
                assert row["extra_info"]["split"] == ("heldout" if part == "heldout" else "train")


def test_the_answer_that_the_warm_start_learns_ends_in_the_ground_truth(made):
    for task in MAKERS:
        (row,) = read_rows(made / "sft" / f"{task}.parquet")
        truth, answer = row["reward_model"]["ground_truth"], row["messages"][-1]["content"]
        assert answer == truth or (task == "visual_reasoning" and answer.endswith(f"</think><answer>{truth}</answer>"))


def test_the_same_seed_writes_the_same_bytes_and_another_seed_does_not(made, tmp_path):
    write_dataset(tmp_path / "again", seed=3, **COUNTS)
    assert files_of(tmp_path / "again") == files_of(made)
    assert (
        make_item("ocr_regular", "rl", 0, seed=3).ground_truth != make_item("ocr_regular", "rl", 0, seed=4).ground_truth
    )


def test_an_item_depends_on_its_own_number_alone():
    alone = make_item("camera_movement", "rl", 7, seed=1)
    for index in range(3):
        make_item("camera_movement", "rl", index, seed=1)
    again = make_item("camera_movement", "rl", 7, seed=1)
    assert alone.ground_truth == again.ground_truth and (alone.pixels == again.pixels).all()


def test_the_parts_hold_different_items():
    truths = [make_item("ocr_handwritten", part, 0, seed=1).ground_truth for part in ("rl", "sft", "heldout")]
    assert len(set(truths)) == 3


def test_asking_again_for_the_same_dataset_does_nothing(made, monkeypatch):
    monkeypatch.setattr(dataset, "write_task", None)  # would raise if called
    assert write_dataset(made, seed=3, **COUNTS) == read_manifest(made)


def test_another_dataset_is_never_written_over(made):
    with pytest.raises(DatasetError, match=r"holds another dataset.*seed.*3.*remove the folder"):
        write_dataset(made, seed=4, **COUNTS)


def test_an_interrupted_dataset_is_not_complete_and_is_completed_by_the_next_call(made, tmp_path, monkeypatch):
    write_task, done = dataset.write_task, []

    def interrupted(task, *arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(write_task(task, *arguments))

    monkeypatch.setattr(dataset, "write_task", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path, seed=3, **COUNTS)
    assert read_manifest(tmp_path) is None
    monkeypatch.setattr(dataset, "write_task", write_task)
    write_dataset(tmp_path, seed=3, **COUNTS)
    assert files_of(tmp_path) == files_of(made)


def test_two_processes_write_what_one_writes(made, tmp_path):
    write_dataset(tmp_path, seed=3, workers=2, **COUNTS)
    assert files_of(tmp_path) == files_of(made)


def test_the_manifest_says_what_was_made_and_from_what(made):
    manifest = json.loads((made / "dataset.json").read_text())
    assert manifest["rows"] == 13 * 4 and manifest["seed"] == 3
    assert manifest["tasks"]["cut_point_detection"] == ["editing.transition_type"]
    assert manifest["sources"]["heldout"]["photos"] == list(footage.PHOTOS["heldout"])


def film(path):
    """All frames of a film, as our dataset's decoder gives them."""
    frames, _ = media.read_frames(str(path), [i / FPS for i in range(COUNT)], SIZE, SIZE)
    return frames


# ---- films survive the file ------------------------------------------------------------------------------------------------
def test_the_real_decoder_gives_back_every_frame_of_a_film(tmp_path):
    item = make_item("cut_point_detection", "rl", 0, seed=0)
    write_film(item.pixels, tmp_path / "film.mp4")
    found = media.probe(str(tmp_path / "film.mp4"), "video")
    assert (found.frames, found.fps) == (COUNT, FPS)
    decoded = film(tmp_path / "film.mp4").astype(float)
    assert np.abs(decoded - item.pixels).mean((1, 2, 3)).max() < 8


def test_a_cut_is_frame_exact_and_colours_survive(tmp_path):
    frames = np.zeros((COUNT, SIZE, SIZE, 3), np.uint8)
    frames[:12], frames[12:] = (200, 40, 40), (40, 40, 200)
    write_film(frames, tmp_path / "film.mp4")
    assert np.abs(film(tmp_path / "film.mp4").astype(int) - frames).max() <= 6


def test_at_two_frames_a_second_the_model_sees_one_frame_of_every_half_second_at_64_pixels(made):
    from sv6d.data_mixers.clips import fetch

    (row, _) = read_rows(made / "rl" / "shot_framing.parquet")
    video, about = fetch(row["videos"][0], patch=16)
    assert video.shape == (8, 3, 64, 64)
    assert [index // 4 for index in about["frames_indices"]] == list(range(8))  # 4 frames make half a second
    assert about["fps"] == FPS


def test_stills_keep_their_size_in_the_real_pipeline(made):
    from qwen_vl_utils import fetch_image

    (row, _) = read_rows(made / "rl" / "ocr_regular.parquet")
    assert fetch_image(row["images"][0], image_patch_size=16).size == (128, 32)


# ---- the command ---------------------------------------------------------------------------------------------------------
def test_the_command_checks_a_good_folder(made):
    result = CliRunner().invoke(command, ["validate", str(made)])
    assert result.exit_code == 0, result.output
    assert "52 rows in 39 files, 0 bad" in result.output


def test_the_command_lists_bad_rows_with_file_row_and_reason(tmp_path):
    write_dataset(tmp_path, seed=3, **COUNTS)
    (tmp_path / "media" / "rl" / "subject" / "00000.mp4").write_bytes(b"not a film")
    (tmp_path / "media" / "rl" / "subject" / "00001.mp4").unlink()
    (tmp_path / "rl" / "broken.parquet").write_bytes(b"no parquet")
    result = CliRunner().invoke(command, ["validate", str(tmp_path)])
    assert result.exit_code == 1
    assert "subject.parquet: row 0: " in result.output and "does not decode" in result.output
    assert "subject.parquet: row 1: " in result.output and "is missing" in result.output
    assert "broken.parquet: cannot be read as rows" in result.output
    assert "3 bad" in result.output


def test_validate_gives_up_a_file_that_hangs_its_decoder_and_knows_folders_of_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(media, "DECODE_SECONDS", 0.5)
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(2):
        Image.new("RGB", (32, 32)).save(folder / f"{i}.png")
    os.mkfifo(tmp_path / "hanging.mp4")
    rows = [
        to_rl_row(Example("cut_point_detection", [str(path)], '{"segments": []}', id=path.name), index)
        for index, path in enumerate((folder, tmp_path / "hanging.mp4"))
    ]
    found, bad = find_bad_rows(write_rows(rows, tmp_path / "rl" / "rows.parquet"))
    assert found == 2
    assert len(bad) == 1 and "row 1" in bad[0] and "hangs its decoder" in bad[0]


def test_a_folder_without_rows_is_an_error(tmp_path):
    result = CliRunner().invoke(command, ["validate", str(tmp_path)])
    assert result.exit_code == 1 and "holds no parquet file" in result.output


def test_a_missing_package_ends_in_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(footage.PACKAGES, "no_such_package", "no-such-package")
    with pytest.raises(
        footage.MissingFootage, match=r"no-such-package, which is not installed: pip install 'sv6d\[demo\]'"
    ):
        footage.package_file("no_such_package", "data.mp4")
