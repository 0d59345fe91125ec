"""The table of reward families: every task and family has one, whose rules of ground truths are those of its task."""

from functools import partial

import pytest
from omegaconf import OmegaConf
from sv6d.rewards import COMPONENTS, Family, PluginError, RewardConfig, score
from sv6d.rewards.families import _checked, find_family, find_taxonomy
from sv6d.schema import FAMILIES, TASKS, GroundTruthError, TaskError, Taxonomy, TaxonomyError

TAXONOMY = Taxonomy.load()
TRUTHS = {
    "temporal_grounding": '[{"start": 0, "end": 1}]',
    "action_localization": '[{"start": 0, "end": 1}]',
    "ocr": "a",
    "chain_of_thought": "a",
}


@pytest.mark.parametrize("name", [*TASKS, *FAMILIES])
def test_every_task_and_family_is_bounded_and_scores_as_the_public_call(name):
    family = find_family(name)
    truth = TRUTHS[TASKS[name].family if name in TASKS else name]
    family.validate(truth, TAXONOMY)
    components = family.reward("a", truth, TAXONOMY, RewardConfig())
    assert family.bounded and set(components) <= set(COMPONENTS)
    assert components["score"] == score(name, "a", truth).value


def test_ground_truths_are_checked_for_their_own_task():
    labelled = '[{"start": 0, "end": 1, "labels": {"camera_language": {"shot_size": "long shot"}}}]'
    find_family("shot_framing").validate(labelled, TAXONOMY)
    find_family("temporal_grounding").validate(labelled, TAXONOMY)
    with pytest.raises(GroundTruthError, match="task camera_movement asks for"):
        find_family("camera_movement").validate(labelled, TAXONOMY)


def test_an_unknown_task_names_those_that_are_near():
    with pytest.raises(TaskError, match="'ocr_regulr'; did you mean 'ocr_regular'"):
        find_family("ocr_regulr")


def test_a_taxonomy_by_path_or_none(tmp_path):
    assert find_taxonomy(None) is TAXONOMY
    copy = tmp_path / "mine.yaml"
    copy.write_text(TAXONOMY.path.read_text().replace("long shot", "wide shot"))
    assert find_taxonomy(copy) is find_taxonomy(str(copy))
    truth = '[{"start": 0, "end": 1, "labels": {"camera_language": {"shot_size": "wide shot"}}}]'
    assert score("shot_framing", truth, truth, taxonomy=copy).value == 1.0
    with pytest.raises(TaxonomyError, match="neither a file nor the name of a plug-in"):
        score("ocr", "a", "a", taxonomy="cooking")


def test_settings_of_a_call_may_be_plain_omegaconf_or_read_already():
    plain = {"localization": {"format": 1.0, "iou": 0.0}}
    for config in (plain, OmegaConf.create(plain), RewardConfig.read(plain)):
        assert score("action_localization", "[]", '[{"start": 0, "end": 1}]', config=config).value == 1.0


BROKEN = {
    "no mapping": (1.0, "'score'"),
    "no score": ({"iou": 1.0}, "'score'"),
    "unknown key": ({"score": 1.0, "labels": 1.0}, "component 'labels' is unknown; did you mean 'label'"),
    "above 1": ({"score": 1.5}, "component 'score' is 1.5; give a number from 0 to 1"),
    "no score at all": ({"score": float("nan")}, "component 'score' is nan"),
    "infinite": ({"score": 1.0, "iou": float("inf")}, "or NaN where it does not apply"),
    "negative count": ({"score": 1.0, "n_pred": -1}, "component 'n_pred' is -1; give a finite number >= 0"),
    "boolean": ({"score": True}, "component 'score' is True"),
    "text": ({"score": "1"}, "component 'score' is '1'"),
}


@pytest.mark.parametrize(("given", "said"), BROKEN.values(), ids=BROKEN)
def test_what_a_plugged_in_reward_may_not_give(given, said):
    with pytest.raises(PluginError, match="family 'mine'") as error:
        _checked("mine", lambda *_: given, "", "", TAXONOMY, RewardConfig())
    assert said in str(error.value)


def test_what_a_plugged_in_reward_gives_becomes_plain_numbers():
    import numpy as np

    reward = partial(_checked, "mine", lambda *_: {"score": np.float32(1), "n_pred": 3, "iou": float("nan")})
    assert repr(reward("", "", TAXONOMY, RewardConfig())) == "{'score': 1.0, 'n_pred': 3.0, 'iou': nan}"
    assert Family(reward, lambda *_: None).bounded is False
