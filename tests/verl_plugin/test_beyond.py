"""The settings of `sv6d.beyond`: off by default, and a wrong one is named with its mend."""

import pytest
from omegaconf import OmegaConf
from sv6d.verl_plugin.beyond import Beyond, Difficulty, Length, TaskEma, read_settings


def settings(beyond, estimator="grpo"):
    return read_settings(OmegaConf.create({"sv6d": {"beyond": beyond}, "algorithm": {"adv_estimator": estimator}}))


def test_without_a_block_all_is_off():
    assert read_settings(OmegaConf.create({"algorithm": {"adv_estimator": "gae"}})) == Beyond(None, None, None)


def test_what_the_recipes_have_is_off():
    from sv6d.recipes.compose import compose

    config = compose("grpo", "cpu_demo", ["sv6d.data=d", "sv6d.model=m", "sv6d.run_dir=r"])
    assert not any(read_settings(config))
    on = ["sv6d.beyond.task_ema.decay=0.99", "sv6d.beyond.difficulty.stage=hard", "sv6d.beyond.length.weight=0.5"]
    config = compose("grpo", "cpu_demo", ["sv6d.data=d", "sv6d.model=m", "sv6d.run_dir=r", *on])
    assert read_settings(config) == Beyond(TaskEma(0.99, 5.0), Difficulty("hard", 0.25), Length(0.5, 0.5, 750))


def test_one_key_switches_an_option_on():
    assert settings({"task_ema": {"decay": 0.99}}) == Beyond(task_ema=TaskEma(0.99, 5.0))
    assert settings({"difficulty": {"stage": "easy"}}) == Beyond(difficulty=Difficulty("easy", 0.25))
    assert settings({"length": {"weight": 0.5, "target": 30}}) == Beyond(length=Length(0.5, 0.5, 30))


@pytest.mark.parametrize(
    ("beyond", "message"),
    [
        ({"ema": {}}, r"sv6d\.beyond\.ema is unknown; did you mean 'task_ema'"),
        ({"task_ema": {"beta": 1}}, r"sv6d\.beyond\.task_ema\.beta is unknown; known: decay, clip"),
        ({"task_ema": 0.99}, r"sv6d\.beyond\.task_ema is 0\.99; it is a block of decay, clip"),
        ({"task_ema": {"decay": 1}}, r"task_ema\.decay is 1; set it to between 0 and 1"),
        ({"task_ema": {"decay": 0.9, "clip": 0}}, r"task_ema\.clip is 0; set it to above 0"),
        ({"difficulty": {"stage": "harder"}}, r"difficulty\.stage is 'harder'; set it to easy, medium, hard, or null"),
        ({"difficulty": {"stage": "hard", "all_wrong": 2}}, r"difficulty\.all_wrong is 2; set it to from 0 to 1"),
        ({"length": {"weight": -1}}, r"length\.weight is -1; set it to 0 for off"),
        ({"length": {"weight": 1, "correct": 0}}, r"length\.correct is 0"),
        ({"length": {"weight": 1, "target": 0.5}}, r"length\.target is 0\.5; set it to a number of tokens"),
        ({"length": {"weight": float("nan")}}, r"length\.weight is nan"),
    ],
)
def test_a_wrong_setting_is_named(beyond, message):
    with pytest.raises(ValueError, match=message):
        settings(beyond)


def test_another_estimator_is_refused():
    with pytest.raises(ValueError, match=r"algorithm\.adv_estimator is 'rloo'; .* set it to grpo"):
        settings({"difficulty": {"stage": "easy"}}, estimator="rloo")
    assert not any(settings({}, estimator="rloo"))
