"""Public annotations, each a small sample in the documented format: what becomes a row, and what is listed and why."""

import json
import shutil

import av
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sv6d.data_mixers.convert import named_as_tests, read_systems
from sv6d.data_mixers.readers import READERS, BadRow, Source
from sv6d.data_mixers.readers.ink import MARGIN, draw
from sv6d.data_mixers.readers.names import canonical, mappings
from sv6d.data_mixers.readers.pictures import made_picture
from sv6d.data_mixers.rows import read_rows, validate_row
from sv6d.recipes.data import command
from sv6d.rewards import score
from sv6d.schema import TASKS


@pytest.fixture(scope="session")
def film(tmp_path_factory):
    """Three seconds at ten frames a second."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for level in range(30):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 8 * level, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


@pytest.fixture
def folder(tmp_path, film):
    """A folder of media with copies of the film under these names, and a place for annotation files."""

    def make(*names):
        (tmp_path / "media").mkdir(exist_ok=True)
        for name in names:
            shutil.copy(film, tmp_path / "media" / name)
        return tmp_path

    return make


def read(name, root, files, **more):
    """(examples, bad rows) of files given as {name: text}; media may be missing."""
    for file, text in files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    source = Source(tuple(root / file for file in files), root / "media", root / "made", need_media=False, **more)
    found = list(READERS[name].read(source))
    return [f for f in found if not isinstance(f, BadRow)], [f for f in found if isinstance(f, BadRow)]


def segments(example):
    return json.loads(example.ground_truth)["segments"]


def spans(example):
    return [(s["start"], s["end"]) for s in segments(example)]


def test_charades_sta(folder):
    """Ends can pass the video's end, whose length is in Charades' own table."""
    text = "AO8RW 0.0 6.9##a person is putting a book on a shelf.\nAO8RW 20.1 31.9##person sits down.\nAO8RW 9.0 4.0##x.\nno line\n"
    root = folder("AO8RW.mp4")
    (root / "lengths.csv").write_text("id,subject,length\nAO8RW,HR43,30.5\n")
    good, bad = read("charades_sta", root, {"train.txt": text}, durations=root / "lengths.csv")
    assert [e.query for e in good] == ["a person is putting a book on a shelf.", "person sits down."]
    assert [spans(e) for e in good] == [[(0.0, 6.9)], [(20.1, 30.5)]] and good[1].duration == 30.5
    assert good[0].media == [str(root / "media" / "AO8RW.mp4")]
    assert [(b.line, b.reason.split(";")[0]) for b in bad] == [
        (3, "from 9 to 4 s is no stretch of the video"),
        (4, "has no ## between times and sentence"),
    ]


def test_charades_sta_without_lengths_asks_the_film(folder):
    text = "film 0.0 9.9##a person runs.\ngone 0.0 1.0##a person runs.\n"
    good, bad = read("charades_sta", folder("film.mp4"), {"train.txt": text})
    assert [(e.duration, spans(e)) for e in good] == [(3.0, [(0.0, 3.0)])]
    assert bad[0].line == 2 and "gone.mp4 is missing, and only the file says how long it is" in bad[0].reason


def test_qvhighlights(folder):
    row = {
        "qid": 2579,
        "query": "A girl plays",
        "duration": 126,
        "vid": "NUsG9_60_210",
        "relevant_windows": [[82, 90], [0, 10]],
    }
    lines = [json.dumps(row), json.dumps({**row, "relevant_windows": []}), "{"]
    good, bad = read("qvhighlights", folder(), {"train.jsonl": "\n".join(lines)})
    assert spans(good[0]) == [(0.0, 10.0), (82.0, 90.0)] and good[0].id == "qid 2579"
    assert [b.line for b in bad] == [2, 3] and "as the test split has none" in bad[0].reason


def test_activitynet_joins_the_intervals_of_a_label(folder):
    told = {
        "database": {
            "Y9": {
                "duration": 20.0, "subset": "training",
                "annotations": [
                    {"segment": [11.0, 25.0], "label": "Diving"},
                    {"segment": [1.0, 3.0], "label": "Diving"},
                    {"segment": [4.0, 5.0], "label": "CliffDiving"},
                    {"segment": [6.0, 7.0], "label": "Ambiguous"},
                ],
            },
            "Z1": {"duration": 20.0, "subset": "validation", "annotations": [{"segment": [1, 2], "label": "Diving"}]},
            "broken": {"subset": "training", "annotations": [{"segment": [1, 2], "label": "Diving"}]},
            "odd": {"subset": "training"},
        }
    }  # fmt: skip
    good, bad = read("activitynet", folder("v_Y9.mp4"), {"anet.json": told}, subset="Training")
    assert {e.query: spans(e) for e in good} == {"Diving": [(1.0, 3.0), (11.0, 20.0)], "CliffDiving": [(4.0, 5.0)]}
    assert good[0].media[0].endswith("v_Y9.mp4")  # ids lack the prefix of the files
    assert [(b.line, "duration" in b.reason) for b in bad] == [("broken/Diving", True), ("odd", False)]


def test_a_bad_interval_costs_its_label_or_sentence_and_not_its_video(folder):
    """The labels of a video are rows of their own; of a label with a bad interval no row is whole."""
    annotations = [{"segment": [3, 1], "label": "Diving"}, {"segment": [5, 6], "label": "Diving"}]
    annotations += [{"segment": [1, 2], "label": "Running"}]
    told = {"database": {"Y9": {"duration": 20.0, "subset": "training", "annotations": annotations}}}
    good, bad = read("activitynet", folder(), {"anet.json": told})
    assert [e.query for e in good] == ["Running"]
    assert [b.line for b in bad] == ["Y9/Diving"] and "from 3 to 1 s is no stretch" in bad[0].reason
    told = {"v_A": {"duration": 10.0, "timestamps": [[8, 4], [4.5, 10.0]], "sentences": [" A man runs.", " He falls."]},
            "v_B": {"duration": 10.0, "timestamps": [[8, 9]], "sentences": []}, "v_C": 3}  # fmt: skip
    good, bad = read("activitynet_captions", folder(), {"train.json": told})
    assert [(e.query, e.id) for e in good] == [("He falls.", "v_A/1")] and [b.line for b in bad] == ["v_A/0", "v_C/0"]


def test_activitynet_captions(folder):
    told = {
        "v_A": {"duration": 10.0, "timestamps": [[0, 4.5], [4.5, 10.0]], "sentences": [" A man runs.", " He falls."]}
    }
    good, _ = read("activitynet_captions", folder(), {"train.json": told})
    assert [(e.query, spans(e)) for e in good] == [("A man runs.", [(0.0, 4.5)]), ("He falls.", [(4.5, 10.0)])]


def test_clipshots_frames_become_seconds(folder):
    """At ten frames a second: a hard cut where frame 11 is the first of the new shot, a gradual one from 18 to 22, in its
    middle at 2.0 s, behind which the segment has no label."""
    told = {
        "film.mp4": {"transitions": [[18, 22], [10, 11]], "frame_num": 30.0},
        "gone.mp4": {"transitions": [], "frame_num": 9.0},
    }
    good, bad = read("clipshots", folder("film.mp4"), {"train.json": told})
    cut = {"editing": {"transition_type": "hard cut"}}
    assert segments(good[0]) == [
        {"start": 0.0, "end": 1.1, "labels": {}},
        {"start": 1.1, "end": 2.0, "labels": cut},
        {"start": 2.0, "end": 3.0, "labels": {}},
    ]
    assert good[0].duration == 3.0
    assert bad[0].line == "gone.mp4" and "is missing, and only the file says how long it is" in bad[0].reason


def test_clipshots_transitions_behind_the_end_or_on_each_other(folder):
    told = {"a.mp4": {"transitions": [[40, 41]]}, "b.mp4": {"transitions": [[10, 11], [10, 11]]}}
    good, bad = read("clipshots", folder("a.mp4", "b.mp4"), {"train.json": told})
    assert not good and "lies behind the video's end" in bad[0].reason and "leave no shot between them" in bad[1].reason


def test_autoshot_rows_read_as_transitions(folder):
    text = "one.mp4 30\n10,11\n20, 21\n\ntwo.mp4\n4,5\n"
    good, bad = read("autoshot", folder("one.mp4", "two.mp4"), {"kuaishou_v2.txt": text})
    assert [spans(e) for e in good] == [[(0.0, 1.1), (1.1, 2.1), (2.1, 3.0)], [(0.0, 0.5), (0.5, 3.0)]] and not bad


def test_a_film_with_an_unreadable_transition_is_left_out(folder):
    """Without it a cut would be missing from the truth."""
    text = "one.mp4 30\n10,11\nx,y\n\ntwo.mp4\n4,5\n"
    good, bad = read("autoshot", folder("one.mp4", "two.mp4"), {"kuaishou_v2.txt": text})
    assert [e.id for e in good] == ["two"]
    assert [(b.line, b.reason) for b in bad] == [(1, "line 3: 'x,y' is no pair of frames a,b")]


def test_rai_lists_shots(folder):
    good, _ = read("rai", folder("1.mp4"), {"1_gt.txt": "0 9\n10 19\n20 29\n"})
    assert spans(good[0]) == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]


def shotbench(**change):
    row = {
        "index": "7", "type": '["video"]', "path": "['film.mp4']", "question": "What is the shot size?",
        "options": json.dumps({"A": "Medium Close Up", "B": "Wide"}), "answer": "A", "category": "shot size",
    } | change  # fmt: skip
    return "\t".join(row) + "\n" + "\t".join(map(quoted, row.values()))


def quoted(text):
    return '"' + text.replace('"', '""') + '"' if '"' in text else text


def test_shotbench_videos_are_labelled_segments(folder):
    good, _ = read("shotbench", folder("film.mp4"), {"test.tsv": shotbench()})
    (example,) = good
    assert example.task == "shot_framing" and example.duration == 3.0
    assert segments(example) == [
        {"start": 0.0, "end": 3.0, "labels": {"camera_language": {"shot_size": "medium close-up"}}}
    ]


def test_shotbench_answers_may_join_labels_of_several_tasks(folder):
    options = json.dumps({"A": "Side light, Low contrast and Hard light", "B": "Backlight"})
    good, _ = read("shotbench", folder("film.mp4"), {"test.tsv": shotbench(options=options, category="lighting")})
    (example,) = good
    assert segments(example)[0]["labels"]["aesthetics"] == {
        "light_direction": ["side light"], "contrast": "low contrast", "light_hardness": "hard light"
    }  # fmt: skip


def test_shotbench_stills_stay_questions(folder):
    good, _ = read("shotbench", folder(), {"test.tsv": shotbench(type='["image"]', path="['a.jpg']")})
    assert good[0].task == "visual_reasoning" and good[0].ground_truth == "A" and "A. Medium Close Up" in good[0].query


def test_names_that_are_not_mapped_are_told(folder):
    options = json.dumps({"A": "Aerial", "B": "Sideways"})
    for answer, words in (
        ("A", "has no faithful tag"),
        ("B", "'Sideways' is not in mappings.yaml; add the canonical tag"),
    ):
        _, bad = read(
            "shotbench",
            folder("film.mp4"),
            {"t.tsv": shotbench(options=options, answer=answer, category="camera angle")},
        )
        assert words in bad[0].reason


def test_moviecuts(folder):
    kinds = ["cut-on-action", "cut-away", "cross-cut", "emphasis/deemphasis", "match-cut", "smash-cut",
             "reaction-in/reaction-out-cut", "l-cut", "j-cut", "speaker-change"]  # fmt: skip
    labels = {
        name: {"video_id": "v", "subset": "train", "labels": row}
        for name, row in (("film", [1, 0, 0, 0, 0, 0, 0, 0, 1, 0]), ("none", [0] * 10))
    }
    good, bad = read(
        "moviecuts", folder("film.mp4"), {"cut-type-train.json": {"cut_types": kinds, "annotations": labels}}
    )
    assert segments(good[0])[0]["labels"] == {"editing": {"editing_logic": ["cut on action", "j-cut"]}}
    assert bad[0].reason == "has no cut type"


def test_ave_scenes_have_a_row_a_task(folder):
    shots = {
        "2": {"start-time": [1.0], "end-time": [3.0], "shot-size": ["Close-up"], "shot-motion": ["pan"],
              "shot-type": ["Over-the-shoulder", "two-shot"]},
        "1": {"start-time": [0.0], "end-time": [1.0], "shot-size": ["wide"], "shot-angle": ["eye_level"], "shot-motion": ["locked"]},
    }  # fmt: skip
    good, bad = read("ave", folder("film.mp4"), {"ave.json": {"film": shots}})
    by = {e.task: segments(e) for e in good}
    assert by["shot_framing"] == [
        {
            "start": 0.0,
            "end": 1.0,
            "labels": {"camera_language": {"shot_size": "long shot", "shooting_angle": "eye-level"}},
        },
        {"start": 1.0, "end": 3.0, "labels": {"camera_language": {"shot_size": "close-up"}}},
    ]
    assert [s["labels"]["camera_language"]["camera_movement"] for s in by["camera_movement"]] == [
        ["static shot"],
        ["pan/tilt"],
    ]
    two = {"framing_type": "over-the-shoulder", "configuration": "two-person"}
    assert [s["labels"] for s in by["subject"]] == [{}, {"subject": two}]
    assert not bad


def test_an_unknown_name_costs_a_scene_the_row_of_its_task_alone(folder):
    shot = {"start-time": [0.0], "end-time": [3.0], "shot-size": ["vast"], "shot-motion": ["locked"]}
    good, bad = read("ave", folder("film.mp4"), {"ave.json": {"film": {"1": shot}}})
    assert [e.task for e in good] == ["camera_movement"] and [b.line for b in bad] == ["film/shot_framing"]
    assert "'vast' is not in mappings.yaml" in bad[0].reason


def test_ave_shots_without_a_faithful_tag_stay_in_the_truth(folder):
    """The prompt asks for segments that cover the video; the number of people counts where the type does not say it."""
    shots = {
        "1": {"start-time": [0.0], "end-time": [1.0], "shot-size": ["wide"], "shot-type": ["establishing"], "num-people": [0]},
        "2": {"start-time": [1.0], "end-time": [2.0], "shot-angle": ["aerial"], "shot-type": ["two-shot"], "num-people": ["3"]},
        "3": {"start-time": [2.0], "end-time": [3.0], "shot-size": ["close-up"]},
    }  # fmt: skip
    good, bad = read("ave", folder("film.mp4"), {"ave.json": {"film": shots}})
    by = {e.task: e for e in good}
    assert not bad and spans(by["shot_framing"]) == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    assert segments(by["shot_framing"])[1]["labels"] == {}
    people = [s["labels"].get("subject", {}).get("configuration") for s in segments(by["subject"])]
    assert people == ["none", "two-person", None] and by.keys() == {"shot_framing", "subject"}


@pytest.fixture
def picture(folder):
    """100 x 60 pixels, white, with a black word's place at (20, 10) to (50, 30)."""
    root = folder()
    image = Image.new("RGB", (100, 60), "white")
    image.paste("black", (20, 10, 50, 30))
    image.save(root / "media" / "img_1.jpg")
    return root


def test_textocr_words_are_cut_out(picture):
    word = {"id": "1_1", "image_id": "1", "bbox": [20, 10, 30, 20], "utf8_string": "EXIT"}
    told = {
        "imgs": {"1": {"file_name": "train/img_1.jpg"}},
        "anns": {
            "1_1": word,
            "1_2": {**word, "id": "1_2", "utf8_string": "."},
            "1_3": {**word, "id": "1_3", "bbox": [300, 1, 2, 2]},
        },
    }
    good, bad = read("textocr", picture, {"train.json": told})
    assert [e.ground_truth for e in good] == ["EXIT"]
    crop = Image.open(good[0].media[0])
    assert crop.size == (34, 24) and np.asarray(crop)[12, 17].max() < 60  # the word and two pixels around it
    assert bad[0].line == "1_3" and "lies outside img_1.jpg (100 x 60)" in bad[0].reason


def test_icdar2015_lines_may_hold_commas_and_begin_with_a_mark(picture):
    text = "\ufeff20,10,50,10,50,30,20,30,No, thanks\n1,1,9,1,9,9,1,9,###\n1,2,3\n"
    good, bad = read("icdar2015", picture, {"gt_img_1.txt": text})
    assert [e.ground_truth for e in good] == ["No, thanks"] and [b.line for b in bad] == [3]


def test_pictures_of_one_name_are_two_crops_and_a_broken_one_is_made_anew(picture):
    """ICDAR calls the pictures of both its parts img_1, img_2, ..."""
    box = "20,10,50,10,50,30,20,30,"
    (train,), _ = read("icdar2015", picture, {"train/gt_img_1.txt": box + "EXIT"})
    Image.new("RGB", (100, 60), "red").save(picture / "media" / "img_1.jpg")
    (test,), _ = read("icdar2015", picture, {"test/gt_img_1.txt": box + "STOP"})
    colour = lambda example: tuple(np.asarray(Image.open(example.media[0]))[12, 17] // 200)  # noqa: E731
    assert colour(train) == (0, 0, 0) and colour(test) == (1, 0, 0)
    (again,), _ = read("icdar2015", picture, {"test/gt_img_1.txt": box + "STOP"})
    assert again.media == test.media and len(list((picture / "made" / "icdar2015").iterdir())) == 2


def test_a_save_that_is_cut_short_leaves_no_picture(tmp_path):
    class Torn:
        def save(self, path, kind):
            path.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        made_picture(tmp_path, "a/b", 1, Torn)
    assert not list(tmp_path.iterdir())
    assert made_picture(tmp_path, "a/b", 1, lambda: Image.new("RGB", (2, 2))).name.startswith("a_b-")


INK = """<ink xmlns="http://www.w3.org/2003/InkML">
<annotation type="UI">u</annotation>{annotations}
<trace id="0">0 0 1, 10 0 2, 10 20 3</trace><trace id="1">5 5</trace></ink>"""


def test_crohme_and_mathwriting_ink_is_drawn(folder):
    truth = '<annotation type="truth">$\\frac{a}{b}$</annotation>'
    good, bad = read(
        "crohme",
        folder(),
        {
            "f1.inkml": INK.replace("{annotations}", truth),
            "f2.inkml": INK.replace("{annotations}", ""),
            "f3.inkml": "<ink",
        },
    )
    assert good[0].ground_truth == "\\frac{a}{b}" and good[0].task == "ocr_handwritten"
    assert Image.open(good[0].media[0]).size == (64 + 2 * MARGIN, 128 + 2 * MARGIN)  # 10 x 20 units, drawn 128 high
    assert [b.line for b in bad] == ["f2.inkml", "f3.inkml"]
    labels = '<annotation type="label">a</annotation><annotation type="normalizedLabel">b</annotation>'
    good, _ = read("mathwriting", folder(), {"g.inkml": INK.replace("{annotations}", labels)})
    assert good[0].ground_truth == "b"


def test_ink_files_of_one_name_are_two_pictures(folder):
    truth = INK.replace("{annotations}", '<annotation type="truth">x</annotation>')
    good, _ = read("crohme", folder(), {"a/f.inkml": truth, "b/f.inkml": truth.replace("10 20 3", "90 20 3")})
    assert good[0].media != good[1].media and Image.open(good[0].media[0]).size != Image.open(good[1].media[0]).size


def test_ink_lies_where_the_pen_was():
    image = np.asarray(draw([[(0.0, 0.0), (1.0, 0.0)], [(0.0, 1.0)]]))[..., 0]
    dark = image < 128
    assert dark[MARGIN, MARGIN : image.shape[1] - MARGIN].all()  # the upper stroke
    assert (
        dark[image.shape[0] - MARGIN - 1, MARGIN] and not dark[image.shape[0] // 2].any()
    )  # the dot below, nothing between


def test_llava_cot(folder):
    answer = "<SUMMARY> I count. </SUMMARY> <REASONING>Two and two.</REASONING>\n<CONCLUSION> 4 </CONCLUSION>"
    row = {
        "id": "9",
        "image": "a/b.jpg",
        "conversations": [{"from": "human", "value": "<image>\nHow many?"}, {"from": "gpt", "value": answer}],
    }
    broken = {**row, "conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "four"}]}
    good, bad = read("llava_cot", folder(), {"train.jsonl": json.dumps(row) + "\n" + json.dumps(broken)})
    assert (good[0].query, good[0].ground_truth, good[0].thought) == ("How many?", "4", "I count.\nTwo and two.")
    assert "has no <CONCLUSION>" in bad[0].reason


def test_tables_and_lines_of_one_s_own(folder):
    table = """task,media,ground_truth,duration,query
ocr_regular,a.png,EXIT,,
ocr_regular,,x,,
temporal_action_localization,f.mp4,"[{""start"":0,""end"":1}]",3,a cut
"""
    good, bad = read("csv", folder(), {"own.csv": table})
    assert (good[0].task, good[0].ground_truth, good[0].duration) == ("ocr_regular", "EXIT", None)
    assert good[1].duration == 3.0
    assert bad[0].line == 3 and bad[0].reason == "has no media"
    rows = [
        {
            "task": "temporal_action_localization",
            "media": ["f.mp4"],
            "ground_truth": [{"start": 0, "end": 1}],
            "query": "q",
        },
        {"tasks": "x"},
        3,
    ]
    good, bad = read("jsonl", folder(), {"own.jsonl": "\n".join(map(json.dumps, rows))})
    assert spans(good[0]) == [(0, 1)]
    assert (
        "has unknown column(s) tasks; there are task, media, ground_truth" in bad[0].reason
        and bad[1].reason == "is no object"
    )


def test_every_mapped_name_has_a_canonical_tag_of_its_column():
    for dataset, columns in mappings().items():
        for column, told in columns.items():
            found = canonical(dataset, column, [str(name) for name in told["map"]])
            assert sum(map(len, found.values())) == sum(tag is not None for tag in told["map"].values())


def convert(*arguments):
    return CliRunner().invoke(command, ["convert", *map(str, arguments)])


def test_the_command_writes_checked_rows_whose_truth_earns_1(folder):
    root = folder("film.mp4")
    (root / "train.json").write_text(
        json.dumps({"film.mp4": {"transitions": [[10, 11]]}, "gone.mp4": {"transitions": []}})
    )
    result = convert("clipshots", root / "train.json", "--media", root / "media", "-o", root / "DATA", "--sft")
    assert result.exit_code == 0, result.output
    assert "1 cut_point_detection" in result.output and "1 annotations could not be used" in result.output
    for part in ("rl", "sft"):
        (row,) = read_rows(root / "DATA" / part / "clipshots.parquet")
        validate_row(row, root / "DATA" / part)
    truth = row["reward_model"]["ground_truth"]
    assert score("cut_point_detection", row["messages"][-1]["content"], truth).value == pytest.approx(1.0)
    bad = [json.loads(line) for line in (root / "DATA" / "clipshots.bad.jsonl").read_text().splitlines()]
    assert bad[0]["line"] == "gone.mp4" and bad[0]["file"].endswith("train.json")


def test_rows_whose_media_are_missing_are_bad_unless_that_is_fine(folder):
    root = folder()
    (root / "a.txt").write_text("AO8RW 0.0 6.9##a person runs.\n")
    (root / "lengths.csv").write_text("id,length\nAO8RW,30.5\n")
    told = ["charades_sta", root / "a.txt", "--media", root / "media", "--durations", root / "lengths.csv", "-o"]
    result = convert(*told, root / "DATA")
    assert result.exit_code == 1 and "a.txt, 1:" in result.output and "AO8RW.mp4 is missing" in result.output
    result = convert(*told, root / "DATA", "--no-media-check", "--split", "heldout")
    assert result.exit_code == 0 and (root / "DATA" / "heldout" / "charades_sta.parquet").exists()
    assert not (root / "DATA" / "charades_sta.bad.jsonl").exists()


def test_a_row_that_fails_its_check_is_listed_with_file_and_line(folder):
    root = folder("film.mp4")
    table = "task,media,ground_truth\ncut_point_detection,film.mp4,[]\nsubjects,film.mp4,[]\nsubject,gone.mp4,[]\n"
    (root / "own.csv").write_text(table)
    result = convert("csv", root / "own.csv", "--media", root / "media", "-o", root / "DATA")
    assert result.exit_code == 0 and f"{root / 'own.csv'}, 3:" in result.output
    bad = [json.loads(line) for line in (root / "DATA" / "csv.bad.jsonl").read_text().splitlines()]
    assert [(row["file"], row["line"]) for row in bad] == [(str(root / "own.csv"), 3), (str(root / "own.csv"), 4)]
    assert "task 'subjects' is unknown" in bad[0]["reason"] and "gone.mp4 is missing" in bad[1]["reason"]


def test_a_test_set_that_goes_to_training_is_warned_of(folder):
    root = folder("film.mp4")
    (root / "test.tsv").write_text(shotbench())
    told = ["shotbench", root / "test.tsv", "--media", root / "media", "-o", root / "DATA"]
    assert "test.tsv is a test set by its name, and its rows go to" in convert(*told).output
    assert "test set" not in convert(*told, "--split", "heldout").output
    assert named_as_tests(["charades_sta_test.txt", "Testing", "latest.json", "contest.csv", "train.json", ""]) == [
        "charades_sta_test.txt",
        "Testing",
    ]


def test_a_file_of_another_format_is_told(folder):
    root = folder()
    (root / "a.json").write_text("not json")
    result = convert("clipshots", root / "a.json", "--media", root / "media", "-o", root / "DATA")
    assert result.exit_code == 1 and "not read as clipshots" in result.output and "a.json: is not JSON" in result.output


def test_every_data_set_has_a_system_prompt_that_may_be_another(folder):
    assert set(read_systems()) == set(READERS) - {"csv", "jsonl"}
    root = folder("film.mp4")
    (root / "train.json").write_text(json.dumps({"film.mp4": {"transitions": [[10, 11]]}}))
    (root / "mine.yaml").write_text("clipshots: Cut.\n")
    for more, words in (([], read_systems()["clipshots"]), (["--systems", root / "mine.yaml"], "Cut.")):
        result = convert(
            "clipshots", root / "train.json", "--media", root / "media", "-o", root / "DATA", "--sft", *more
        )
        assert result.exit_code == 0, result.output
        (row,) = read_rows(root / "DATA" / "sft" / "clipshots.parquet")
        assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant"]
        assert row["messages"][0]["content"] == row["prompt"][0]["content"] == words
    (root / "mine.yaml").write_text("- Cut.\n")
    result = convert(
        "clipshots",
        root / "train.json",
        "--media",
        root / "media",
        "-o",
        root / "DATA",
        "--systems",
        root / "mine.yaml",
    )
    assert result.exit_code == 1 and "give a system prompt, as text, for each name" in result.output


def test_every_reader_says_its_tasks():
    assert all(set(reader.tasks) <= set(TASKS) for reader in READERS.values())
    covered = {task for reader in READERS.values() for task in reader.tasks}
    assert set(TASKS) - covered == {
        "editing_effects_and_transitions"
    }  # no public labels but Edit3K's and AutoTransition's numbers
