"""The settings of `sv6d.beyond`: off by default, and a wrong one is named with its mend."""

import pytest
from omegaconf import OmegaConf
from sv6d.verl_plugin.beyond.settings import (
    Beyond,
    Difficulty,
    GroupFiltering,
    Length,
    TaskEma,
    read_filtering,
    read_settings,
)


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


# Filtering of groups: verl's settings, and what else they need beside our buffer


def filtering(synchronous=False, manager="sv6d", model=None, **settings):
    config = {"algorithm": {"filter_groups": {"enable": True, "metric": "reward", "max_num_gen_batches": 2} | settings}}
    config["reward"] = {"reward_manager": {"name": manager}, "reward_model": model or {"enable": False}}
    return read_filtering(OmegaConf.create(config), synchronous=synchronous)


def test_filtering_is_off_where_verl_has_it_off():
    assert filtering(enable=False) is None
    assert read_filtering(OmegaConf.create({"algorithm": {}}), synchronous=True) is None


def test_filtering_by_the_reward_or_one_of_its_components():
    assert filtering() == GroupFiltering("reward", 2)
    assert filtering(metric="iou", max_num_gen_batches=1) == GroupFiltering("iou", 1)
    assert filtering(metric="acc", manager="dapo").metric == "acc"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"metric": None}, r"filter_groups\.metric is not set"),
        ({"metric": "lable"}, r"filter_groups\.metric is 'lable', which no reward has; did you mean 'label'"),
        ({"max_num_gen_batches": 0}, r"max_num_gen_batches is 0: .* solved would be rolled out for ever"),
        ({"max_num_gen_batches": 1.5}, r"max_num_gen_batches is 1\.5"),
        ({"synchronous": True}, r"filter_groups\.enable: a synchronous step .* use sv6d_colocate_async"),
        ({"model": {"enable": True}}, r"scores groups after they were chosen"),
    ],
)
def test_filtering_that_could_not_work_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        filtering(**wrong)
