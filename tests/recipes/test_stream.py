"""What a GRPO run is told of its mixture before it starts."""

import pytest
from sv6d.data_mixers.rows import Example, to_rl_row, write_rows
from sv6d.recipes.compose import RecipeError, compose
from sv6d.recipes.stream import foretell


@pytest.fixture
def config(tmp_path):
    """Steps of two prompts over 3 rows of `subject` and 50 of `ocr_regular`."""
    for task, media, count in (("subject", "a.mp4", 3), ("ocr_regular", "a.png", 50)):
        rows = [to_rl_row(Example(task, [media], "[]"), index) for index in range(count)]
        write_rows(rows, tmp_path / "rl" / f"{task}.parquet")

    def config(*overrides):
        open_settings = [f"sv6d.data={tmp_path}", "sv6d.model=M", "sv6d.run_dir=R"]
        steps = ["sv6d.steps=20", "sv6d.prompts_per_step=2"]
        return compose("grpo", "cpu_demo", [*open_settings, *steps, *overrides])

    return config


def test_the_step_at_which_rows_are_used_up_is_told(config):
    # One of each a step: subject's three rows last for three steps, and position 5 is the first after the third.
    assert foretell(config()) == (
        "every row is used once: subject in step 3; then the next pass over them begins (data.mixture.exhausted=repeat)"
    )


@pytest.mark.parametrize(
    ("exhausted", "then"),
    [("renormalise", "the others go on without them"), ("stop", "the stream ends at the next draw")],
)
def test_what_then_happens_is_told(config, exhausted, then):
    settings = ["sv6d.steps=3", "data.mixture.length=6", f"data.mixture.exhausted={exhausted}"]
    assert f"subject in step 3; then {then}" in foretell(config(*settings))


def test_a_run_within_its_rows_is_told_nothing(config):
    assert foretell(config("sv6d.steps=2", "data.mixture.length=4")) is None


def test_a_run_that_outlasts_its_sources_is_refused(config):
    with pytest.raises(RecipeError) as error:
        foretell(config("data.mixture.exhausted=stop"))
    assert "the run needs 56 prompts and the mixture ends at position 6 (step 4)" in error.value.message


def test_weights_that_do_not_fit_the_rows_are_refused(config):
    with pytest.raises(RecipeError) as error:
        foretell(config("++data.mixture.weights.subject=1"))
    assert "data.mixture: weights and sources differ: no weight for 'ocr_regular'" in error.value.message


def test_segments_are_settings(config):
    plan = "[{start: 0, weights: {subject: 1, ocr_regular: 4}}, {start: 20, weights: {subject: 1, ocr_regular: 1}}]"
    assert "subject in step 7" in foretell(config(f"data.mixture.weights={plan}"))


def test_another_dataset_is_not_foretold(config):
    assert foretell(config("data.custom_cls.name=Other")) is None
