"""verl's agent loop workers with what a prompt's rollouts share: `agent_loop_manager_class` of `actor_rollout_ref.rollout.agent`."""

from typing import Any

import ray
import torch
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

from ..engines.pixels import STRATEGIES, as_levels, unscaled
from . import sharing


def unwrapped(actor_class) -> type:
    """The class that `ray.remote` wrapped."""
    return actor_class.__ray_metadata__.modified_class.__ray_actor_class__


@ray.remote  # here, as verl does: Ray then sends it whole, base and all, and no half of it by its name
class SharingWorker(unwrapped(AgentLoopWorkerTQ)):
    """The rollouts of a prompt share what the processor makes of its media, and the trainer gets it as bytes where its engine is
    ours (`engines/pixels.py`)."""

    async def _run_prompt(self, *args, **kwargs) -> None:
        sharing.begin()
        await super()._run_prompt(*args, **kwargs)

    def _compute_multi_modal_inputs(self, output: AgentLoopOutput, input_ids: torch.Tensor) -> dict[str, Any]:
        media = _media(output)
        if not media:
            return super()._compute_multi_modal_inputs(output, input_ids)
        kept, key = sharing.shared().kept, tuple(map(id, media))
        if key not in kept:
            kept[key] = media, self._processed(output, input_ids)  # with the media, so that their ids stay theirs
        return dict(kept[key][1])

    def _processed(self, output: AgentLoopOutput, input_ids: torch.Tensor) -> dict[str, Any]:
        options = output.mm_processor_kwargs
        if options is None:
            options = self._get_mm_processor_kwargs()
        plain = unscaled(options) if self.config.actor_rollout_ref.actor.strategy in STRATEGIES else None
        if plain is not None:
            bare = output.model_copy(update={"mm_processor_kwargs": plain})
            if (levels := as_levels(super()._compute_multi_modal_inputs(bare, input_ids))) is not None:
                return levels
        return super()._compute_multi_modal_inputs(output, input_ids)


class SharingManager(AgentLoopManagerTQ):
    """verl's manager of agent loops over our workers."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = SharingWorker


def _media(output: AgentLoopOutput) -> list[Any]:
    """The pictures and clips of a rollout; none where it has sound, which is no business of ours."""
    found = output.multi_modal_data or {}
    if found.get("audios"):
        return []
    return [*(found.get("images") or ()), *(frames for frames, _ in found.get("videos") or ())]
