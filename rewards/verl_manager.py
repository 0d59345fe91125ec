"""The rewards inside verl: `reward.reward_manager.name=sv6d` and nothing else.

Settings (`RewardConfig`) are read from `reward.reward_kwargs`, where verl's own managers read theirs, e.g.
`+reward.reward_kwargs.alpha=0.7`; `taxonomy` there is the path of a taxonomy file.  A sample that cannot be scored is
logged, flagged `failed` and gets 0; it never ends a step.
"""

import asyncio
import logging
from collections.abc import Mapping
from math import nan
from typing import Any

from verl import DataProto
from verl.experimental.reward_loop.reward_manager import register
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from ..schema import Taxonomy
from .config import RewardConfig
from .score import Score, failed_score, score

logger = logging.getLogger(__name__)


@register("sv6d")
class SV6DRewardManager(RewardManagerBase):
    """Routes each rollout by its `data_source`, which is a task id or a reward family."""

    def __init__(self, config, tokenizer, compute_score=None, reward_router_address=None, reward_model_tokenizer=None):
        super().__init__(config, tokenizer, compute_score)
        settings = config.reward.get("reward_kwargs") or {}
        self.taxonomy, self.settings = read_settings(settings)

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """Score the last sequence of `data`: its reward, and all `COMPONENTS` (NaN where one does not apply)."""
        result = await asyncio.to_thread(self._score, data[-1:][0])
        return {"reward_score": result.value, "reward_extra_info": result.components}

    def _score(self, item) -> Score:
        try:
            ids = item.batch["responses"]
            length = int(item.batch["attention_mask"][-ids.shape[-1] :].sum())
            text = self.tokenizer.decode(ids[:length], skip_special_tokens=True)
            row = item.non_tensor_batch
            task, truth = row["data_source"], row["reward_model"]["ground_truth"]
            return score(task, text, truth, taxonomy=self.taxonomy, config=self.settings)
        except Exception as error:
            return _failed(error, item.non_tensor_batch)


async def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Mapping[str, Any] | None = None, **settings
) -> dict[str, float]:
    """For `reward.custom_reward_function.path=pkg://sv6d.rewards.verl_manager`, under any of verl's managers.

    `reward.custom_reward_function.reward_kwargs` holds the settings. Returns all `COMPONENTS`.
    """
    settings.pop("reward_router_address", None)
    settings.pop("reward_model_tokenizer", None)
    taxonomy, config = read_settings(settings)
    try:
        return score(data_source, solution_str, ground_truth, taxonomy=taxonomy, config=config).components
    except Exception as error:
        return _failed(error, {"data_source": data_source, "extra_info": extra_info}).components
