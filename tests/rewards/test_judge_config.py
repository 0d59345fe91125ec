"""The settings of the judge: read from a plain or OmegaConf mapping, and refused with place, value and mend."""

import pytest
from omegaconf import OmegaConf
from sv6d.rewards import RewardConfigError
from sv6d.rewards.judging.config import JudgeConfig


def test_the_defaults_are_valid_and_read_from_nothing():
    assert JudgeConfig.read(None) == JudgeConfig.read({}) == JudgeConfig()


def test_settings_from_omegaconf():
    config = JudgeConfig.read(
        OmegaConf.create({"url": "http://h:1/v1", "model": "m", "grades": [0, 1], "parameters": {"seed": 3}})
    )
    assert (config.url, config.model, config.grades, config.parameters) == ("http://h:1/v1", "m", (0, 1), {"seed": 3})
    assert JudgeConfig.read(config) is config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"concurency": 3}, "unknown setting 'judge.concurency'; did you mean 'concurrency'"),
        ({"url": "host:8000"}, r"judge.url = 'host:8000' is wrong; begin with http://"),
        ({"prompt": "{truth} {answer}"}, r"judge.prompt = .* it must hold \{nonce\}"),
        ({"grades": [1]}, "judge.grades = .* two or more numbers from 0 to 1"),
        ({"grades": [0, 7]}, "judge.grades"),
        ({"grades": "0, 1"}, "judge.grades"),
        ({"attempts": 0}, "judge.attempts = 0 is wrong; write a whole number, 1 or more"),
        ({"concurrency": True}, "judge.concurrency = True"),
        ({"request_seconds": "60"}, "judge.request_seconds = '60' is wrong; write a number of seconds above 0"),
        ({"total_seconds": float("inf")}, "judge.total_seconds"),
        ({"fallback": "none"}, "judge.fallback = 'none' is wrong; use exact, zero or mask"),
        ({"max_failure_rate": 20}, "judge.max_failure_rate = 20 is wrong; write a number from 0 to 1"),
        ({"min_failures": 300}, "judge.min_failures = 300 is more than judge.window = 200"),
        ({"parameters": [1]}, "judge.parameters"),
        ({"cache": 3}, "judge.cache"),
        ("http://h:1/v1", "reward config: judge = 'http://h:1/v1' is wrong; write a mapping of settings"),
    ],
)
def test_a_wrong_setting_is_refused(settings, message):
    with pytest.raises(RewardConfigError, match=message):
        JudgeConfig.read(settings)


def test_what_is_left_open_is_the_reward_model_of_the_trainer():
    config = JudgeConfig(fallback="zero").served("10.0.0.1:9000", "/models/judge")
    assert (config.url, config.model, config.fallback) == ("http://10.0.0.1:9000/v1", "/models/judge", "zero")


def test_an_endpoint_of_ones_own_goes_before_the_trainers():
    config = JudgeConfig(url="https://h/v1", model="mine").served("10.0.0.1:9000", "/models/judge")
    assert (config.url, config.model) == ("https://h/v1", "mine")


@pytest.mark.parametrize(
    ("config", "address", "model", "missing"),
    [
        (JudgeConfig(), None, None, "judge.url"),
        (JudgeConfig(), "10.0.0.1:9000", None, "judge.model"),
        (JudgeConfig(url="http://h/v1"), "10.0.0.1:9000", "theirs", "judge.model"),  # theirs is served elsewhere
    ],
)
def test_an_endpoint_needs_an_address_and_a_model(config, address, model, missing):
    with pytest.raises(RewardConfigError, match=f"{missing} is missing; give it"):
        config.served(address, model)
