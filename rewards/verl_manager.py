"""The rewards inside verl: `reward.reward_manager.name=sv6d` and nothing else.

Settings (the fields of `RewardConfig`, and `taxonomy`, the path of a taxonomy file) stand under `reward.reward_kwargs`,
where verl's own managers look for theirs: `+reward.reward_kwargs.alpha=0.7`.  A sample that cannot be scored is logged,
flagged `failed` and earns 0; it never ends a step.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import register
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from ..schema import Taxonomy
from .config import RewardConfig
from .score import Score, failed_score, score

logger = logging.getLogger(__name__)


@register("sv6d")
class SV6DRewardManager(RewardManagerBase):
    """Scores each rollout by its `data_source`, which names the task (or the reward family)."""

    def __init__(self, config, tokenizer, compute_score=None, reward_router_address=None, reward_model_tokenizer=None):
        super().__init__(config, tokenizer, compute_score)
        self.taxonomy, self.settings = read_settings(config.reward.get("reward_kwargs"))

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """The reward of the last sequence of `data`, with all `COMPONENTS`; in a thread, so that the loop stays free."""
        result = await asyncio.to_thread(self._score, data[-1:][0])
        return {"reward_score": result.value, "reward_extra_info": result.components}

    def _score(self, item) -> Score:
        row = item.non_tensor_batch
        try:
            ids = item.batch["responses"]
            length = int(item.batch["attention_mask"][-ids.shape[-1] :].sum())
            text = self.tokenizer.decode(ids[:length], skip_special_tokens=True)
            truth = row["reward_model"]["ground_truth"]
            return score(row["data_source"], text, truth, taxonomy=self.taxonomy, config=self.settings)
        except Exception as error:
            return _failed(error, row.get("data_source"), row.get("extra_info"))


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
    """
    taxonomy, config = read_settings(settings)
    try:
        return score(data_source, solution_str, ground_truth, taxonomy=taxonomy, config=config).components
    except Exception as error:
        return _failed(error, data_source, extra_info).components


def read_settings(settings: Mapping[str, Any] | DictConfig | None) -> tuple[Taxonomy, RewardConfig]:
    """Taxonomy and reward config from a block of settings.

    Raises:
        RewardConfigError, TaxonomyError: before the first step, naming the setting and the mend.
    """
    if not settings:
        return Taxonomy.load(), RewardConfig.read(None)
    settings = dict(OmegaConf.to_container(settings, resolve=True) if OmegaConf.is_config(settings) else settings)
    taxonomy = Taxonomy.load(settings.pop("taxonomy", None))
    config = RewardConfig.read(settings)
    config.require_dimensions(taxonomy.dimensions)
    return taxonomy, config


def _failed(error: Exception, task: Any, extra_info: Any) -> Score:
    """0, flagged; each kind of failure is logged once a process, as thousands of rollouts may share it."""
    row = extra_info if isinstance(extra_info, Mapping) else {}
    where = ", ".join(f"{key} {row[key]}" for key in ("dataset", "id", "index") if row.get(key) is not None)
    kind = (str(task), type(error), str(error)[:80])
    if kind not in _logged and len(_logged) < _MAX_LOGGED:
        _logged.add(kind)
        logger.warning("task %s (%s): not scored, flagged failed: %s: %s", task, where, type(error).__name__, error)
    return failed_score()


_logged: set[tuple[str, type, str]] = set()
_MAX_LOGGED = 1000
