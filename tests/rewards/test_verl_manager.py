"""The manager inside verl: routed by task, the same keys on every path, and nothing that ends a step."""

import asyncio
import logging
from math import isnan

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sv6d.rewards import COMPONENTS, RewardConfigError, score
from sv6d.rewards import verl_manager as module
from tensordict import TensorDict
from verl import DataProto
from verl.experimental.reward_loop.reward_loop import RewardLoopManager
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
from verl.trainer.ppo.metric_utils import process_validation_metrics
from verl.trainer.ppo.reward import get_custom_reward_fn, resolve_reward_manager_cls

TRUTH = '[{"start": 0, "end": 2}]'
HALF = '[{"start": 0, "end": 1}]'


class Characters:
    """A tokenizer whose tokens are code points."""

    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return "".join(map(chr, ids.tolist()))


def rollout(task, response, truth, **row):
    """One rollout as verl hands it over: padded prompt and response, rows of non-tensors."""
    ids = torch.tensor([[ord(c) for c in response] + [0] * 7])
    mask = torch.tensor([[0, 1, 1] + [1] * len(response) + [0] * 7])
    batch = TensorDict(
        {"prompts": torch.ones(1, 3, dtype=torch.long), "responses": ids, "attention_mask": mask}, batch_size=1
    )
    row = {"data_source": task, "reward_model": {"ground_truth": truth}, "extra_info": {"id": "clip-7"}, **row}
    return DataProto(batch=batch, non_tensor_batch={k: np.array([v], dtype=object) for k, v in row.items()})


def manager(**settings):
    config = OmegaConf.create({"reward": {"reward_manager": {"source": "register", "name": "sv6d"}}})
    if settings:
        config.reward.reward_kwargs = settings
    return resolve_reward_manager_cls(config)(config=config, tokenizer=Characters(), compute_score=None)


def run(task, response, truth, **settings):
    return asyncio.run(manager(**settings).run_single(rollout(task, response, truth)))


def test_the_name_is_registered():
    assert get_reward_manager_cls("sv6d") is module.SV6DRewardManager


def test_a_rollout_gets_the_score_of_its_task():
    result = run("temporal_action_localization", HALF, TRUTH)
    assert result["reward_score"] == score("temporal_action_localization", HALF, TRUTH).value == pytest.approx(0.6)
    assert result["reward_extra_info"]["iou"] == 0.5
    assert run("ocr_regular", "abc", "abd")["reward_score"] == pytest.approx(2 / 3)


def test_settings_stand_under_reward_kwargs():
    weights = {"format": 1.0, "iou": 0.0}
    assert run("temporal_action_localization", HALF, TRUTH, localization=weights)["reward_score"] == 1.0
    with pytest.raises(RewardConfigError, match="did you mean 'alpha'"):
        manager(alfa=0.3)


@pytest.mark.parametrize(
    ("task", "response", "truth"),
    [
        ("temporal_action_localization", HALF, TRUTH),
        ("ocr_regular", "", ""),
        ("visual_reasoning", "x", "x"),
        ("no_such_task", HALF, TRUTH),
        ("temporal_action_localization", HALF, "broken truth"),
        ("temporal_action_localization", HALF, None),
        (None, HALF, TRUTH),
    ],
)
def test_every_path_has_the_same_numeric_keys(task, response, truth):
    result = run(task, response, truth)
    assert tuple(result["reward_extra_info"]) == COMPONENTS
    assert all(type(value) is float for value in result["reward_extra_info"].values())
    assert 0.0 <= result["reward_score"] <= 1.0


def test_a_sample_that_cannot_be_scored_is_flagged_and_logged_once(caplog):
    bad = rollout("temporal_action_localization", HALF, "not a truth", extra_info={"id": "clip-9"})
    with caplog.at_level(logging.WARNING, logger="sv6d.rewards.verl_manager"):
        for _ in range(8):
            result = asyncio.run(manager().run_single(bad))
    assert (result["reward_score"], result["reward_extra_info"]["failed"]) == (0.0, 1.0)
    (record,) = caplog.records
    assert "temporal_action_localization" in record.getMessage() and "clip-9" in record.getMessage()


def test_even_a_row_without_its_columns_is_flagged():
    row = rollout("ocr_regular", "a", "a")
    row.pop(non_tensor_batch_keys=["reward_model"])
    assert asyncio.run(manager().run_single(row))["reward_extra_info"]["failed"] == 1.0


def test_samples_run_together():
    async def all_of_them():
        one = manager()
        return await asyncio.gather(*[one.run_single(rollout("ocr_regular", "a" * i, "aaaa")) for i in range(5)])

    assert [r["reward_score"] for r in asyncio.run(all_of_them())] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_scores_land_on_the_last_token():
    scores = module.SV6DRewardManager.assemble_rm_scores(rollout("ocr_regular", "abc", "abc"), [0.75])
    assert scores[0].tolist() == [0, 0, 0.75] + [0] * 7
    assert RewardLoopManager.compute_rm_score  # the caller of assemble_rm_scores in this version of verl


def test_as_a_custom_reward_function_of_verls_own_managers():
    function = get_custom_reward_fn(
        OmegaConf.create(
            {
                "reward": {
                    "custom_reward_function": {
                        "path": "pkg://sv6d.rewards.verl_manager",
                        "name": "compute_score",
                        "reward_kwargs": {"localization": {"format": 0.0, "iou": 1.0}},
                    }
                }
            }
        )
    )
    good = asyncio.run(function("temporal_action_localization", HALF, TRUTH, extra_info={}))
    assert (good["score"], tuple(good)) == (0.5, COMPONENTS)
    assert asyncio.run(function("temporal_action_localization", HALF, "broken", extra_info={}))["failed"] == 1.0


def test_nan_components_stay_within_their_task_in_verls_validation():
    # verl averages each component by data source and drops None, not NaN: NaN is right where it means "does not apply"
    rows = [score("ocr_regular", "a", "a"), score("temporal_action_localization", HALF, TRUTH)]
    metrics = process_validation_metrics(
        ["ocr", "tal"], ["u1", "u2"], {key: [row.components[key] for row in rows] for key in COMPONENTS}
    )
    assert metrics["ocr"]["similarity"]["mean@1"] == 1.0 and isnan(metrics["ocr"]["iou"]["mean@1"])
    assert metrics["tal"]["iou"]["mean@1"] == 0.5 and isnan(metrics["tal"]["similarity"]["mean@1"])
