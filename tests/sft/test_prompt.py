"""The warm start's prompt is the rollout's prompt: compared with what verl's own agent loop sends to the rollout server."""

import asyncio
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from sv6d.data_mixers.rows import to_rl_row
from sv6d.sft.prompt import Prompter, parts
from verl.utils.dataset.rl_dataset import RLHFDataset

DATA = OmegaConf.create({"apply_chat_template_kwargs": {}, "mm_processor_kwargs": {}})


@pytest.fixture(scope="module")
def rollout(tokenizer, processor):
    """row -> (prompt ids sent to the server, the worker's media inputs and position ids for prompt + [answer])."""
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker, DictConfigWrap
    from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
    from verl.workers.rollout.replica import TokenOutput

    async def generate(prompt_ids, **request):
        return TokenOutput(token_ids=[tokenizer.eos_token_id], log_probs=[0.0])

    def run(row):
        messages = RLHFDataset._build_messages(
            SimpleNamespace(image_key="images", video_key="videos", audio_key="audios", processor=processor),
            {**row, "prompt": [dict(message) for message in row["prompt"]]},
            key="prompt",
        )

        async def ask():
            sizes = {"prompt_length": 4096, "response_length": 8, "full_determinism": False}
            loop = SingleTurnAgentLoop(
                DictConfigWrap(OmegaConf.create({"actor_rollout_ref": {"rollout": sizes}})),
                SimpleNamespace(generate=generate),
                tokenizer,
                processor,
                RLHFDataset,
                DictConfigWrap(DATA),
                hf_model_type=processor.config.model_type,
            )
            return await loop.run({}, raw_prompt=messages)

        output = asyncio.run(ask())
        worker = SimpleNamespace(processor=processor, tokenizer=tokenizer)
        ids = torch.tensor([[*output.prompt_ids, *output.response_ids]])
        features = AgentLoopWorker._compute_multi_modal_inputs(worker, output, ids)
        positions = AgentLoopWorker._compute_position_ids(worker, ids, torch.ones_like(ids), features)
        return output.prompt_ids, features, positions[0]

    return run


def row_of(examples, task):
    return to_rl_row(next(example for example in examples if example.task == task), 0)


def text_row():
    messages = [{"role": "system", "content": "You answer."}, {"role": "user", "content": "Find the cut."}]
    return {"data_source": "text", "prompt": messages, "images": [], "videos": []}


@pytest.mark.parametrize("kind", ["video", "image", "text"])
def test_ids_pixels_and_positions_are_those_of_the_rollout(kind, examples, rollout, tokenizer, processor):
    task = {"video": "temporal_action_localization", "image": "ocr_regular"}.get(kind)
    row = row_of(examples, task) if task else text_row()
    expected_ids, expected_features, expected_positions = rollout(row)
    prompter = Prompter(tokenizer, processor, DATA)

    ids, features = prompter.prompt(row)

    assert ids == expected_ids
    for name in {"text": [], "image": ["pixel_values", "image_grid_thw"]}.get(
        kind, ["pixel_values_videos", "video_grid_thw"]
    ):
        assert torch.equal(features[name], expected_features[name])
    positions = prompter.positions(torch.tensor([*ids, tokenizer.eos_token_id]), features)
    assert torch.equal(positions, expected_positions)


def test_the_times_in_the_prompt_are_those_of_the_frames(examples, tokenizer, processor):
    # red_blue.mp4: 30 frames at 10 a second, sampled at 2 a second: 6 frames, evenly from the first to the last, indices
    # 0 6 12 17 23 29; two frames a patch, whose time is the middle of the pair: 0.3, 1.45 and 2.6 s.
    ids, _ = Prompter(tokenizer, processor, DATA).prompt(row_of(examples, "temporal_action_localization"))
    text = tokenizer.decode(ids)
    assert [time in text for time in ("<0.3 seconds>", "<1.4 seconds>", "<2.6 seconds>")] == [True] * 3


def test_media_are_put_where_their_marks_stand():
    row = {"images": [{"image": "a.png"}, {"image": "b.png", "max_pixels": 9}], "videos": [{"video": "c.mp4"}]}
    assert parts("<video>then <image><image>end", row) == [
        {"type": "video", "video": "c.mp4"},
        {"type": "text", "text": "then "},
        {"type": "image", "image": "a.png"},
        {"type": "image", "image": "b.png", "max_pixels": 9},
        {"type": "text", "text": "end"},
    ]


def test_a_text_row_keeps_plain_text():
    assert parts("say <this>", {"images": [], "videos": []}) == "say <this>"
