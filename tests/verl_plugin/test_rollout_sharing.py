"""The rollouts of a prompt: media decoded, processed and sent once for all of them, and stored once for each, as bytes."""

import asyncio
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sv6d.data_mixers import verl_dataset
from sv6d.recipes.demo.model import build_processor, build_tokenizer
from sv6d.verl_plugin.engines.pixels import scale_levels
from sv6d.verl_plugin.rollouts import loop as sharing_loop
from sv6d.verl_plugin.rollouts import sharing
from sv6d.verl_plugin.rollouts.loop import SentOnce, SharingAgentLoop
from sv6d.verl_plugin.rollouts.manager import SharingWorker, unwrapped
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker, DictConfigWrap
from verl.workers.rollout.replica import TokenOutput

QUESTION = "Which?"
OURS = unwrapped(SharingWorker)


@pytest.fixture
def clip(tmp_path):
    """Eight noisy frames at 4 a second."""
    path, noise = tmp_path / "clip.mp4", np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(8):
            picture = noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return str(path)


class Counting:
    """A processor that counts its calls."""

    def __init__(self, processor):
        self.processor, self.calls = processor, 0

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def __call__(self, **inputs):
        self.calls += 1
        return self.processor(**inputs)


class Server:
    """Stands for verl's client of vLLM: notes what it is sent and answers two tokens."""

    def __init__(self):
        self.sent = []

    async def generate(self, request_id, **request):
        self.sent.append(request)
        return TokenOutput(token_ids=[5, 6], stop_reason="completed", extra_fields={})


class Rollouts:
    """What verl's worker does with a prompt, without Ray and TransferQueue."""

    def __init__(self, strategy="fsdp2", engine="vllm", worker=OURS, **options):
        rollout = {"name": engine, "prompt_length": 512, "response_length": 8}
        self.config = OmegaConf.create(
            {
                "actor_rollout_ref": {"rollout": rollout, "actor": {"strategy": strategy}},
                "data": {"mm_processor_kwargs": options, "mixture": {}},
            }
        )
        tokenizer = build_tokenizer([([{"role": "user", "content": QUESTION}], "B")])
        self.processor, self.server = Counting(build_processor(tokenizer)), Server()
        self.worker = object.__new__(worker)
        state = {
            "processor": self.processor,
            "tokenizer": tokenizer,
            "config": self.config,
            "mm_processor_kwargs": options,
        }
        self.worker.__dict__.update(state)

    def loop(self):
        return SharingAgentLoop(
            trainer_config=DictConfigWrap(self.config),
            server_manager=self.server,
            tokenizer=self.worker.tokenizer,
            processor=self.processor,
            dataset_cls=verl_dataset.MixtureDataset,
            data_config=DictConfigWrap(self.config.data),
            hf_model_type="qwen3_vl",
        )

    def run(self, messages, times=8):
        """(output, what the trainer gets) of each rollout of a prompt."""

        async def one():
            output = await self.loop().run({}, raw_prompt=messages)
            ids = torch.tensor(output.prompt_ids + output.response_ids)
            return output, self.worker._compute_multi_modal_inputs(output, ids)

        async def prompt():
            sharing.begin()
            return await asyncio.gather(*(asyncio.create_task(one()) for _ in range(times)))

        return asyncio.run(prompt())


@pytest.fixture
def decodings(monkeypatch):
    """How often media were decoded."""
    calls, fetch = [], verl_dataset.fetch
    monkeypatch.setattr(verl_dataset, "fetch", lambda *arguments: calls.append(1) or fetch(*arguments))
    return calls


@pytest.fixture
def stored(monkeypatch):
    """What was put into Ray's object store, of which a number stands for the reference."""
    held = []
    monkeypatch.setattr(sharing_loop.ray, "put", lambda value: held.append(value) or len(held))
    return held


def asked(clip, question=QUESTION):
    media = {"type": "video", "video": clip, "fps": 4.0, "min_pixels": 1024, "max_pixels": 4096, "total_pixels": 65536}
    return [{"role": "user", "content": [media, {"type": "text", "text": question}]}]


def test_eight_rollouts_do_the_work_of_one(clip, decodings, stored):
    rollouts = Rollouts(do_resize=False)
    found = rollouts.run(asked(clip))
    assert len(decodings) == 1
    assert rollouts.processor.calls == 2  # for the prompt's tokens, and for what the trainer gets
    assert [request["video_data"] for request in rollouts.server.sent] == [1] * 8
    [[(frames, metadata)]] = stored
    assert frames.shape == (8, 3, 64, 64) and metadata["frames_indices"] == list(range(8))
    assert len({tuple(output.prompt_ids) for output, _ in found}) == 1
    first, second = found[0][1], found[1][1]
    assert second["pixel_levels_videos"] is first["pixel_levels_videos"]
    first.pop("video_grid_thw")  # verl pops keys of what it gets
    assert second["video_grid_thw"].tolist() == [[4, 4, 4]]


def test_each_rollout_stores_its_pixels_once_and_as_bytes(clip, stored):
    for output, inputs in Rollouts().run(asked(clip), times=2):
        kept = {**output.as_dict(), "multi_modal_inputs": inputs}
        kept.pop("multi_modal_data")  # as verl does
        pixels = [value for value in tensors(kept) if value.numel() >= 64 * 64]
        assert [(value.dtype, value.numel()) for value in pixels] == [(torch.uint8, 8 * 3 * 64 * 64)]


def tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from tensors(inner)


def test_the_trainer_gets_what_verls_own_worker_would_have_given_it(clip, stored):
    ours, verls = Rollouts(), Rollouts(worker=AgentLoopWorker)
    [(_, made)], [(_, expected)] = ours.run(asked(clip), times=1), verls.run(asked(clip), times=1)
    scale_levels(made, ours.processor)
    assert made.keys() == expected.keys()
    assert torch.equal(made["pixel_values_videos"], expected["pixel_values_videos"])


@pytest.mark.parametrize("options", [{"strategy": "megatron"}, {"do_rescale": True}])
def test_a_trainer_that_could_not_scale_them_gets_floats(clip, stored, options):
    [(_, made)] = Rollouts(**options).run(asked(clip), times=1)
    assert made["pixel_values_videos"].dtype == torch.float32


def test_two_prompts_share_nothing(clip, decodings, stored):
    rollouts = Rollouts()
    first, second = rollouts.run(asked(clip)), rollouts.run(asked(clip, "Why?"))
    assert (len(decodings), len(stored), rollouts.processor.calls) == (2, 2, 4)
    assert first[0][0].prompt_ids != second[0][0].prompt_ids


def test_what_one_rollout_does_to_a_clips_metadata_does_not_reach_the_others(clip, stored):
    async def two():
        sharing.begin()
        rollouts = Rollouts()
        return [(await rollouts.loop().process_multi_modal_info(asked(clip)))["videos"][0] for _ in range(2)]

    (frames, metadata), (same_frames, other) = asyncio.run(two())
    metadata["fps"] = None
    assert same_frames is frames and other["fps"] == 4.0


def test_sglang_is_handed_what_the_processor_made(clip, stored):
    rollouts = Rollouts(engine="sglang")
    rollouts.run(asked(clip), times=2)
    for request in rollouts.server.sent:
        [payload] = request["mm_processor_output"]
        assert payload["pixel_values_videos"].dtype == torch.float32


def test_a_clip_that_does_not_decode_fails_all_rollouts_of_its_prompt_and_no_other(clip, tmp_path, stored):
    rollouts = Rollouts()
    with pytest.raises(ValueError, match=r"do not decode: .*lost\.mp4"):
        rollouts.run(asked(str(tmp_path / "lost.mp4")))
    assert len(rollouts.run(asked(clip))) == 8


def test_a_rollout_that_is_cancelled_takes_nothing_from_the_others():
    async def result():
        return "tokens"

    async def prompt():
        sharing.begin()
        impatient = asyncio.create_task(sharing.shared().get("tokens", result))
        patient = asyncio.create_task(sharing.shared().get("tokens", result))
        await asyncio.sleep(0)
        impatient.cancel()
        return await patient

    assert asyncio.run(prompt()) == "tokens"


def test_the_client_is_verls_own_in_all_else():
    assert SentOnce(SimpleNamespace(config="verl's"), sharing.Shared()).config == "verl's"
