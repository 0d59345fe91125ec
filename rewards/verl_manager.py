"""The rewards inside verl: `reward.reward_manager.name=sv6d` and nothing else.

Settings (those of `AsyncScorer`: the fields of `RewardConfig`, `taxonomy`, `judge`, `time_limit`) stand under
`reward.reward_kwargs`, where verl's own managers look for theirs: `+reward.reward_kwargs.alpha=0.7`.  A sample that cannot
be scored is logged, flagged `failed` and earns 0; it never ends a step.
"""

from collections.abc import Mapping
from math import isnan, nan
from time import perf_counter
from typing import Any

from omegaconf import DictConfig, OmegaConf
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import register
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from ..schema.names import near_names
from .async_scorer import AsyncScorer
from .config import RewardConfigError
from .families import COMPONENTS
from .flagged import flagged, refuse_mask
from .judging.health import Counts, JudgeStopped
from .judging.served import require_that_verl_asks
from .score import Score

OUR_TRAINER = "sv6d.trainer"
"""Where sv6d's trainers say in the run's config that they are there: they leave masked samples out of their groups, and
stop the run when the judge fails too often."""

TIMES = ("reward_seconds", "judge_seconds")
"""What the manager measures beside the `COMPONENTS`: seconds until the reward was there, and the judge's share (NaN where
none was asked). Both count the wait for others that are scored at the time."""


@register("sv6d")
class SV6DRewardManager(RewardManagerBase):
    """Scores each rollout by its `data_source`, which names the task (or the reward family)."""

    def __init__(self, config, tokenizer, compute_score=None, reward_router_address=None, reward_model_tokenizer=None):
        super().__init__(config, tokenizer, compute_score)
        require_that_verl_asks(config)
        ours = OmegaConf.select(config, OUR_TRAINER) is not None
        served_model = OmegaConf.select(config, "reward.reward_model.model_path")
        self.scorer = AsyncScorer(
            config.reward.get("reward_kwargs"),
            served_at=reward_router_address,
            served_model=served_model,
            outlive_judge=ours,
        )
        if not ours:
            refuse_mask(self.scorer, "use one of sv6d's trainers (trainer.v1.trainer_mode=sv6d_sync and its like)")
        self._finite = _gdpo_keys(config)

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """The reward of the last sequence of `data`, with all `COMPONENTS` and `TIMES`.

        Raises:
            JudgeStopped: the judge failed too often, and the trainer is none of sv6d's.
        """
        start = perf_counter()
        result, judge_seconds = await self._score(data)
        components = result.components
        for key in self._finite:
            if isnan(components[key]):
                components[key] = 0.0
        times = {"reward_seconds": perf_counter() - start, "judge_seconds": judge_seconds}
        return {"reward_score": result.value, "reward_extra_info": components | times}

    def judge_counts(self) -> Counts | None:
        """How often the judge was asked, and failed, in this process; None where no model judges."""
        return self.scorer.judge and self.scorer.judge.health.counts

    async def _score(self, data: DataProto) -> tuple[Score, float]:
        """Column by column, and on the event loop itself: rows of a DataProto and threads cost more than they give."""
        row: dict[str, Any] = {}
        try:
            row = {key: data.non_tensor_batch[key][-1] for key in ("data_source", "reward_model")}
            ids = data.batch["responses"][-1]
            length = int(data.batch["attention_mask"][-1, -len(ids) :].sum())
            text = self.tokenizer.decode(ids[:length], skip_special_tokens=True)
            return await self.scorer.timed(row["data_source"], text, row["reward_model"]["ground_truth"])
        except JudgeStopped:
            raise
        except Exception as error:
            infos = data.non_tensor_batch.get("extra_info", [None])
            return _failed(error, row.get("data_source"), infos[-1]), nan


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **settings: Any,
) -> dict[str, float]:
    """The same under any of verl's own managers: `reward.custom_reward_function.path=pkg://sv6d.rewards.verl_manager`.

    Settings stand under `reward.custom_reward_function.reward_kwargs`. Returns all `COMPONENTS`.

    Raises:
        RewardConfigError, TaxonomyError: a wrong setting.
        JudgeStopped: the judge failed too often.
    """
    scorer = _scorer_for(settings, reward_router_address)
    try:
        return (await scorer.score(data_source, solution_str, ground_truth)).components
    except JudgeStopped:
        raise
    except Exception as error:
        return _failed(error, data_source, extra_info).components


def _scorer_for(settings: dict[str, Any], served_at: str | None) -> AsyncScorer:
    """One scorer for each block of settings; verl hands over the same objects with every call."""
    for known, scorer in _scorers:
        if known == (settings, served_at):
            return scorer
    scorer = AsyncScorer(settings, served_at=served_at)
    refuse_mask(scorer, "use reward.reward_manager.name=sv6d and one of sv6d's trainers")
    _scorers.append(((settings, served_at), scorer))
    return scorer


_scorers: list[tuple[tuple[dict[str, Any], str | None], AsyncScorer]] = []


def _gdpo_keys(config: DictConfig) -> tuple[str, ...]:
    """The components that verl's GDPO normalises by group, where it is used: 0 instead of NaN for those that do not apply,
    which adds nothing to the advantages of a group, while one NaN would end in all of them."""
    if OmegaConf.select(config, "algorithm.adv_estimator") != "gdpo":
        return ()
    keys = tuple(OmegaConf.select(config, "algorithm.gdpo_reward_keys") or ())
    for key in keys:
        if key not in COMPONENTS:
            raise RewardConfigError(f"algorithm.gdpo_reward_keys: no component {key!r}; {near_names(key, COMPONENTS)}")
    return keys


def _failed(error: Exception, task: Any, extra_info: Any) -> Score:
    row = extra_info if isinstance(extra_info, Mapping) else {}
    where = ", ".join(f"{key} {row[key]}" for key in ("dataset", "id", "index") if row.get(key) is not None)
    return flagged(error, task, where)
