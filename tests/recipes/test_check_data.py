"""Rows against the schema, against the quotas of the run, and the inputs that must be there at all."""

import shutil
from pathlib import Path

import pytest
from preflight import SEGMENTS, example, findings, only, subject, write_json, write_task
from sv6d.data_mixers.rows import Example, to_rl_row, write_rows
from sv6d.recipes.checking import inputs
from sv6d.recipes.checking.data import held_out, media_files, quotas, rows
from sv6d.recipes.checking.finding import NotKnown


def of(folder, *settings, **options):
    return subject("cpu_demo", f"sv6d.data={folder}", *settings, **options)


@pytest.fixture
def sound(tmp_path) -> Path:
    """20 rows of two tasks, whose media are not there."""
    write_task(tmp_path, [example("shot_framing") for _ in range(20)])
    write_task(tmp_path, [example("ocr_regular", "a.png", "text") for _ in range(20)])
    return tmp_path


def test_rows_that_fit_are_counted_without_a_look_at_their_media(sound):
    assert findings(rows, of(sound)) == [("note", "40 rows of 2 tasks fit the schema")]


def test_a_few_broken_rows_are_a_warning_and_many_an_error(tmp_path):
    wrong = SEGMENTS.replace("medium shot", "somewhat close")
    write_task(tmp_path, [example(truth=SEGMENTS) for _ in range(20)] + [example(truth=wrong)])
    level, text = only(rows, of(tmp_path))
    assert level == "warning" and text.startswith("1 of 21 rows of shot_framing are broken and will be skipped")
    assert "somewhat close" in text
    write_task(tmp_path, [example(truth=SEGMENTS), example(truth=wrong)])
    level, text = only(rows, of(tmp_path))
    assert level == "error" and "1 of 2 rows of shot_framing are broken, more than 10%" in text


def test_rows_of_no_task_are_an_error(tmp_path):
    write_rows([{**to_rl_row(example(), 0), "data_source": "shot_framming"}], tmp_path / "rl" / "a.parquet")
    level, text = only(rows, of(tmp_path))
    assert level == "error" and "1 rows are of no task" in text and "shot_framming" in text


def test_a_file_that_is_no_row_file_is_an_error(tmp_path):
    (tmp_path / "rl").mkdir()
    (tmp_path / "rl" / "a.parquet").write_text("no parquet")
    for check in (rows, quotas):
        level, text = only(check, of(tmp_path))
        assert level == "error" and "a.parquet" in text
    with pytest.raises(NotKnown):  # the others pass over it
        findings(media_files, of(tmp_path))


def test_missing_media_are_told_by_task_with_the_first(sound):
    [_, (level, text)] = findings(media_files, of(sound))
    assert level == "error" and "20 of 20 rows of shot_framing lack their media" in text and "clip.mp4" in text


STEPS = ["trainer.total_training_steps=20", "data.train_batch_size=2", "data.mixture.length=56", "sv6d.tasks=2"]


@pytest.fixture
def few(tmp_path) -> Path:
    """Steps of two prompts over 3 rows of `subject` and 50 of `ocr_regular`."""
    write_task(tmp_path, [Example("subject", ["a.mp4"], "[]") for _ in range(3)])
    write_task(tmp_path, [Example("ocr_regular", ["a.png"], "a") for _ in range(50)])
    return tmp_path


def test_passes_over_the_rows_and_the_step_at_which_they_are_used_up_are_told(few):
    # One of each a step: 20 draws over 3 rows. Subject's three rows last for three steps; position 5 is the first after the third.
    assert findings(quotas, of(few, *STEPS)) == [
        ("note", "20 steps draw 20 prompts of subject, which has 3 rows: 6.7 passes, the most of 2 tasks"),
        (
            "note",
            "every row is used once: subject in step 3; then the next pass over them begins (data.mixture.exhausted=repeat)",
        ),
    ]


def test_so_many_passes_that_rows_may_be_learnt_by_heart_are_a_warning(few):
    level, text = findings(quotas, of(few, *STEPS, "trainer.total_training_steps=40", "data.mixture.length=96"))[0]
    assert (
        level == "warning"
        and "subject, which has 3 rows: 13.3 passes" in text
        and "lower data.mixture.weights.subject" in text
    )


@pytest.mark.parametrize(
    ("exhausted", "then"),
    [("renormalise", "the others go on without them"), ("stop", "the stream ends at the next draw")],
)
def test_what_happens_when_rows_are_used_up_is_told(few, exhausted, then):
    short = ["trainer.total_training_steps=3", "data.mixture.length=6", f"data.mixture.exhausted={exhausted}"]
    assert f"subject in step 3; then {then}" in findings(quotas, of(few, *STEPS, *short))[1][1]


def test_a_run_within_its_rows_is_told_its_passes_alone(few):
    [(level, text)] = findings(quotas, of(few, *STEPS, "trainer.total_training_steps=2", "data.mixture.length=4"))
    assert level == "note" and "0.7 passes" in text


def test_a_run_that_outlasts_its_sources_is_an_error(few):
    level, text = only(quotas, of(few, *STEPS, "data.mixture.exhausted=stop"))
    assert level == "error" and "the run needs 56 prompts and the mixture ends at position 6 (step 4)" in text


def test_weights_that_do_not_fit_the_rows_are_an_error(few):
    level, text = only(quotas, of(few, *STEPS, "data.mixture.weights={subject: 1}"))
    assert level == "error" and "weights and sources differ: no weight for 'ocr_regular'" in text


def test_weights_in_segments_are_followed(few):
    plan = "[{start: 0, weights: {subject: 1, ocr_regular: 4}}, {start: 20, weights: {subject: 1, ocr_regular: 1}}]"
    assert "subject in step 7" in findings(quotas, of(few, *STEPS, f"data.mixture.weights={plan}"))[1][1]


def test_tasks_without_rows_are_named(few):
    level, text = findings(quotas, of(few, "data.train_batch_size=390", *STEPS[:1], "data.mixture.length=8000"))[0]
    assert level == "warning"
    assert (
        "the rows are of 2 tasks and sv6d.tasks=13: a step of 390 prompts then has about 195 of each instead of 30"
        in text
    )
    assert "shot_framing" in text


def test_another_dataset_is_not_foretold(few):
    assert only(quotas, of(few, "data.custom_cls.name=Other"))[0] == "note"


def test_the_sample_is_even_over_the_tasks_and_the_same_for_a_seed(sound):
    sample = of(sound, sample=6, seed=3).sample
    assert [row["data_source"] for row in sample] == ["ocr_regular", "shot_framing"] * 3
    assert sample == of(sound, sample=6, seed=3).sample != of(sound, sample=6, seed=4).sample


def present(*settings) -> list[str]:
    return [text for _, text in findings(inputs.present, subject("cpu_demo", *settings))]


def test_a_missing_model_folder_is_named(tmp_path, sound):
    [text] = present(f"sv6d.model={tmp_path / 'model'}", f"sv6d.data={sound}")
    assert text.startswith(f"sv6d.model={tmp_path / 'model'}: no such folder")


def test_a_name_that_may_be_a_mistyped_folder_is_told(sound):
    [text] = present("sv6d.model=checkpoints/sft", f"sv6d.data={sound}")
    assert text.startswith("sv6d.model=checkpoints/sft is no folder here, nor in the cache of the Hugging Face Hub")


def test_a_model_of_the_hub_that_was_downloaded_is_looked_at_as_a_folder(tmp_path, sound, monkeypatch):
    """The Hub's cache as its client lays it out."""
    cached = tmp_path / "models--leum--sft"
    write_json(cached / "snapshots" / "abc" / "config.json", {"model_type": "qwen3_vl"})
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert present("sv6d.model=leum/sft", f"sv6d.data={sound}") == []
    of = subject("cpu_demo", "sv6d.model=leum/sft")
    assert of.model_config == {"model_type": "qwen3_vl"} and of.model_folder == cached / "snapshots" / "abc"


def test_a_folder_above_the_model_points_to_it(tmp_path, sound):
    write_json(tmp_path / "model" / "huggingface" / "config.json", {})
    [text] = present(f"sv6d.model={tmp_path / 'model'}", f"sv6d.data={sound}")
    assert "has no config.json" in text and str(tmp_path / "model" / "huggingface") in text


def test_a_broken_configuration_of_the_model_is_an_error(tmp_path, sound):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{")
    [text] = present(f"sv6d.model={tmp_path / 'model'}", f"sv6d.data={sound}")
    assert "config.json is not JSON" in text


def test_missing_rows_are_named_with_the_command_that_makes_some(tmp_path):
    write_json(tmp_path / "model" / "config.json", {})
    text, other = present(f"sv6d.model={tmp_path / 'model'}", f"sv6d.data={tmp_path / 'data'}")
    assert f"there is no row file in {tmp_path / 'data' / 'rl'}" in text
    assert f"sv6d data demo --out {tmp_path / 'data'}" in text
    assert f"there is no row file in {tmp_path / 'data' / 'heldout'}" in other


def test_rows_held_out_are_looked_at_like_the_others_and_have_to_be_there(tmp_path, sound):
    assert findings(held_out, of(sound)) == [("note", "40 held-out rows of 2 tasks fit the schema")]
    file = sound / "heldout" / "shot_framing.parquet"
    write_rows([to_rl_row(example(truth=SEGMENTS.replace("medium shot", "somewhat close")), 0)], file)
    level, text = only(held_out, of(sound))
    assert level == "error" and text.startswith("1 of 1 held-out rows of shot_framing are broken, more than 10%")
    shutil.rmtree(sound / "heldout")
    write_json(tmp_path / "model" / "config.json", {})
    [text] = present(f"sv6d.model={tmp_path / 'model'}", f"sv6d.data={sound}")
    assert f"there is no row file in {sound / 'heldout'}. Give a folder with heldout/<task>.parquet" in text


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.train_files=/no/rows", "data.train_files: /no/rows does not exist"),
        ("data.val_files=/no/rows", "data.val_files: /no/rows does not exist"),
        ("data.custom_cls.path=/no/x.py", "data.custom_cls.path=/no/x.py is not there; mend the path"),
        ("reward.custom_reward_function.path=mine.py", "reward.custom_reward_function.path=mine.py is not there"),
        ("trainer.resume_mode=yes please", "trainer.resume_mode=yes please is none of auto, disable and resume_path"),
        ("trainer.resume_mode=resume_path", "trainer.resume_from_path=nowhere is not there"),
    ],
)
def test_whatever_else_is_named_by_its_path_has_to_be_there(tmp_path, sound, setting, said):
    write_json(tmp_path / "model" / "config.json", {})
    [text] = present(f"sv6d.model={tmp_path / 'model'}", f"sv6d.data={sound}", setting)
    assert text.startswith(said)


def test_more_gpus_than_there_are_are_an_error_where_the_run_would_be_here(monkeypatch):
    monkeypatch.setattr(inputs, "gpus_here", lambda: 4)
    level, text = only(inputs.gpus, subject("leum_8b_1node"))
    assert level == "error" and "asks for 8 GPUs" in text and "Set trainer.n_gpus_per_node=4" in text
    assert (
        findings(inputs.gpus, subject("leum_8b_1node", "trainer.nnodes=2")) == []
    )  # a cluster's nodes are asked instead
    monkeypatch.setattr(inputs, "gpus_here", lambda: 0)
    assert only(inputs.gpus, subject("leum_8b_1node"))[0] == "warning"  # written here, run elsewhere
