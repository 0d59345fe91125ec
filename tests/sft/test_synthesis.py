"""Questions from documents: what each kind asks and answers, that every answer earns 1, and files that nobody's presence changes."""

import hashlib
import itertools
import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from sv6d.data_mixers.rows import read_rows, validate_row
from sv6d.recipes.data import command as data
from sv6d.rewards import score
from sv6d.schema import Taxonomy
from sv6d.schema.document import Document, Shot, check_document
from sv6d.sft.rows import count_rows, rows_by_task
from sv6d.sft.synthesis.check import Checker
from sv6d.sft.synthesis.generate import Generator, Plan
from sv6d.sft.synthesis.parsed import Parsed
from sv6d.sft.synthesis.questions import KINDS
from sv6d.sft.synthesis.templates import TemplateError, Templates
from sv6d.sft.synthesis.vocabulary import Vocabulary

TAXONOMY = Taxonomy.load()
SIZE, ANGLE, FUNCTION = (
    ("camera_language", "shot_size"),
    ("camera_language", "shooting_angle"),
    ("narrative", "segment_function"),
)


def shot(start, end, role, size, angle, function):
    labels = {
        "camera_language": {"shot_size": size, "shooting_angle": angle},
        "narrative": {"segment_function": function},
    }
    return Shot(start, end, role, labels)


DOCUMENT = Document(
    (
        shot(0.0, 2.0, "exposition", "long shot", "eye-level", "exposition"),
        shot(2.0, 3.5, "exposition", "long shot", "low angle", "exposition"),
        shot(3.5, 6.0, "climax", "close-up", "low angle", "climax"),
    ),
    6.0,
    "film.mp4",
    "dramatic_arc",
)


@pytest.fixture
def parsed():
    assert check_document(DOCUMENT) == []
    return Parsed(DOCUMENT, Vocabulary.of(TAXONOMY))


@pytest.fixture
def ask(parsed):
    return lambda kind, target, seed=0: KINDS[kind].make(parsed, target, random.Random(seed), Templates.packaged())


def segments(qa):
    return json.loads(qa.answer.rpartition("</think>")[2])["segments"]


def test_an_attribute_of_a_shot(ask):
    qa = ask("attribute.single", (2, [SIZE]))
    assert segments(qa) == [{"start": 3.5, "end": 6.0, "labels": {"camera_language": {"shot_size": "close-up"}}}]
    assert (
        "etween 00:00:03.5 and 00:00:06.0" in qa.question and "shot_size: extreme long shot, long shot," in qa.question
    )


def test_a_dimension_and_a_snapshot_of_all(ask, parsed):
    assert KINDS["attribute.dimension"].targets(parsed) == [(i, [SIZE, ANGLE]) for i in range(3)]
    qa = ask("attribute.snapshot", (1, [SIZE, ANGLE, FUNCTION]))
    assert segments(qa)[0]["labels"] == DOCUMENT.shots[1].labels
    assert "camera language, narrative" in qa.question


def test_shots_that_follow_each_other_with_one_tag_are_one_stretch(ask):
    qa = ask("retrieval.locate", (SIZE, "long shot"))
    assert qa.reward == "action_localization" and segments(qa) == [{"start": 0.0, "end": 3.5}]
    assert "'long shot'" in qa.question


def test_a_tag_that_does_not_occur_is_answered_by_an_empty_list(ask, parsed):
    absent = [(sub, tag) for sub, tag in KINDS["retrieval.locate"].targets(parsed) if not parsed.where(sub, tag)]
    assert absent[0][0] == SIZE and absent[0][1] in TAXONOMY.neighbors(*SIZE, "long shot")
    assert segments(ask("retrieval.locate", absent[0])) == []


def partly(*, without=SIZE, role="climax"):
    """The document, its last shot without a label and perhaps without a role."""
    *shots, last = DOCUMENT.shots
    labels = {d: {s: tag for s, tag in subs.items() if (d, s) != without} for d, subs in last.labels.items()}
    return Parsed(replace(DOCUMENT, shots=(*shots, replace(last, role=role, labels=labels))), Vocabulary.of(TAXONOMY))


def test_what_no_shot_is_labelled_with_is_unknown_and_not_absent():
    """Nobody knows whether the last shot is a long shot, too."""
    assert {sub for sub, _ in KINDS["retrieval.locate"].targets(partly())} == {ANGLE, FUNCTION}
    assert KINDS["retrieval.role"].targets(partly(role=None)) == []


def test_a_transition_leads_into_a_shot_and_is_no_property_of_a_stretch():
    cuts = ("hard cut", "hard cut", "wipe")
    shots = [
        replace(shot, labels={**shot.labels, "editing": {"transition_type": cut}})
        for shot, cut in zip(DOCUMENT.shots, cuts, strict=True)
    ]
    document = replace(DOCUMENT, shots=tuple(shots))
    parsed, cut = Parsed(document, Vocabulary.of(TAXONOMY)), ("editing", "transition_type")
    for kind in ("retrieval.locate", "retrieval.moment", "retrieval.sequence", "abduction.change"):
        targets = KINDS[kind].targets(parsed)
        assert targets and "transition_type" not in str(targets)
    for kind, target in (("attribute.single", (2, [cut])), ("choice.single", (2, cut))):
        qa = KINDS[kind].make(parsed, target, random.Random(0), Templates.packaged())
        assert "transition into the shot" in qa.question


def test_a_shot_too_short_to_print_is_not_asked_about():
    shots = (*DOCUMENT.shots[:2], Shot(3.5, 3.503), replace(DOCUMENT.shots[2], start=3.503))
    parsed = Parsed(replace(DOCUMENT, shots=shots), Vocabulary.of(TAXONOMY))
    assert parsed.shots == [(0.0, 2.0), (2.0, 3.5), (3.5, 6.0)]
    assert [role for role, _ in parsed.roles] == ["exposition", "climax"]


def test_questions_and_answers_give_the_same_times():
    shots = [replace(shot, start=shot.start and shot.start + 0.25) for shot in DOCUMENT.shots]
    shots = [replace(shot, end=after.start) for shot, after in itertools.pairwise(shots)] + shots[-1:]
    parsed = Parsed(replace(DOCUMENT, shots=tuple(shots)), Vocabulary.of(TAXONOMY))
    for seed in range(4):
        qa = KINDS["attribute.single"].make(parsed, (1, [SIZE]), random.Random(seed), Templates.packaged())
        assert "etween 00:00:02.3 and 00:00:03.8" in qa.question
        assert [(s["start"], s["end"]) for s in segments(qa)] == [(2.3, 3.8)]


def test_a_role_is_its_skeleton_segment(ask, parsed):
    assert KINDS["retrieval.role"].targets(parsed)[:2] == ["exposition", "climax"]
    assert segments(ask("retrieval.role", "exposition")) == [{"start": 0.0, "end": 3.5}]
    assert segments(ask("retrieval.role", "denouement")) == []


def test_a_moment_lies_inside_the_shot_that_answers(ask):
    """The next shot has the tag, too: the shot is asked for, not how long the tag holds."""
    assert all("shot" in ask("retrieval.moment", (1, [ANGLE]), seed).wording.template for seed in range(9))
    qa = ask("retrieval.moment", (1, [ANGLE]))
    (minutes, seconds), *_ = re.findall(r"00:(\d\d):(\d\d\.\d)", qa.question)
    assert 2.0 < int(minutes) * 60 + float(seconds) < 3.5
    assert segments(qa) == [{"start": 2.0, "end": 3.5, "labels": {"camera_language": {"shooting_angle": "low angle"}}}]


def test_a_sequence_splits_where_the_tag_changes(ask, parsed):
    assert KINDS["retrieval.sequence"].targets(parsed) == [SIZE, ANGLE, FUNCTION]
    assert [(s["start"], s["end"]) for s in segments(ask("retrieval.sequence", ANGLE))] == [(0.0, 2.0), (2.0, 6.0)]


def test_a_change_is_explained_by_what_it_serves(ask, parsed):
    assert (2, SIZE, FUNCTION) in KINDS["abduction.change"].targets(parsed)
    assert not any(i == 1 and seen == SIZE for i, seen, _ in KINDS["abduction.change"].targets(parsed))  # it stays long
    qa = ask("abduction.change", (2, SIZE, FUNCTION))
    assert qa.truth == "climax" and qa.answer.endswith("<answer>climax</answer>")
    assert "shot size goes from long shot to close-up" in qa.question and "00:00:03.5" in qa.question
    assert "face, or one object, fills the frame" in qa.answer  # the evidence is the taxonomy's own definition


def test_a_perturbed_report_is_wrong_where_the_answer_corrects_it(ask):
    for seed in range(20):
        qa = ask("correction.report", SIZE, seed)
        report = json.loads(re.search(r"\[\{.*\}\]\n", qa.question + "\n")[0].splitlines()[0])
        wrong = {}
        for said, true in zip(report, DOCUMENT.shots, strict=True):
            for dimension, subs in said["labels"].items():
                for sub, tag in subs.items():
                    if tag != true.labels[dimension][sub]:
                        wrong[true.start, dimension, sub] = true.labels[dimension][sub]
        corrected = {
            (s["start"], dimension, sub): tag
            for s in segments(qa)
            for dimension, subs in s["labels"].items()
            for sub, tag in subs.items()
        }
        assert corrected == wrong and 1 <= len(wrong) <= 3
        assert qa.answer.count("is not") == len(wrong)


def test_choices_are_what_the_tag_is_mistaken_for(ask):
    qa = ask("choice.single", (2, SIZE))
    options = dict(re.findall(r"([A-D])\. (.+)", qa.question))
    assert options[qa.truth] == "close-up" and len(set(options.values())) == 4
    near = TAXONOMY.neighbors(*SIZE, "close-up")
    assert set(near[:3]) <= set(options.values())


def sound_documents(count):
    """Documents with random labels that hold together."""
    found, seed = [], 0
    while len(found) < count:
        rng, seed = random.Random(seed), seed + 1
        edges = sorted({0.0, 30.0, *(rng.randrange(1, 300) / 10 for _ in range(rng.randrange(6)))})
        roles = rng.choice([*TAXONOMY.skeletons.values()])
        shots = []
        for a, b in itertools.pairwise(edges):
            labels: dict = {}
            for dimension in TAXONOMY.dimensions.values():
                for name, sub in dimension.sub_dimensions.items():
                    if rng.random() < 0.5:
                        many = sub.cardinality == "many"
                        tags = rng.sample(sub.labels, 1 + many)
                        labels.setdefault(dimension.name, {})[name] = tags if many else tags[0]
            shots.append(Shot(a, b, rng.choice([None, *roles.roles]), labels))
        document = Document(tuple(shots), 30.0, f"clip-{seed}.mp4", roles.name)
        if not any(problem.level == "error" for problem in check_document(document)):
            found.append(document)
    return found


def test_every_answer_of_every_kind_earns_1():
    """By the whole reward, for every target of every kind; the quick check of the parts agrees."""
    templates, checker, seen = Templates.packaged(), Checker(TAXONOMY), set()
    for document in sound_documents(6):
        parsed = Parsed(document, Vocabulary.of(TAXONOMY))
        for name, kind in KINDS.items():
            for number, target in enumerate(kind.targets(parsed)):
                qa = kind.make(parsed, target, random.Random(number), templates)
                assert score(qa.reward, qa.answer, qa.truth).value == pytest.approx(1.0), (name, target)
                checker.check([qa])
                seen.add(name)
    assert seen == set(KINDS)


@pytest.mark.parametrize(
    "damage",
    [
        lambda qa: qa._replace(answer=qa.answer.replace("close-up", "medium shot")),
        lambda qa: qa._replace(answer=qa.answer.replace("6.0", "5.0")),
        lambda qa: qa._replace(answer=qa.answer.replace("3.5", "7.5"), truth=qa.truth.replace("3.5", "7.5")),
        lambda qa: qa._replace(
            answer=qa.answer.replace("close-up", "closer"), truth=qa.truth.replace("close-up", "closer")
        ),
    ],
)
@pytest.mark.parametrize("audited", [True, False])
def test_an_answer_that_does_not_earn_1_is_not_written(ask, damage, audited):
    checker, qa = Checker(TAXONOMY), ask("attribute.single", (2, [SIZE]))
    checker.checked = 0 if audited else 1
    with pytest.raises((AssertionError, ValueError)):
        checker.check([damage(qa)])


def test_of_a_document_s_answers_the_wrong_one_is_named(ask):
    good = [ask("attribute.single", (shot, [SIZE])) for shot in range(3)]
    late = good[1].answer.replace("2.0", "9.0"), good[1].truth.replace("2.0", "9.0")  # ends before it starts
    with pytest.raises((AssertionError, ValueError), match=r"9\.0"):
        Checker(TAXONOMY).check([good[0], good[1]._replace(answer=late[0], truth=late[1]), good[2]])
    Checker(TAXONOMY).check(good)


def test_kinds_keep_their_shares_and_no_target_is_asked_twice():
    generator = Generator(Plan(per_document=29), TAXONOMY, Templates.packaged())
    made = [qa for number, document in enumerate(sound_documents(10)) for qa in generator.questions(document, number)]
    by_kind = {kind: sum(qa.kind == kind for qa in made) / len(made) for kind in KINDS}
    assert by_kind["attribute.single"] == pytest.approx(4 / 25, abs=0.08)
    assert min(by_kind.values()) > 0
    few = Generator(Plan(per_document=500), TAXONOMY, Templates.packaged()).questions(DOCUMENT, 0)
    targets = sum(len(kind.targets(Parsed(DOCUMENT, Vocabulary.of(TAXONOMY)))) for kind in KINDS.values())
    assert len(few) == targets  # a document with no more to ask about is asked less


def write_documents(path, documents, more=()):
    path.write_text("\n".join([*(document.to_json() for document in documents), *more]) + "\n")
    return path


def synthesize(*arguments):
    return CliRunner().invoke(data, ["synthesize", *map(str, arguments)])


def digests(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("qa-*")}


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr("sv6d.sft.synthesis.cli.DOCUMENTS", 4)


def test_files_are_the_same_whoever_writes_them_and_what_is_missing_is_made_again(tmp_path, small_shards):
    source = write_documents(tmp_path / "documents.jsonl", sound_documents(10), ['{"video": "x"}'])
    assert synthesize(source, "-o", tmp_path / "one", "--seed", 3).exit_code == 0
    assert synthesize(source, "-o", tmp_path / "two", "--seed", 3, "--workers", 2).exit_code == 0
    assert digests(tmp_path / "one") == digests(tmp_path / "two") and len(digests(tmp_path / "one")) == 4
    before = digests(tmp_path / "one")
    kept = (tmp_path / "one" / "qa-00000.parquet").stat().st_mtime_ns
    (tmp_path / "one" / "qa-00001.parquet").unlink()
    assert synthesize(source, "-o", tmp_path / "one", "--seed", 3).exit_code == 0
    assert digests(tmp_path / "one") == before and (tmp_path / "one" / "qa-00000.parquet").stat().st_mtime_ns == kept
    assert synthesize(source, "-o", tmp_path / "three", "--seed", 4).exit_code == 0
    assert digests(tmp_path / "three")["qa-00000.parquet"] != before["qa-00000.parquet"]


def test_rows_are_sft_rows(tmp_path):
    source = write_documents(tmp_path / "documents.jsonl", [DOCUMENT])
    (tmp_path / "film.mp4").write_bytes(b"")
    assert synthesize(source, "-o", tmp_path / "qa", "--videos", tmp_path).exit_code == 0
    rows = read_rows(tmp_path / "qa" / "qa-00000.parquet")
    for row in rows:
        validate_row(row, tmp_path)
        assert row["messages"][:2] == row["prompt"] and row["messages"][2]["role"] == "assistant"
        assert row["videos"] == [{"video": str(tmp_path / "film.mp4")}] and row["extra_info"]["duration"] == 6.0
    assert {row["extra_info"]["dataset"].split("/")[0] for row in rows} == {"synthesis"}


def test_rows_that_are_written_in_groups_are_the_same_rows(tmp_path, monkeypatch):
    source = write_documents(tmp_path / "documents.jsonl", sound_documents(3))
    assert synthesize(source, "-o", tmp_path / "one").exit_code == 0
    monkeypatch.setattr("sv6d.sft.synthesis.shards.GROUP", 10)
    assert synthesize(source, "-o", tmp_path / "many").exit_code == 0
    one, many = (tmp_path / name / "qa-00000.parquet" for name in ("one", "many"))
    assert read_rows(many) == read_rows(one) and pq.ParquetFile(many).num_row_groups == 3
    assert [row["extra_info"]["index"] for row in read_rows(many)] == list(range(len(read_rows(one))))


def test_documents_that_cannot_be_used_are_kept_with_the_reason(tmp_path):
    gap = json.loads(DOCUMENT.to_json())
    gap["shots"][1]["start"] = 2.5
    gap["shots"][2]["role"] = "climaks"
    source = write_documents(tmp_path / "documents.jsonl", [DOCUMENT], ["not json", json.dumps(gap)])
    result = synthesize(source, "-o", tmp_path / "qa")
    assert result.exit_code == 0 and "2 documents cannot be used" in result.output
    bad = [json.loads(line) for line in (tmp_path / "qa" / "qa-00000.rejected.jsonl").read_text().splitlines()]
    assert [(row["file"], row["line"]) for row in bad] == [(str(source), 2), (str(source), 3)]
    assert "not a structural document" in bad[0]["reason"]
    assert "gap; shots must tile the video" in bad[1]["reason"] and "did you mean 'climax'" in bad[1]["reason"]


def test_a_folder_with_rejected_documents_can_be_trained_on(tmp_path):
    source = write_documents(tmp_path / "documents.jsonl", [DOCUMENT], ["not json"])
    (tmp_path / "film.mp4").write_bytes(b"")
    assert synthesize(source, "-o", tmp_path / "sft", "--videos", tmp_path).exit_code == 0
    assert (tmp_path / "sft" / "qa-00000.rejected.jsonl").exists()
    rows = rows_by_task(str(tmp_path / "sft"))
    assert sum(map(len, rows.values())) == count_rows(str(tmp_path / "sft")) > 0
    told = CliRunner().invoke(data, ["stats", str(tmp_path / "sft"), "--json"])
    assert told.exit_code == 0 and json.loads(told.stdout)["rows"] == {task: len(own) for task, own in rows.items()}
    assert CliRunner().invoke(data, ["balance", str(tmp_path / "sft"), "-o", str(tmp_path / "even")]).exit_code == 0


def test_documents_with_warnings_are_used_and_counted(tmp_path):
    odd = json.loads(DOCUMENT.to_json()) | {"shot": []}
    source = write_documents(tmp_path / "documents.jsonl", [DOCUMENT], [json.dumps(odd)])
    result = synthesize(source, "-o", tmp_path / "qa")
    assert result.exit_code == 0 and "pairs of 2 documents" in result.output
    assert "1 of these have warnings; `sv6d data documents` prints them" in result.output


def test_corrected_documents_of_equal_size_are_other_documents(tmp_path):
    source = write_documents(tmp_path / "documents.jsonl", [DOCUMENT])
    assert synthesize(source, "-o", tmp_path / "qa").exit_code == 0
    source.write_text(source.read_text().replace("eye-level", "low angle"))
    result = synthesize(source, "-o", tmp_path / "qa")
    assert result.exit_code == 1 and "holds the output of other documents" in result.output


def test_only_some_kinds(tmp_path):
    source = write_documents(tmp_path / "documents.jsonl", [DOCUMENT])
    assert synthesize(source, "-o", tmp_path / "qa", "--only", "choice", "--only", "retrieval.role").exit_code == 0
    kinds = {row["extra_info"]["dataset"] for row in read_rows(tmp_path / "qa" / "qa-00000.parquet")}
    assert kinds == {"synthesis/choice.single", "synthesis/retrieval.role"}
    result = synthesize(source, "-o", tmp_path / "other", "--only", "choices")
    assert result.exit_code == 1 and "'choices' is no kind of question; there are abduction, attribute" in result.output


def test_an_output_of_other_settings_is_left_alone(tmp_path):
    source = write_documents(tmp_path / "documents.jsonl", [DOCUMENT])
    assert synthesize(source, "-o", tmp_path / "qa").exit_code == 0
    result = synthesize(source, "-o", tmp_path / "qa", "--seed", 1)
    assert result.exit_code == 1 and "holds the output of other documents or settings" in result.output
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert synthesize(source, "-o", tmp_path / "mine").exit_code == 1
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def template_file(path, change):
    told = yaml.safe_load((Path(__file__).parents[2] / "sft" / "synthesis" / "templates.yaml").read_text())
    change(told)
    path.write_text(yaml.safe_dump(told))
    return path


def test_wordings_of_one_s_own(tmp_path):
    def change(told):
        told["tasks"]["choice.single"] = ["Which {names}?\n{options}"]
        told["systems"]["choice"] = "Choose."

    file = template_file(tmp_path / "mine.yaml", change)
    source = write_documents(tmp_path / "documents.jsonl", [DOCUMENT])
    assert synthesize(source, "-o", tmp_path / "qa", "--only", "choice", "--templates", file).exit_code == 0
    row = read_rows(tmp_path / "qa" / "qa-00000.parquet")[0]
    assert row["prompt"][0]["content"] == "Choose." and row["prompt"][1]["content"].startswith("<video>Which ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told["tasks"].update({"choice.many": ["x"]}), "tasks.choice.many is no kind of question"),
        (lambda told: told["tasks"].update({"choice.single": []}), "give tasks.choice.single a wording at least"),
        (
            lambda told: told["tasks"].update({"choice.single": ["{spam}"]}),
            r"tasks.choice.single\[0\]: {spam} is no place",
        ),
        (
            lambda told: told["tasks"].update({"choice.single": ["{names"]}),
            r"'{names' is no wording .*; write {{ and }}",
        ),
        (lambda told: told.pop("systems"), "is no template file"),
    ],
)
def test_a_template_file_s_mistake_is_named(tmp_path, change, words):
    with pytest.raises(TemplateError, match=words):
        Templates(template_file(tmp_path / "mine.yaml", change))
