"""Constrained rollouts: `actor_rollout_ref.rollout.agent.default_agent_loop=sv6d_constrained` and nothing else.

verl's single-turn agent loop, whose answers keep to the form of the row's task (`data_source`) by vLLM's structured outputs.
Limits stand under `+actor_rollout_ref.rollout.custom.answers`, e.g. `.max_segments=8` (`schema.answer_schema.Limits`); the
taxonomy is that of the rewards. vLLM masks the logits before it samples, so a rollout's log-probs are those of the
constrained distribution, the trainer's are not (docs/rewards.md, "Constrained answers").
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import ceil, inf
from typing import Any

from omegaconf import DictConfig, OmegaConf
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, register
from verl.workers.rollout.llm_server import FullyAsyncLLMServerClient, LLMServerClient

from ...rewards.families import find_taxonomy
from ...schema import TASKS
from ...schema.answer_grammar import compact_constraint
from ...schema.answer_schema import LimitError, Limits
from .loop import SharingAgentLoop

logger = logging.getLogger(__name__)

ROUNDING = 10.0
"""Seconds: a row's duration is rounded up to a multiple of this, so that few grammars are compiled."""


@register("sv6d_constrained")
class ConstrainedAgentLoop(SharingAgentLoop):
    """One turn whose answer cannot but have the form that its task asks for; free text where the task asks for none."""

    def __init__(self, *args, server_manager: LLMServerClient, **kwargs):
        super().__init__(*args, server_manager=WholeAnswers(server_manager), **kwargs)

    async def run(self, sampling_params: dict[str, Any], **kwargs) -> AgentLoopOutput:
        """verl's own turn with the constraint of the row's `data_source` among the sampling parameters."""
        found = row_constraint(self.config, kwargs.get("data_source"), kwargs.get("extra_info"))
        if found:
            from vllm.sampling_params import StructuredOutputsParams

            sampling_params = {**sampling_params, "structured_outputs": StructuredOutputsParams(**found)}
        return await super().run(sampling_params, **kwargs)


class WholeAnswers:
    """A server client that begins an interrupted answer anew.

    verl's asynchronous clients let another request continue it, whose grammar would begin at the beginning and append a
    second answer to the first half of one.
    """

    def __init__(self, client: LLMServerClient):
        self._client = client

    def __getattr__(self, name):
        return getattr(self._client, name)

    async def generate(self, *args, **kwargs):
        if "structured_outputs" not in kwargs["sampling_params"] or not isinstance(
            self._client, FullyAsyncLLMServerClient
        ):
            return await self._client.generate(*args, **kwargs)
        while True:
            attempt = dict(kwargs, sampling_params=dict(kwargs["sampling_params"]))
            output = await super(FullyAsyncLLMServerClient, self._client).generate(*args, **attempt)
            if output.stop_reason not in ("aborted", "abort"):
                return output
            await asyncio.sleep(1)  # as verl does: the servers are taking new weights


def row_constraint(config: DictConfig, task: str | None, info: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The constraint of one row, as vLLM's structured outputs take it; empty where the answer is free.

    Args:
        config: verl's whole configuration.
        task: the row's `data_source`; one that is not among our 13 stays free, with a warning.
        info: the row's `extra_info`; where a `step` is set, its `duration` counts.

    Raises:
        TaxonomyError: the rewards' taxonomy lacks what the task asks for.
    """
    if task not in TASKS:
        _warn_free(task)
        return {}
    limits, taxonomy = read_settings(config)
    duration = (info or {}).get("duration") or 0.0
    if limits.step is not None and 0.0 < duration < inf:  # NaN too is a duration that is not known
        limits = replace(limits, duration=ROUNDING * ceil(duration / ROUNDING))
    return _constraint(task, taxonomy, limits)


def read_settings(config: DictConfig) -> tuple[Limits, str | None]:
    """The limits of all rows, and the name or path of the rewards' taxonomy. Our trainers ask before they start.

    Raises:
        LimitError: a setting that cannot be.
    """
    rollout = config.actor_rollout_ref.rollout
    if rollout.name != "vllm":
        raise LimitError(
            f"rollout.name = {rollout.name!r}: constrained answers need vllm's structured outputs; use vllm"
        )
    limits = _plain(OmegaConf.select(rollout, "custom.answers")) or {}
    places = ("reward.reward_kwargs.taxonomy", "reward.custom_reward_function.reward_kwargs.taxonomy")
    named = (OmegaConf.select(config, place) for place in places)
    return Limits.read(limits), next(filter(None, named), None)


@lru_cache(maxsize=4096)
def _constraint(task: str, taxonomy: str | None, limits: Limits) -> dict[str, str]:
    """As a grammar: vLLM reads a constraint anew for each request, which takes it long for a schema with cells."""
    return compact_constraint(task, find_taxonomy(taxonomy), limits)


@lru_cache(maxsize=256)
def _warn_free(task: str | None) -> None:
    logger.warning("data_source %r is none of our tasks: its answers are not constrained", task)


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
