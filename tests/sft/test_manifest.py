"""Which checkpoints are whole: sealed last, checked byte by byte, and the last good one is never removed."""

import json

import pytest
from sv6d.sft.manifest import MANIFEST, faults, is_sealed, last_sealed, last_whole, name_latest, noted, prune, seal

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


@pytest.mark.parametrize(("keep", "left"), [(None, [10, 20, 30]), (2, [20, 30]), (1, [30])])
def test_old_checkpoints_go_and_the_last_whole_one_never_does(tmp_path, keep, left):
    for step in (10, 20, 30):
        checkpoint(tmp_path, step)
    checkpoint(tmp_path, 40, sealed=False)  # being saved
    prune(tmp_path, keep)
    assert [step for step in (10, 20, 30) if (tmp_path / f"global_step_{step}").exists()] == left
    assert (tmp_path / "global_step_40").exists() and not is_sealed(tmp_path / "global_step_40")
    assert last_sealed(tmp_path) == 30
