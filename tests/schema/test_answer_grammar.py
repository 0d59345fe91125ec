"""The grammar of answers allows what the schema allows, written as the prompt shows it."""

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sv6d.schema import TASKS, TaskError, Taxonomy
from sv6d.schema.answer_grammar import _interval, answer_grammar, compact_constraint
from sv6d.schema.answer_schema import Limits, answer_schema

TAXONOMY = Taxonomy.load()
JSON_TASKS = [task for task in TASKS.values() if task.family in ("temporal_grounding", "action_localization")]
LIMITS = {
    "none": Limits(),
    "some": Limits(duration=12.34, max_segments=3, max_tags=2),
    "one": Limits(duration=5, max_segments=1, max_tags=1),
    "ordered": Limits(duration=3.3, step=0.5, max_segments=3),
    "long cells": Limits(duration=30.25, step=2.5),
}
every_json_task = pytest.mark.parametrize("task", JSON_TASKS, ids=lambda task: task.id)


def written(answer):
    return json.dumps(answer, separators=(",", ":"))


@every_json_task
@settings(max_examples=12, deadline=None)
@given(data=st.data(), limits=st.sampled_from(list(LIMITS.values())))
def test_it_allows_what_the_schema_allows(answers, accepts, task, limits, data):
    answer = data.draw(answers(answer_schema(task, limits=limits), decimals=True))
    assert accepts(compact_constraint(task, limits=limits), written(answer))


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_it_allows_no_times_that_the_schema_refuses(accepts, limits, data):
    thousandths = st.integers(-100, 35_000).map(lambda n: n / 1000)
    times = data.draw(st.lists(st.tuples(thousandths, thousandths), max_size=4))
    answer = {"segments": [{"start": start, "end": end} for start, end in times]}
    valid = jsonschema.Draft202012Validator(answer_schema("temporal_action_localization", limits=limits))
    assert accepts(
        compact_constraint("temporal_action_localization", limits=limits), written(answer)
    ) == valid.is_valid(answer)


@every_json_task
def test_it_allows_no_labels_that_the_schema_refuses(accepts, task):
    """Each mutation of a right answer, with the first segment labelled and not."""
    if not task.labels:
        return
    (dimension, name), limits = task.labels[0], Limits(max_tags=2)
    sub = TAXONOMY.sub_dimension(dimension, name)
    one, two, three = sub.labels[:3]
    for value in (one, [one], [], [one, two], [one, two, three], "no such tag", 3, None):
        for labels in ({dimension: {name: value}}, {dimension: {}}, {}, {"no such dimension": {name: value}}):
            segment = {"start": 0, "end": 1, "labels": labels}
            for segments in ([segment], [segment, segment]):
                answer = {"segments": segments}
                valid = jsonschema.Draft202012Validator(answer_schema(task, limits=limits)).is_valid(answer)
                assert accepts(compact_constraint(task, limits=limits), written(answer)) == valid, answer


@every_json_task
def test_the_form_in_the_prompt_is_allowed(accepts, task):
    """With a tag of the taxonomy in each place that says so."""
    shown = task.prompt.rpartition("times in seconds: ")[2]
    for pair in task.labels:
        shown = shown.replace('"tag"', json.dumps(TAXONOMY.sub_dimension(*pair).labels[0]), 1)
    assert accepts(compact_constraint(task), shown)
    assert not accepts(compact_constraint(task), shown.replace(":", ": ")), "no white space"


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 500), (250, 500), (333, 666), (999, 1000), (1750, 2000), (0, 9000), (1999, 2001), (7000, 7001)],
)
def test_an_interval_holds_its_numbers_and_no_others(accepts, low, high):
    """Near its bounds and at every tenth of a second, with one to three decimals and none."""
    found = {"grammar": f'root ::= {_interval(low, high)}\ndecimals ::= ("." [0-9] [0-9]? [0-9]?)?\n'}
    near = {n for bound in (low, high) for n in range(max(bound - 3, 0), bound + 4)}
    for n in near | set(range(0, 12_000, 100)):
        whole, rest = divmod(n, 1000)
        forms = [f"{whole}.{rest:03d}"]
        forms += [f"{whole}.{rest // 10:02d}"] * (rest % 10 == 0) + [f"{whole}.{rest // 100}"] * (rest % 100 == 0)
        for form in [*forms, *([str(whole)] if rest == 0 else [])]:
            assert accepts(found, form) == (low <= n < high), form
    assert not accepts(found, "00") and not accepts(found, f"{low // 1000}.0000")


def test_it_stays_small():
    """A minute in half seconds, which as a schema has 33,000 characters."""
    limits = Limits(duration=60, step=0.5)
    assert len(answer_grammar("shot_framing", limits=limits)) < 20_000
    assert len(json.dumps(answer_schema("shot_framing", limits=limits))) > 30_000


def test_other_families_have_none():
    assert compact_constraint("ocr_regular") == {}
    assert set(compact_constraint("visual_reasoning")) == {"regex"}
    with pytest.raises(TaskError, match="no JSON"):
        answer_grammar("ocr_regular")
