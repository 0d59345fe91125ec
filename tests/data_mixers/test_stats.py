"""What a folder of rows holds, what leaks into evaluation, and thinning what is too common."""

import json

import pytest
from click.testing import CliRunner
from sv6d.data_mixers.balance import keep_shares, keeps
from sv6d.data_mixers.rows import Example, read_rows, to_rl_row, write_rows
from sv6d.data_mixers.stats import count, evenness, leaks, row_tags
from sv6d.recipes.data import command


def row(index, tags=("hard cut",), media="a.mp4", task="cut_point_detection"):
    """A clip of as many segments as tags."""
    truth = [{"start": i, "end": i + 1, "labels": {"editing": {"transition_type": tag}}} for i, tag in enumerate(tags)]
    example = Example(
        task, [media], json.dumps({"segments": truth}), duration=float(len(tags)), dataset="d", id=str(index)
    )
    return to_rl_row(example, index)


@pytest.fixture
def files(tmp_path):
    def make(name, rows):
        return write_rows(rows, tmp_path / name / "cuts.parquet")

    return make


def test_rows_durations_segments_and_tags_are_counted(files):
    words = to_rl_row(Example("ocr_regular", ["w.png"], "EXIT", id="w"), 9)
    found = count([files("rl", [row(0), row(1, ("hard cut", "wipe", "hard cut"), "b.mp4"), words])])
    assert found.rows == {"cut_point_detection": 2, "ocr_regular": 1} and found.datasets == {"d": 2, "(not named)": 1}
    assert found.durations["cut_point_detection"] == [1.0, 3.0] and found.segments["cut_point_detection"] == [1, 3]
    assert found.tags["editing.transition_type"] == {"hard cut": 2, "wipe": 1}  # rows that name it, not segments
    assert found.plain()["seconds"]["cut_point_detection"]["median"] == 2.0


def test_evenness_is_entropy_over_its_greatest():
    assert evenness({"a": 5, "b": 5}) == pytest.approx(1.0)
    assert evenness({"a": 3, "b": 1}) == pytest.approx(0.8113, abs=1e-4)  # the entropy of (3/4, 1/4) in bits
    assert evenness({"a": 7}) == 0.0


def test_rows_that_come_twice_are_named(files):
    found = count([files("rl", [row(0), row(1, media="b.mp4"), row(2)])])
    assert found.duplicates == [("cuts.parquet row 2", "cuts.parquet row 0")]  # the id alone does not make another row


def test_leaks_by_content_where_files_are_there_else_by_name(files, tmp_path):
    for name, content in (("one.mp4", b"film"), ("copy.mp4", b"film"), ("other.mp4", b"mlif"), ("one2.mp4", b"x")):
        (tmp_path / name).write_bytes(content)
    media = lambda name: str(tmp_path / name)  # noqa: E731
    train = count(
        [
            files(
                "rl",
                [row(0, media=media("one.mp4")), row(1, media=media("other.mp4")), row(2, media=media("gone.mp4"))],
            )
        ]
    )
    against = count([files("test", [row(0, media=media("copy.mp4")), row(1, media=media("gone.avi"))])])
    assert leaks(train, against) == [
        ("cuts.parquet row 0", "cuts.parquet row 0"),
        ("cuts.parquet row 2", "cuts.parquet row 1"),
    ]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one.mp4").write_bytes(b"another film of that name")
    assert not leaks(train, count([files("val", [row(0, media=media("folder/one.mp4"))])]))


def test_texts_that_look_like_json_are_no_segments():
    assert row_tags('["EXIT"]') == set() and row_tags("{not json") == set() and row_tags("") == set()


def test_common_tags_are_thinned_to_the_cap_and_rare_ones_kept():
    """900 rows of one tag and 10 of another: capped at 90, about 90 of the first stay and all of the second."""
    rows = [row(i, media=f"{i}.mp4") for i in range(900)] + [row(i, ("wipe",), f"{i}.mp4") for i in range(900, 910)]
    shares = keep_shares(rows, cap=90)
    assert shares["editing.transition_type", "hard cut"] == 0.1 and shares["editing.transition_type", "wipe"] == 1.0
    kept = [r for r in rows if keeps(r, shares, seed=0)]
    assert len(kept) == pytest.approx(100, abs=30) and sum(r in kept for r in rows[900:]) == 10
    assert [r for r in reversed(rows) if keeps(r, shares, seed=0)] == kept[::-1]  # whatever the order
    assert kept != [r for r in rows if keeps(r, shares, seed=1)]


def test_a_row_with_a_rare_tag_stays_whatever_else_it_has():
    rows = [row(i, media=f"{i}.mp4") for i in range(99)] + [row(99, ("hard cut", "wipe"), "z.mp4")]
    shares = keep_shares(rows)  # the geometric mean of 100 and 1 is 10, twice that is the cap
    assert shares["editing.transition_type", "hard cut"] == pytest.approx(0.2)
    assert all(keeps(rows[-1], shares, seed) for seed in range(50))


def test_large_data_sets_are_thinned_and_small_ones_kept():
    """Words have no tags: 900 of one data set and 10 of another, whose geometric mean is 95."""
    word = lambda name, i: to_rl_row(Example("ocr_regular", [f"{i}.png"], "EXIT", dataset=name, id=str(i)), i)  # noqa: E731
    rows = [word("large", i) for i in range(900)] + [word("small", i) for i in range(10)]
    shares = keep_shares(rows)
    assert shares == {("dataset", "large"): pytest.approx(2 * 9000**0.5 / 900), ("dataset", "small"): 1.0}
    kept = [r for r in rows if keeps(r, shares, seed=0)]
    assert len(kept) == pytest.approx(200, abs=45) and sum(r in kept for r in rows[900:]) == 10


def test_a_rare_tag_stays_whatever_its_data_set():
    shares = {("editing.transition_type", "hard cut"): 0.1, ("dataset", "d"): 0.0}
    assert keeps(row(0, ("hard cut", "wipe")), shares, seed=0) and not keeps(row(0), shares, seed=0)


def test_files_of_one_name_in_two_folders_stay_two(files, tmp_path):
    files("DATA/rl", [row(0)])
    files("DATA/sft", [row(1), row(2)])
    balance = lambda *words: CliRunner().invoke(command, ["balance", *map(str, words)])  # noqa: E731
    for paths in ([tmp_path / "DATA"], [tmp_path / "DATA" / "rl", tmp_path / "DATA" / "sft"]):
        out = tmp_path / f"even-{len(paths)}"
        assert balance(*paths, "-o", out).exit_code == 0
        assert [len(read_rows(out / part / "cuts.parquet")) for part in ("rl", "sft")] == [1, 2]
    (tmp_path / "DATA" / "rl" / "cuts.jsonl").write_text(json.dumps(row(3)) + "\n")
    result = balance(tmp_path / "DATA", "-o", tmp_path / "even")
    assert result.exit_code == 1 and "would both become" in result.output and "rename one of them" in result.output


def test_files_that_hold_no_rows_are_named(tmp_path):
    (tmp_path / "told.jsonl").write_text('{"reason": "x"}\n')
    for words, told in ((["stats", tmp_path], "told.jsonl: holds no rows"), (["balance", tmp_path, "-o", tmp_path / "x"], "holds no rows"),
                        (["stats", tmp_path, "--against", tmp_path.parent / "none"], "does not exist")):  # fmt: skip
        result = CliRunner().invoke(command, list(map(str, words)))
        assert result.exit_code != 0 and told in result.output and not isinstance(result.exception, TypeError)


def test_the_commands(files, tmp_path):
    files(
        "rl",
        [row(i, media=str(tmp_path / f"{i}.mp4")) for i in range(400)]
        + [row(400, ("wipe",), "w.mp4"), row(400, ("wipe",), "w.mp4")],
    )
    files("test", [row(0, media=str(tmp_path / "7.mp4"))])
    (tmp_path / "rl" / "x.bad.jsonl").write_text("{}\n")
    runner = CliRunner()
    shown = runner.invoke(
        command,
        ["stats", str(tmp_path / "rl"), "--against", str(tmp_path / "test"), "--picture", str(tmp_path / "p.png")],
    )
    assert shown.exit_code == 3, shown.output
    assert "402 rows of 1 data sets" in shown.output and "1 rows come twice" in shown.output
    assert "1 rows show media of the evaluation rows" in shown.output and (tmp_path / "p.png").stat().st_size > 10_000
    told = json.loads(runner.invoke(command, ["stats", str(tmp_path / "rl"), "--json"]).stdout)
    assert told["rows"] == {"cut_point_detection": 402} and told["leaks"] == 0
    done = runner.invoke(command, ["balance", str(tmp_path / "rl"), "-o", str(tmp_path / "even"), "--cap", "20"])
    assert done.exit_code == 0, done.output
    kept = read_rows(tmp_path / "even" / "cuts.parquet")
    assert 2 < len(kept) < 60 and sum("wipe" in r["reward_model"]["ground_truth"] for r in kept) == 2
    empty = runner.invoke(command, ["stats", str(tmp_path / "even" / "nothing.parquet")])
    assert empty.exit_code == 2
