"""The manager inside verl: routed by task, the same keys on every path, and nothing that ends a step."""

import asyncio
import logging
from math import isnan, sqrt
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from judge_server import grades, serve, status
from omegaconf import OmegaConf
from sv6d.rewards import COMPONENTS, RewardConfigError, families, limits, matching, score
from sv6d.rewards import verl_manager as module
from sv6d.rewards.chain_of_thought import is_masked
from sv6d.rewards.judging.health import Counts, JudgeStopped
from tensordict import TensorDict
from verl import DataProto
from verl.experimental.reward_loop.reward_loop import RewardLoopManager
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
from verl.trainer.ppo.core_algos import compute_gdpo_outcome_advantage
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


def manager(more=None, served_at=None, **settings):
    """The manager as verl makes it; `more` is merged into the run's config."""
    config = OmegaConf.create({"reward": {"reward_manager": {"source": "register", "name": "sv6d"}}})
    if settings:
        config.reward.reward_kwargs = settings
    config = OmegaConf.merge(config, more or {})
    cls = resolve_reward_manager_cls(config)
    return cls(config=config, tokenizer=Characters(), compute_score=None, reward_router_address=served_at)


def run(task, response, truth, **settings):
    return asyncio.run(manager(**settings).run_single(rollout(task, response, truth)))


def test_the_name_is_registered():
    assert get_reward_manager_cls("sv6d") is module.SV6DRewardManager


def test_it_is_found_without_the_plug_in():
    loaded = {"source": "importlib", "name": "SV6DRewardManager", "module": {"path": "pkg://sv6d.rewards.verl_manager"}}
    one = manager({"reward": {"reward_manager": loaded}})
    assert asyncio.run(one.run_single(rollout("ocr_regular", "abc", "abd")))["reward_score"] == pytest.approx(2 / 3)


def test_a_rollout_gets_the_score_of_its_task():
    result = run("temporal_action_localization", HALF, TRUTH)
    assert result["reward_score"] == score("temporal_action_localization", HALF, TRUTH).value == pytest.approx(0.6)
    assert result["reward_extra_info"]["iou"] == 0.5
    assert isnan(result["reward_extra_info"]["judge_seconds"])  # no judge is asked
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
    assert tuple(result["reward_extra_info"]) == (*COMPONENTS, *module.TIMES)
    assert result["reward_extra_info"]["reward_seconds"] > 0.0
    assert all(type(value) is float for value in result["reward_extra_info"].values())
    assert 0.0 <= result["reward_score"] <= 1.0


def test_a_sample_that_cannot_be_scored_is_flagged_and_logged_once(caplog):
    bad = rollout("temporal_action_localization", HALF, "not a truth", extra_info={"id": "clip-9"})
    with caplog.at_level(logging.WARNING, logger="sv6d.rewards.flagged"):
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


def test_a_truth_is_parsed_once_a_prompt():
    async def group():
        one = manager()
        truth = '[{"start": 7, "end": 9}]'
        return await asyncio.gather(
            *[one.run_single(rollout("temporal_action_localization", HALF, truth)) for _ in range(8)]
        )

    before = matching._read_truth.cache_info()
    asyncio.run(group())
    after = matching._read_truth.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 7)


def test_the_function_reads_its_settings_once():
    settings = {"localization": {"format": 0.0, "iou": 1.0}}
    before = len(module._scorers)
    for _ in range(4):
        asyncio.run(module.compute_score("temporal_action_localization", HALF, TRUTH, **settings))
    assert len(module._scorers) - before <= 1


# What is not bounded

TARRY = """
from sv6d.rewards import Family

def reward(response, ground_truth, taxonomy, config):
    while response == "tarry":
        pass
    return {"score": 1.0, "similarity": 0.5}

FAMILY = Family(reward, lambda ground_truth, taxonomy: None)
"""


@pytest.fixture
def tarrying(tmp_path, monkeypatch):
    """An installed package whose family `tarry` never ends on the response `tarry`."""
    (tmp_path / "tarry_rewards.py").write_text(TARRY)
    info = tmp_path / "tarry-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tarry\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[sv6d.families]\ntarry = tarry_rewards:FAMILY\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(families, "_found", {})
    families.plug_ins.cache_clear()
    limits._shared.cache_clear()  # workers know what was installed when they began
    yield
    families.plug_ins.cache_clear()
    limits._shared.cache_clear()


def test_a_family_that_never_ends_costs_its_sample_and_no_other(tarrying, caplog):
    async def step():
        one = manager(time_limit=0.5)
        asked = [("tarry", "quick"), ("tarry", "tarry"), ("ocr_regular", "abc")]
        return await asyncio.gather(*[one.run_single(rollout(task, said, "abc")) for task, said in asked])

    quick, ended, ours = (result["reward_extra_info"] for result in asyncio.run(step()))
    assert (quick["score"], quick["similarity"], quick["failed"]) == (1.0, 0.5, 0.0)
    assert (ended["score"], ended["failed"]) == (0.0, 1.0) and "took more than 0.5 s" in caplog.text
    assert (ours["score"], ours["failed"]) == (1.0, 0.0)
    assert tuple(quick) == tuple(ended) == (*COMPONENTS, *module.TIMES)
    assert ended["reward_seconds"] > 0.5


def test_a_time_limit_is_a_number_of_seconds():
    with pytest.raises(RewardConfigError, match="time_limit = 0 is wrong; write a number of seconds"):
        manager(time_limit=0)


# The judge

THOUGHT = "<think>a</think><answer>yes, it is red</answer>"


def judge_of(server, **settings):
    return {"url": server.url, "model": "m", "backoff_seconds": 0.01, **settings}


def test_a_judge_stands_among_the_settings():
    with serve(grades(0.5)) as server:
        one = manager(judge=judge_of(server))
        result = asyncio.run(one.run_single(rollout("visual_reasoning", THOUGHT, "red")))
    assert result["reward_score"] == pytest.approx(0.3 + 0.7 * 0.5)
    told = result["reward_extra_info"]
    assert (told["judge"], told["failed"]) == (0.5, 0.0) and 0.0 < told["judge_seconds"] <= told["reward_seconds"]
    assert one.judge_counts() == Counts(1, 0, None) and manager().judge_counts() is None
    with pytest.raises(RewardConfigError, match=r"unknown setting 'judge\.modle'; did you mean 'model'"):
        manager(judge={"modle": "m"})


def test_the_reward_model_that_the_trainer_serves_judges():
    with serve(grades(1.0)) as server:
        served = {
            "reward_model": {"enable": True, "enable_resource_pool": True, "model_path": "/models/judge"},
            "custom_reward_function": {"path": "pkg://sv6d.rewards.verl_manager"},
        }
        one = manager({"reward": served}, served_at=f"127.0.0.1:{server.server_port}")
        assert asyncio.run(one.run_single(rollout("visual_reasoning", THOUGHT, "red")))["reward_score"] == 1.0
    assert server.requests[0]["model"] == "/models/judge"


@pytest.mark.parametrize(
    ("reward", "mend"),
    [
        ({"reward_model": {"enable": True}}, "custom_reward_function.path=pkg://sv6d.rewards.verl_manager"),
        (
            {
                "reward_model": {"enable": True, "enable_resource_pool": False},
                "custom_reward_function": {"path": "pkg://sv6d.rewards.verl_manager"},
            },
            "enable_resource_pool = False: .* set it to True",
        ),
    ],
)
def test_a_reward_model_under_which_verl_asks_nobody_is_refused(reward, mend):
    with pytest.raises(RewardConfigError, match=mend):
        manager({"reward": reward})


OURS = {"sv6d": {"trainer": "sync"}}


def test_mask_takes_a_trainer_that_knows_of_it():
    with serve(status(404)) as server:
        judge = judge_of(server, fallback="mask")
        with pytest.raises(RewardConfigError, match=r"judge\.fallback = 'mask'.*one of sv6d's trainers"):
            manager(judge=judge)
        with pytest.raises(RewardConfigError, match=r"judge\.fallback = 'mask'"):
            asyncio.run(module.compute_score("visual_reasoning", THOUGHT, "red", judge=judge))
        one = manager(OURS, judge=judge)
        result = asyncio.run(one.run_single(rollout("visual_reasoning", THOUGHT, "red")))
    assert result["reward_score"] == 0.0 and is_masked(result["reward_extra_info"])


def test_no_other_sample_looks_masked():
    one = manager()
    for task, response, truth in [
        ("visual_reasoning", THOUGHT, "red"),
        ("visual_reasoning", "", "red"),
        ("ocr_regular", "a", "b"),
        ("no_such_task", "a", "b"),
    ]:
        assert not is_masked(asyncio.run(one.run_single(rollout(task, response, truth)))["reward_extra_info"])


def test_a_judge_that_fails_too_often_ends_the_run_or_tells_our_trainer():
    with serve(status(404)) as server:
        judge = judge_of(server, min_failures=2, window=4, fallback="zero")
        one, sample = manager(judge=judge), rollout("visual_reasoning", THOUGHT, "red")
        assert asyncio.run(one.run_single(sample))["reward_extra_info"]["failed"] == 1.0
        for _ in range(2):
            with pytest.raises(JudgeStopped, match=r"failed 2 of the last 2 times .*404"):
                asyncio.run(one.run_single(sample))
        ours = manager(OURS, judge=judge)  # it goes on, and the trainer asks before it updates
        assert [asyncio.run(ours.run_single(sample))["reward_score"] for _ in range(3)] == [pytest.approx(0.3)] * 3
        assert "failed 2 of the last 2 times" in ours.judge_counts().stopped


# GDPO

GDPO = {"algorithm": {"adv_estimator": "gdpo", "gdpo_reward_keys": ["iou", "similarity"]}}


def test_gdpo_gets_numbers_for_every_component_it_asks_for():
    """Two groups of different tasks: each group's advantage comes from the component that its task has."""
    one = manager(GDPO)
    samples = [
        rollout("ocr_regular", "abcd", "abcd"),
        rollout("ocr_regular", "ab", "abcd"),
        rollout("temporal_action_localization", HALF, TRUTH),
        rollout("temporal_action_localization", TRUTH, TRUTH),
    ]
    infos = [asyncio.run(one.run_single(sample))["reward_extra_info"] for sample in samples]
    assert [(info["iou"], info["similarity"]) for info in infos] == [(0, 1), (0, 0.5), (0.5, 0), (1, 0)]
    assert isnan(infos[0]["label"])  # what is not asked for stays as it is

    mask = torch.ones(4, 3)
    advantages, _ = compute_gdpo_outcome_advantage(
        torch.zeros(4, 3),
        mask,
        np.array(["a", "a", "b", "b"], dtype=object),
        config=SimpleNamespace(get=dict(GDPO["algorithm"]).get),
        non_tensor_batch={key: np.array([info[key] for info in infos]) for key in ("iou", "similarity")},
        batch={"prompts": mask[:, :0], "attention_mask": mask.long()},
    )
    # each pair differs by +-z in one component, nothing in the other; whitened over 12 tokens with n - 1:
    # deviation z sqrt(12 / 11)
    one = sqrt(11 / 12)
    assert advantages[:, 0].tolist() == pytest.approx([one, -one, -one, one], abs=1e-4)


def test_a_component_that_gdpo_asks_for_has_to_exist():
    with pytest.raises(RewardConfigError, match="gdpo_reward_keys: no component 'iuo'; did you mean 'iou'"):
        manager({"algorithm": {"adv_estimator": "gdpo", "gdpo_reward_keys": ["iuo"]}})
