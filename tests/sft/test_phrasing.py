"""Questions in a model's words: what may change, what is refused, and runs that ask nothing twice."""

import hashlib
import json
import random

import pytest
from click.testing import CliRunner
from stand_in import stand_in
from sv6d.data_mixers.rows import read_rows
from sv6d.recipes.data import command as data
from sv6d.rewards import score
from sv6d.schema import Taxonomy
from sv6d.schema.document import Document, Shot
from sv6d.sft.synthesis.parsed import Parsed
from sv6d.sft.synthesis.phrasing import GIVE_UP, refusal, reword, shown, thought_of
from sv6d.sft.synthesis.questions import KINDS
from sv6d.sft.synthesis.templates import Templates
from sv6d.sft.synthesis.vocabulary import Vocabulary

TAXONOMY = Taxonomy.load()
SIZE = ("camera_language", "shot_size")
FUNCTION = ("narrative", "segment_function")


def shot(start, end, role, size, angle, function):
    labels = {
        "camera_language": {"shot_size": size, "shooting_angle": angle},
        "narrative": {"segment_function": function},
    }
    return Shot(start, end, role, labels)


def document(name):
    shots = (
        shot(0.0, 2.0, "exposition", "long shot", "eye-level", "exposition"),
        shot(2.0, 3.5, "exposition", "medium shot", "low angle", "exposition"),
        shot(3.5, 6.0, "climax", "close-up", "low angle", "climax"),
    )
    return Document(shots, 6.0, name, "dramatic_arc")


@pytest.fixture(scope="module")
def ask():
    parsed = Parsed(document("film.mp4"), Vocabulary.of(TAXONOMY))
    return lambda kind, target: KINDS[kind].make(parsed, target, random.Random(0), Templates.packaged())


def test_every_template_could_be_its_own_rephrasing():
    parsed = Parsed(document("film.mp4"), Vocabulary.of(TAXONOMY))
    for name, kind in KINDS.items():
        for target in kind.targets(parsed):
            qa = kind.make(parsed, target, random.Random(1), Templates.packaged())
            said = {"question": shown(qa), "thought": thought_of(qa)}
            assert refusal(qa, said, TAXONOMY) is None, (name, said)
            assert reword(qa, said) == qa


def test_the_model_sees_neither_the_answer_nor_the_long_places(ask):
    qa = ask("attribute.single", (2, [SIZE]))
    assert "close-up" not in shown(qa) and "{tags}" in shown(qa) and "{form}" in shown(qa)
    assert "00:00:03.5" in shown(qa) and "shot size" in shown(qa)


def test_a_rephrasing_is_filled_in_and_the_answer_stays(ask):
    qa = ask("abduction.intent", (2, FUNCTION))
    said = {
        "question": "From 00:00:03.5 to 00:00:06.0, which segment function of {tags} do you see? "
        "Use <think>evidence</think><answer>tag</answer>.",
        "thought": thought_of(qa).replace("This serves", "It stands for"),
    }
    if "<think>evidence</think>" not in shown(qa):
        said["question"] = said["question"].replace("<think>evidence</think><answer>tag</answer>", "")
    assert refusal(qa, said, TAXONOMY) is None
    new = reword(qa, said)
    assert new.question.startswith("From 00:00:03.5") and "denouement" in new.question  # the tags to choose from
    assert "It stands for climax" in new.answer and new.answer.endswith("</think><answer>climax</answer>")
    assert new.truth == qa.truth and score(new.reward, new.answer, new.truth).value == 1.0


QUESTION = "What shot size is seen between 00:00:03.5 and 00:00:06.0? {tags} {form}"


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (" ", "the question is empty"),
        (QUESTION.replace("03.5", "03.0"), "other times or numbers"),
        (QUESTION + " It takes 2.5 s.", "other times or numbers"),
        (QUESTION.replace("{tags}", ""), "has not {tags} as often"),
        (QUESTION.replace("{form}", "{form} {form}"), "has not {form} as often"),
        (QUESTION + " {more}", "braces that are no place"),
        (QUESTION.replace("shot size", "framing"), "does not say 'shot size'"),
        (QUESTION + " It is no medium shot.", r"names other tags of camera_language.shot_size"),
        (QUESTION + " Is it a Close-Up?", r"names other tags of camera_language.shot_size"),
        (QUESTION + " <answer>", "another form of the answer"),
        (QUESTION + " please" * 500, "characters long"),
    ],
)
def test_a_question_that_loses_or_tells_something_is_refused(ask, question, words):
    qa = ask("attribute.single", (2, [SIZE]))
    assert refusal(qa, {"question": QUESTION}, TAXONOMY) is None
    assert words in refusal(qa, {"question": question}, TAXONOMY)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda thought: "", "the thought is empty"),
        (lambda thought: thought.replace("climax", "it"), "the thought names [] of narrative.segment_function"),
        (lambda thought: thought + " It is no rising action.", "the thought names ['climax', 'rising action']"),
        (lambda thought: thought.replace("00:00:03.5", "the cut"), "the thought has other times"),
        (lambda thought: thought + "</think>", "the thought has another form"),
    ],
)
def test_a_thought_that_leaves_its_evidence_is_refused(ask, change, words):
    qa = ask("abduction.change", (2, SIZE, FUNCTION))
    said = {"question": shown(qa), "thought": change(thought_of(qa))}
    assert words in refusal(qa, said, TAXONOMY)


def test_what_changed_into_what_cannot_be_turned_round(ask):
    qa = ask("abduction.change", (2, SIZE, FUNCTION))
    turned = shown(qa).replace("medium shot to close-up", "close-up to medium shot")
    assert "in another order" in refusal(qa, {"question": turned, "thought": thought_of(qa)}, TAXONOMY)


def polite(schema, body):
    """Rephrases by adding a word; every fourth text or so it tells a number."""
    request = json.loads(body["messages"][-1]["content"])
    spoil = " 7" if int(hashlib.sha256(request["question"].encode()).hexdigest(), 16) % 4 == 0 else ""
    return {name: f"Well: {text}{spoil}" for name, text in request.items()}


def synthesize(out, model, source, *more):
    arguments = [
        "synthesize",
        source,
        "-o",
        out,
        "--endpoint",
        model.address,
        "--model",
        "m",
        "--phrase-share",
        0.5,
        *more,
    ]
    return CliRunner().invoke(data, list(map(str, arguments)))


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr("sv6d.sft.synthesis.cli.DOCUMENTS", 1)
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(document(f"film-{i}.mp4").to_json() + "\n" for i in range(2)))
    return path


def files(out):
    return {path.name: path.read_bytes() for path in out.glob("qa-*.parquet")}


def test_a_share_is_phrased_every_answer_earns_1_and_nothing_is_asked_twice(source, tmp_path):
    out = tmp_path / "qa"
    with stand_in(polite) as model:
        result = synthesize(out, model, source)
        assert result.exit_code == 0, result.output
        asked = len(model.requests)
        rows = [row for path in sorted(out.glob("*.parquet")) for row in read_rows(path)]
        phrased = [row for row in rows if row["prompt"][1]["content"].startswith("<video>Well: ")]
        assert 0 < len(phrased) < asked < 0.7 * len(rows)
        assert f"{len(phrased)} in the words of m; {asked - len(phrased)} rephrasings refused" in result.output
        assert "other times or numbers" in result.output
        for row in rows:
            assert (
                score(row["data_source"], row["messages"][2]["content"], row["reward_model"]["ground_truth"]).value
                == 1.0
            )
            assert "{" + "tags}" not in row["prompt"][1]["content"]
        before = files(out)
        for path in out.glob("*.parquet"):
            path.unlink()
        assert synthesize(out, model, source).exit_code == 0
        assert files(out) == before and len(model.requests) == asked
        assert synthesize(tmp_path / "two", model, source, "--workers", 2).exit_code == 0
        assert files(tmp_path / "two") == before
        assert (
            "holds the output of other documents or settings"
            in synthesize(out, model, source, "--only", "choice").output
        )


def test_an_endpoint_that_fails_costs_the_phrasing_never_the_pair(source, tmp_path):
    with stand_in(status=lambda number: 400) as model:
        result = synthesize(tmp_path / "qa", model, source, "--requests", 1, "--phrase-share", 1)
        assert result.exit_code == 0 and len(model.requests) == 2 * GIVE_UP  # two shards, of 80 pairs
    plain = CliRunner().invoke(data, ["synthesize", str(source), "-o", str(tmp_path / "plain")])
    assert plain.stdout.split(" pairs")[0] == result.stdout.split(" pairs")[0] == "80"
    assert "0 in the words of m" in result.output and "400" in result.output
    for name in files(tmp_path / "qa"):
        assert read_rows(tmp_path / "qa" / name) == read_rows(tmp_path / "plain" / name)


def test_an_endpoint_needs_its_model_s_name(source, tmp_path):
    result = CliRunner().invoke(
        data, ["synthesize", str(source), "-o", str(tmp_path / "x"), "--endpoint", "http://x/v1"]
    )
    assert result.exit_code == 1 and "--endpoint and --model go together" in result.output
