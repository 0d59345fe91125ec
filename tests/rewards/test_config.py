"""Reward settings: every default is the report's, every wrong one is refused with its name and a mend."""

import pytest
from omegaconf import OmegaConf
from sv6d.rewards import RewardConfig, RewardConfigError, score
from sv6d.rewards.async_scorer import AsyncScorer
from sv6d.rewards.config import read_settings
from sv6d.schema import TaxonomyError


def test_the_defaults_are_table_4():
    config = RewardConfig()
    assert (config.grounding.format, config.grounding.iou, config.grounding.label) == (0.2, 0.4, 0.4)
    assert (config.localization.format, config.localization.iou) == (0.2, 0.8)
    assert (config.chain_of_thought.format, config.chain_of_thought.judge) == (0.3, 0.7)
    assert (config.mode, config.alpha, config.overlap_gate) == ("table4", 0.5, False)


def test_plain_and_omegaconf_mappings_read_the_same():
    settings = {"mode": "literal", "beta": 0.25, "grounding": {"format": 0.4, "iou": 0.3, "label": 0.3}}
    plain = RewardConfig.read(settings)
    assert plain == RewardConfig.read(OmegaConf.create(settings))
    assert (plain.mode, plain.beta, plain.grounding.format) == ("literal", 0.25, 0.4)
    assert RewardConfig.read(None) == RewardConfig() == RewardConfig.read({})
    assert RewardConfig.read(plain) is plain


def test_omegaconf_interpolations_are_resolved():
    assert RewardConfig.read(OmegaConf.create({"alpha": 0.7, "beta": "${alpha}"})).beta == 0.7


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"alfa": 0.5}, "'alfa'; did you mean 'alpha'"),
        ({"grounding": {"lable": 0.4}}, "'grounding.lable'; did you mean 'label'"),
        ({"mode": "table_4"}, "did you mean 'table4'"),
        ({"alpha": 1.5}, "alpha = 1.5 is wrong; use a number from 0 to 1"),
        ({"alpha": "0.5"}, "alpha = '0.5'"),
        ({"alpha": True}, "alpha = True"),
        ({"alpha": float("nan")}, "alpha = nan"),
        ({"beta": -1}, "beta = -1"),
        ({"beta": float("inf")}, "beta = inf"),
        ({"overlap_gate": 1}, "use true or false"),
        ({"dimension_weights": {"editing": 0}}, "dimension_weights.editing = 0 is wrong; use a number above 0"),
        ({"dimension_weights": [1]}, "dimension_weights"),
        ({"dimension_weights": {"editing": 1e308}}, "dimension_weights.editing = 1e+308 is wrong"),  # two overflow
        ({"grounding": {"iou": 0.9}}, "they must sum to 1"),
        ({"lambdas": {"prof": 2.0, "comp": -0.5, "form": -0.5}}, "lambdas.prof = 2.0"),
        ({"grounding": 3}, "write a mapping"),
        ([], "write a mapping"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings, said):
    with pytest.raises(RewardConfigError) as error:
        RewardConfig.read(settings)
    assert said in str(error.value)


def test_a_weight_for_an_unknown_dimension_is_refused_by_name():
    with pytest.raises(
        RewardConfigError, match=r"dimension_weights\.editting: no such dimension; did you mean 'editing'"
    ):
        score("shot_framing", "[]", "[]", config={"dimension_weights": {"editting": 2}})


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [1\n", "cannot be read as YAML"), ("alpha: ${nope}\n", "'nope' not found"), ("- 1\n", "write a mapping")],
)
def test_a_settings_file_that_cannot_be_read_is_named(tmp_path, text, said):
    path = tmp_path / "rewards.yaml"
    path.write_text(text)
    with pytest.raises(RewardConfigError) as error:
        read_settings(path)
    assert str(path) in str(error.value) and said in str(error.value)


def test_without_a_settings_file_there_are_no_settings():
    assert read_settings(None) == {}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"time_limt": 5}, "did you mean 'time_limit'"),
        ({"taxonmy": "mine.yaml"}, "did you mean 'taxonomy'"),
        ({"juge": {}}, "did you mean 'judge'"),
        ({"taxonomy": 5}, "taxonomy 5 is wrong"),
        ({"time_limit": 0}, "time_limit = 0 is wrong"),
        (5, "write a mapping"),
        ("alpha", "write a mapping"),
    ],
)
def test_a_wrong_setting_beside_those_of_the_config_is_refused(settings, said):
    with pytest.raises((RewardConfigError, TaxonomyError), match=said):
        AsyncScorer(settings)
