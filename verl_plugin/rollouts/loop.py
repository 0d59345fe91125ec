"""verl's single-turn agent loop whose media are worked on once a prompt: `actor_rollout_ref.rollout.agent.default_agent_loop=sv6d`,
beside `agent_loop_manager_class=sv6d.verl_plugin.rollouts.manager.SharingManager`.
"""

from typing import Any

import ray
from verl.experimental.agent_loop.agent_loop import register
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.workers.rollout.llm_server import LLMServerClient

from .sharing import Shared, shared


@register("sv6d")
class SharingAgentLoop(SingleTurnAgentLoop):
    """One turn. The rollouts of a prompt share its decoded media, its tokens and its place in Ray's object store."""

    def __init__(self, *args, server_manager: LLMServerClient, **kwargs):
        self._shared = shared()
        super().__init__(*args, server_manager=SentOnce(server_manager, self._shared), **kwargs)

    async def process_multi_modal_info(self, messages: list[dict]) -> dict[str, Any]:
        decode = super().process_multi_modal_info
        media = dict(await self._shared.get("media", lambda: decode(messages)))
        if media.get("videos"):  # verl may change a clip's metadata
            media["videos"] = [(frames, dict(metadata)) for frames, metadata in media["videos"]]
        return media

    async def ct_build_initial_tokens(self, messages: list[dict], *args, mm_inputs_out=None, **kwargs) -> list[int]:
        """The prompt's token ids. What the processor made beside them is kept for SGLang alone, which takes it in the place of the
        frames: verl would store it with each rollout, a second time beside the trainer's pixels."""
        build = super().ct_build_initial_tokens

        async def tokens_and_media() -> tuple[list[int], dict]:
            made = {}
            tokens = await build(messages, *args, mm_inputs_out=made, **kwargs)
            return tokens, made if self.rollout_config.name == "sglang" else {}

        tokens, made = await self._shared.get("tokens", tokens_and_media)
        if mm_inputs_out is not None:
            mm_inputs_out.update(made)
        return list(tokens)


class SentOnce:
    """A server client that puts a prompt's media into Ray's object store once. Sent by value, each rollout's request has a copy
    there: 3,120 of a clip of 30 s, 94 MB each, are more than the store holds."""

    def __init__(self, client: LLMServerClient, of_prompt: Shared):
        self._client, self._shared = client, of_prompt

    def __getattr__(self, name):
        return getattr(self._client, name)

    async def generate(self, *args, **kwargs):
        for media in ("image_data", "video_data"):
            if kwargs.get(media):
                kwargs[media] = await self._shared.get(media, lambda found=kwargs[media]: _stored(found))
        return await self._client.generate(*args, **kwargs)


async def _stored(media: list) -> ray.ObjectRef:
    return ray.put(media)
