"""Constrained answers: gold answers keep to them, whatever keeps to them earns Format 1, and the real compilers take them."""

import json
from itertools import product

import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sv6d.recipes.cli import main
from sv6d.rewards import score
from sv6d.schema import TASKS, TaskError, Taxonomy, TaxonomyError, load_tasks
from sv6d.schema.answer_grammar import compact_constraint
from sv6d.schema.answer_schema import LimitError, Limits, answer_schema, constraint, thought_pattern

TAXONOMY = Taxonomy.load()
JSON_TASKS = [task for task in TASKS.values() if task.family in ("temporal_grounding", "action_localization")]
LIMITS = {
    "none": Limits(),
    "some": Limits(duration=30.0, max_segments=4, max_tags=2),
    "ordered": Limits(duration=3.3, step=0.5, max_segments=3),
}
every_json_task = pytest.mark.parametrize("task", JSON_TASKS, ids=lambda task: task.id)


def gold(task, first_labelled=True):
    """Three segments; the second has one of the asked sub-dimensions only, as public annotations often have."""
    segments = []
    for i, (start, end) in enumerate([(0.0, 1.1), (1.1, 2.0), (2.0, 3.3)]):
        segments.append({"start": start, "end": end})
        if not task.labels:
            continue
        labels = segments[-1]["labels"] = {}
        if i == 0 and not first_labelled:
            continue
        for dimension, name in task.labels[: 1 if i == 1 else None]:
            sub = TAXONOMY.sub_dimension(dimension, name)
            labels.setdefault(dimension, {})[name] = [sub.labels[i]] if sub.cardinality == "many" else sub.labels[i]
    return {"segments": segments}


@every_json_task
@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_gold_answers_are_valid(task, limits):
    schema = answer_schema(task, limits=limits)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(gold(task), schema)
    if task.first_unlabelled:
        jsonschema.validate(gold(task, first_labelled=False), schema)


@every_json_task
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_whatever_is_valid_earns_format_1(answers, task, data):
    """Under `ordered` limits; the one exception: a first shot without labels where the truth labels it."""
    schema = answer_schema(task, limits=LIMITS["ordered"])
    answer = data.draw(answers(schema))
    jsonschema.validate(answer, schema)
    components = score(task.id, json.dumps(answer), json.dumps(gold(task))).components
    if task.labels:
        assert components["r_prof"] == 0.0
    if not task.first_unlabelled or answer["segments"][0]["labels"]:
        assert components["format"] == 1.0


@every_json_task
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_without_a_step_only_a_reversed_segment_costs_format(answers, task, data):
    answer = data.draw(answers(answer_schema(task, limits=LIMITS["none"])))
    in_order = all(segment["start"] <= segment["end"] for segment in answer["segments"])
    if not task.first_unlabelled or answer["segments"][0]["labels"]:
        format = score(task.id, json.dumps(answer), json.dumps(gold(task))).components["format"]
        assert (format == 1.0) == in_order


@every_json_task
def test_what_is_required_is_what_the_form_check_asks(task):
    """Each required key, when it is taken out, costs Format."""
    truth = gold(task)
    places = [("segments",)] + [("segments", 2, key) for key in truth["segments"][2]]
    places += [("segments", 2, "labels", dimension) for dimension, _ in task.labels[:1]]
    for place in places:
        answer = json.loads(json.dumps(truth))
        holder = answer
        for key in place[:-1]:
            holder = holder[key]
        del holder[place[-1]]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(answer, answer_schema(task))
        assert score(task.id, json.dumps(answer), json.dumps(truth)).components["format"] < 1.0


def test_tags_are_those_of_the_taxonomy_and_the_limits_hold():
    schema = answer_schema("camera_movement", limits=Limits(max_segments=2, max_tags=2))
    tag = {"camera_language": {"camera_movement": ["roll"]}}
    segment = {"start": 0.0, "end": 1.5, "labels": tag}
    wrong = {
        "a tag of no taxonomy": {"camera_language": {"camera_movement": ["dolly in"]}},
        "no tag": {"camera_language": {"camera_movement": []}},
        "text where a list is asked": {"camera_language": {"camera_movement": "roll"}},
        "too many tags": {"camera_language": {"camera_movement": ["roll", "arc", "truck"]}},
        "another task's sub-dimension": {"camera_language": {"shot_size": "close-up"}},
        "an empty dimension": {"camera_language": {}},
    }
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"segments": [segment, segment]})
    assert not validator.is_valid({"segments": [segment] * 3}), "too many segments"
    assert not validator.is_valid({"segments": []}), "a film has at least one segment"
    assert not validator.is_valid({"segments": [segment | {"start": -1.0}]})
    assert not validator.is_valid({"segments": [segment | {"end": 1e300}]})
    for reason, labels in wrong.items():
        assert not validator.is_valid({"segments": [segment | {"labels": labels}]}), reason


def test_an_event_may_not_happen_at_all():
    jsonschema.validate({"segments": []}, answer_schema("temporal_action_localization"))


def test_a_step_keeps_every_end_behind_its_start():
    """Cells 0-1, 1-2, 2-2.5: the end lies at or beyond the end of the cell in which the start lies."""
    validator = jsonschema.Draft202012Validator(
        answer_schema("temporal_action_localization", limits=Limits(duration=2.5, step=1))
    )
    valid = {(0.0, 1.0), (0.3, 1.2), (1.0, 1.0), (1.0, 2.0), (1.7, 2.5), (2.5, 2.5)}
    for times in valid | {(1.2, 0.3), (0.3, 0.9), (2.5, 2.0), (1.7, 1.8), (2.0, 3.0)}:
        answer = {"segments": [{"start": times[0], "end": times[1]}]}
        assert validator.is_valid(answer) == (times in valid), times


@settings(max_examples=100, deadline=None)
@given(
    st.from_regex(thought_pattern(), fullmatch=True)
    | st.from_regex(thought_pattern(Limits(max_text=9)), fullmatch=True)
)
def test_a_thought_and_its_answer_earn_format_1(text):
    assert score("visual_reasoning", text, "B").components["format"] == 1.0


def test_ocr_is_free_text():
    assert constraint("ocr_handwritten") == {}
    with pytest.raises(TaskError, match="no JSON"):
        answer_schema("ocr_handwritten")


def test_a_task_and_taxonomy_of_ones_own(tmp_path):
    path = tmp_path / "taxonomy.yaml"
    path.write_text(
        "dimensions:\n  look:\n    index: 1\n    sub_dimensions:\n      size:\n        metric: ordinal\n"
        "        labels: [{name: far, rank: 0}, {name: near, rank: 1}]\n"
    )
    taxonomy = Taxonomy.load(path)
    table = tmp_path / "tasks.yaml"
    table.write_text(
        "tasks:\n  sizes: {bucket: b, family: temporal_grounding, media: video, prompt: p, labels: [look.size]}\n"
    )
    task = load_tasks(table, taxonomy)["sizes"]
    labels = answer_schema(task, taxonomy)["$defs"]["labels"]["properties"]
    assert labels["look"]["properties"]["size"]["enum"] == ["far", "near"]
    done = CliRunner().invoke(main, ["schema", "sizes", "--tasks", str(table), "--taxonomy", str(path)])
    assert json.loads(done.stdout) == {"json": answer_schema(task, taxonomy)}
    with pytest.raises(TaxonomyError, match="no dimension 'camera_language'"):
        answer_schema("shot_framing", taxonomy)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"duration": 0}, "duration = 0"),
        ({"duration": float("nan")}, "duration = nan"),
        ({"max_tags": 1.5}, "max_tags = 1.5"),
        ({"max_segments": True}, "max_segments = True"),
        ({"step": -0.1}, "step = -0.1"),
        ({"max_segment": 3}, "did you mean 'max_segments'"),
    ],
)
def test_a_wrong_limit_is_named(limits, said):
    with pytest.raises(LimitError, match=said):
        Limits.read(limits)


@every_json_task
@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_xgrammar_takes_the_schema_and_agrees_on_what_is_valid(accepts, task, limits):
    found = constraint(task, limits=limits)
    right = gold(task)
    assert accepts(found, json.dumps(right))
    assert accepts(found, json.dumps(right, separators=(",", ":")))
    assert not accepts(found, json.dumps({"segments": [right["segments"][0] | {"end": -1.0}]}))
    assert not accepts(found, json.dumps(right | {"more": 1}))
    if task.labels:
        assert not accepts(found, json.dumps(right).replace('"labels": {"', '"labels": {"un'))
    if limits.step:
        reversed_times = {"segments": [right["segments"][0] | {"start": 2.5, "end": 1.0}]}
        assert not accepts(found, json.dumps(reversed_times))


def test_xgrammar_takes_the_thought_pattern(accepts):
    for limits in (Limits(), Limits(max_text=40)):
        found = constraint("visual_reasoning", limits=limits)
        assert accepts(found, "<think>\nx < 3, so 中\n</think>\n<answer>B) a red car</answer>")
        for wrong in (
            "B",
            "<think> </think><answer>B</answer>",
            "<think>a<think>b</think><answer>B</answer>",
            "<think>a<|endoftext|></think><answer>B</answer>",
        ):
            assert not accepts(found, wrong)
    assert not accepts(found, f"<think>{'a' * 41}</think><answer>B</answer>")


@pytest.mark.parametrize("task", TASKS)
def test_vllm_takes_every_constraint(task):
    """vLLM's own check of a request, which refuses what its grammar backend does not support."""
    from vllm.sampling_params import SamplingParams, StructuredOutputsParams
    from vllm.v1.structured_output.backend_xgrammar import validate_xgrammar_grammar

    for limits, form in product(LIMITS.values(), (constraint, compact_constraint)):
        if found := form(task, limits=limits):
            validate_xgrammar_grammar(SamplingParams(structured_outputs=StructuredOutputsParams(**found)))


def test_the_command_prints_what_vllm_takes():
    done = CliRunner().invoke(main, ["schema", "shot_framing", "--duration", "8", "--max-segments", "3"])
    assert json.loads(done.stdout) == constraint("shot_framing", limits=Limits(duration=8.0, max_segments=3))
    done = CliRunner().invoke(main, ["schema", "visual_reasoning", "--max-text", "200"])
    assert json.loads(done.stdout) == constraint("visual_reasoning", limits=Limits(max_text=200))
    done = CliRunner().invoke(main, ["schema", "shot_framing", "--compact"])
    assert json.loads(done.stdout) == compact_constraint("shot_framing")
    done = CliRunner().invoke(main, ["schema", "ocr_regular"])
    assert json.loads(done.stdout) == {} and "free text" in done.stderr


def test_the_command_teaches():
    done = CliRunner().invoke(main, ["schema", "shot_frame"])
    assert done.exit_code == 1 and "shot_framing" in done.stderr
    done = CliRunner().invoke(main, ["schema", "shot_framing", "--step", "0.5"])
    assert done.exit_code == 2 and "needs --duration" in done.stderr
    assert "sv6d_constrained" in CliRunner().invoke(main, ["schema", "--help"]).stdout
