"""Which checkpoints are whole: sealed last, checked byte by byte, and the last good one is never removed."""

import json

import pytest
from sv6d.sft import manifest
from sv6d.sft.manifest import (
    MANIFEST,
    begin,
    faults,
    last_sealed,
    last_whole,
    name_latest,
    noted,
    prune,
    seal,
    steps_saved,
)


class Killed(BaseException):
    """Where kill -9 would have struck."""


def killed(*arguments, **options):
    raise Killed


WEIGHTS, OPTIMIZER = bytes(range(256)) * 40, b"momentum"


def checkpoint(run, step, sealed=True):
    folder = run / f"global_step_{step}"
    (folder / "actor").mkdir(parents=True)
    (folder / "actor" / "model_world_size_1_rank_0.pt").write_bytes(WEIGHTS)
    (folder / "actor" / "optim_world_size_1_rank_0.pt").write_bytes(OPTIMIZER)
    if sealed:
        seal(folder, {"dispatched": False})
    return folder


def truncate(folder):
    (folder / "actor" / "model_world_size_1_rank_0.pt").write_bytes(WEIGHTS[:5000])


def flip_a_bit(folder):
    path = folder / "actor" / "model_world_size_1_rank_0.pt"
    path.write_bytes(WEIGHTS[:-1] + b"\0")


def remove_a_shard(folder):
    (folder / "actor" / "optim_world_size_1_rank_0.pt").unlink()


def cut_the_manifest(folder):
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:-20])


def never_finished(folder):
    (folder / MANIFEST).unlink()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (truncate, "actor/model_world_size_1_rank_0.pt has 5,000 bytes of 10,240"),
        (flip_a_bit, "actor/model_world_size_1_rank_0.pt is not what was saved (its checksum differs)"),
        (remove_a_shard, "actor/optim_world_size_1_rank_0.pt is missing"),
        (cut_the_manifest, "its manifest.json is not readable"),
        (never_finished, "it has no manifest.json: its saving was cut short"),
    ],
)
def test_a_damaged_checkpoint_is_found_and_the_one_before_is_taken(tmp_path, damage, told):
    before, last = checkpoint(tmp_path, 10), checkpoint(tmp_path, 20)
    assert last_whole(tmp_path) == (20, last, [])
    damage(last)
    assert faults(last) == [told]
    assert last_whole(tmp_path) == (10, before, [f"{last} is not whole: {told}"])


def test_steps_are_compared_as_numbers_and_other_folders_are_left_alone(tmp_path):
    checkpoint(tmp_path, 9)
    last = checkpoint(tmp_path, 10)
    (tmp_path / "global_step_11_copy").mkdir()
    assert last_whole(tmp_path).folder == last


def test_a_run_without_a_whole_checkpoint_begins_anew(tmp_path):
    assert last_whole(tmp_path) == (0, None, [])
    cut = checkpoint(tmp_path, 10, sealed=False)
    assert last_whole(tmp_path) == (0, None, [f"{cut} is not whole: it has no manifest.json: its saving was cut short"])


def test_what_the_trainer_notes_is_kept_and_files_are_listed_by_size_and_checksum(tmp_path):
    folder = checkpoint(tmp_path, 10)
    assert noted(folder) == {"dispatched": False}
    files = json.loads((folder / MANIFEST).read_text())["files"]
    # crc32(b"momentum"), as `python -c "import zlib; print(hex(zlib.crc32(b'momentum')))"` gives it
    assert files["actor/optim_world_size_1_rank_0.pt"] == {"bytes": 8, "crc32": "5fc0625c"}
    assert list(files) == sorted(files) and len(files) == 2


def test_verl_is_told_where_to_go_on(tmp_path):
    name_latest(tmp_path, 20)
    assert (tmp_path / "latest_checkpointed_iteration.txt").read_text() == "20"
    name_latest(tmp_path, 0)
    assert not (tmp_path / "latest_checkpointed_iteration.txt").exists()


@pytest.mark.parametrize(("keep", "left"), [(None, [30, 20, 10]), (2, [30, 20]), (1, [30])])
def test_old_checkpoints_go_and_the_last_whole_one_never_does(tmp_path, keep, left):
    for step in (10, 20, 30):
        checkpoint(tmp_path, step)
    prune(tmp_path, keep)
    assert list(steps_saved(tmp_path)) == left
    assert last_sealed(tmp_path) == 30


def test_what_was_cut_short_goes_with_the_old_ones_and_what_is_not_ours_stays(tmp_path):
    checkpoint(tmp_path, 10)
    begin(tmp_path / "global_step_20")
    checkpoint(tmp_path, 5, sealed=False)  # of plain verl
    assert faults(tmp_path / "global_step_20") == ["it has no manifest.json: its saving was cut short"]
    prune(tmp_path, 1)
    assert list(steps_saved(tmp_path)) == [10, 5]


def test_a_damaged_checkpoint_is_not_kept_in_the_place_of_a_whole_one(tmp_path):
    checkpoint(tmp_path, 10)
    truncate(checkpoint(tmp_path, 20))
    told = last_whole(tmp_path).rejected
    assert last_whole(tmp_path).rejected == told  # and the next time the same is told
    assert last_sealed(tmp_path) == 10
    prune(tmp_path, 1)
    assert list(steps_saved(tmp_path)) == [10]


def test_a_killed_seal_leaves_rubbish_that_goes_with_the_next_rotation(tmp_path, monkeypatch):
    """Between the last file and the manifest: 100 GB that nobody would ever remove."""
    checkpoint(tmp_path, 10)
    begin(tmp_path / "global_step_20")
    monkeypatch.setattr(manifest, "_replace", killed)
    with pytest.raises(Killed):
        seal(tmp_path / "global_step_20")
    prune(tmp_path, 1)
    assert list(steps_saved(tmp_path)) == [10]


def test_a_killed_removal_too(tmp_path, monkeypatch):
    for step in (10, 20):
        checkpoint(tmp_path, step)
    with monkeypatch.context() as patched:
        patched.setattr(manifest.shutil, "rmtree", killed)
        with pytest.raises(Killed):
            prune(tmp_path, 1)
    assert last_whole(tmp_path).step == 20
    prune(tmp_path, 2)
    assert list(steps_saved(tmp_path)) == [20]


def test_a_seal_that_was_killed_at_its_very_end_counts(tmp_path):
    folder = checkpoint(tmp_path, 10)
    (folder / manifest.UNFINISHED).touch()
    prune(tmp_path, 1)
    assert last_whole(tmp_path) == (10, folder, [])


@pytest.mark.parametrize(
    ("times", "told"), [(1, []), (9, ["actor/optim_world_size_1_rank_0.pt cannot be read: [Errno 5] Away"])]
)
def test_a_file_system_that_is_away_for_a_moment_damages_nothing(tmp_path, monkeypatch, times, told):
    folder, measure, failures = checkpoint(tmp_path, 10), manifest._measure, iter(range(times))

    def flaky(path):
        if path.name.startswith("optim") and next(failures, None) is not None:
            raise OSError(5, "Away")
        return measure(path)

    monkeypatch.setattr(manifest, "_measure", flaky)
    monkeypatch.setattr(manifest.time, "sleep", lambda seconds: None)
    assert faults(folder) == told


def test_a_checkpoint_begins_empty_and_is_unfinished_until_it_is_sealed(tmp_path):
    folder = checkpoint(tmp_path, 10)
    begin(folder)
    assert last_whole(tmp_path).step == 0
    (folder / "weights").write_bytes(WEIGHTS)
    seal(folder)
    assert last_whole(tmp_path) == (10, folder, [])
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "weights"]
