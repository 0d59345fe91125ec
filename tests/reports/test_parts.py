"""The files of recorded rollouts: however steps are written, bundled and cut, each step reads as it was written last."""

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from sv6d.reports import parts
from sv6d.reports.parts import Part, bundle_oldest, cut_after, find_parts, part_name, part_of, write_whole
from sv6d.reports.readers import recorded

SCHEMA = pa.schema([("step", pa.int64()), ("uid", pa.string()), ("score", pa.float64())])


def write(folder, step, score):
    table = pa.table({"step": [step] * 2, "uid": [f"{step}-0", f"{step}-1"], "score": [score, score]}, schema=SCHEMA)
    write_whole(folder / part_name(step), lambda file: pq.write_table(table, file))


def read(run):
    return recorded.read([part.path for part in find_parts(run / "rollouts")])


@given(st.lists(st.one_of(st.integers(1, 9), st.tuples(st.just("cut"), st.integers(0, 9))), max_size=30))
@settings(max_examples=60, deadline=None)
def test_whatever_is_written_bundled_and_cut_the_last_word_on_each_step_is_read(done):
    """A number writes that step, with the next score; after each, parts are bundled by two; a cut drops later steps."""
    expected: dict[int, float] = {}
    bundled, parts.BUNDLED = parts.BUNDLED, 2
    try:
        with tempfile.TemporaryDirectory() as run:
            folder = Path(run) / "rollouts"
            folder.mkdir()
            for score, what in enumerate(done):
                if isinstance(what, int):
                    write(folder, what, float(score))
                    expected[what] = float(score)
                    bundle_oldest(folder, SCHEMA)
                else:
                    cut_after(folder, what[1], SCHEMA)
                    expected = {step: value for step, value in expected.items() if step <= what[1]}
            found = read(Path(run)).rollouts if expected else None
            rows = [] if found is None else list(zip(found["step"], found["score"], strict=True))
            assert rows == [(step, expected[step]) for step in sorted(expected) for _ in range(2)]
    finally:
        parts.BUNDLED = bundled


def test_bundles_around_each_other_are_read_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "BUNDLED", 2)
    folder = tmp_path / "rollouts"
    folder.mkdir()
    for step in (3, 4, 5, 6, 1, 7):
        write(folder, step, 0.5)
        bundle_oldest(folder, SCHEMA)
    assert [p.path.name for p in find_parts(folder) if p.bundled] == [
        "steps-000001-000005.parquet",
        "steps-000003-000004.parquet",
    ]
    assert read(tmp_path).rollouts["step"].unique().tolist() == [1, 3, 4, 5, 6, 7]


def test_the_names_say_what_a_file_holds(tmp_path):
    for name in ("step-000007.parquet", "steps-000001-000050.parquet", "step-7.parquet.tmp", "notes.txt", "step-8.tmp"):
        (tmp_path / name).touch()
    assert find_parts(tmp_path) == [
        Part(tmp_path / "steps-000001-000050.parquet", 1, 50),
        Part(tmp_path / "step-000007.parquet", 7, 7),
    ]
    assert part_of(tmp_path / "step-000007.parquet").last == 7 and part_of(tmp_path / "notes.txt") is None
    assert find_parts(tmp_path / "nowhere") == []


def test_a_bundle_that_cannot_be_read_is_left_for_the_reader_to_name(tmp_path):
    folder = tmp_path / "rollouts"
    folder.mkdir()
    write(folder, 1, 0.5)
    (folder / "steps-000002-000009.parquet").write_bytes(b"PAR1 torn")
    cut_after(folder, 4, SCHEMA)
    found = read(tmp_path)
    assert found.rollouts["step"].tolist() == [1, 1]
    assert found.damaged[0].startswith("rollouts/steps-000002-000009.parquet cannot be read")
