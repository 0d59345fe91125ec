"""Trains a tiny Qwen3-VL to read a clip's clock, then asks vLLM and transformers for the same probabilities. Prints JSON.

`python agreement_job.py FOLDER`: `learnt` is the least probability of the right answer on new clips, `mended` and `unmended`
the largest difference of an answer token's probability between the two, with the prompt that our mend and that verl gives
vLLM, for right answers and wrong ones; `mended_log` is that of the logarithm, which does not saturate.
"""

import json
import os
import random
import sys

os.environ.update(
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_CPU_KVCACHE_SPACE="1",
    VLLM_CPU_OMP_THREADS_BIND="nobind",
    VLLM_LOGGING_LEVEL="ERROR",
    TORCHDYNAMO_DISABLE="1",
    HF_HUB_OFFLINE="1",
)

import torch
from PIL import Image, ImageDraw

STEPS, BATCH = 60, 16
PIXELS = dict(min_pixels=32 * 32, max_pixels=64 * 64, total_pixels=64 * 64 * 16)
QUESTION = "When is the square there?"


def clip(second):
    """Eight noisy frames at 2 a second, a white square in the two frames of the given second."""
    frames = []
    for index in range(8):
        frame = Image.effect_noise((64, 64), 40).convert("RGB")
        if index // 2 == second:
            x, y = random.randrange(30), random.randrange(30)
            ImageDraw.Draw(frame).rectangle([x, y, x + 30, y + 30], fill="white")
        frames.append(frame)
    return frames


def prepare(processor, second, answer=None):
    """A clip as verl's agent loop prepares it: processor inputs, what vLLM is given, and the ids of the answer (the right
    one unless another second is given)."""
    from qwen_vl_utils import process_vision_info

    video = {"type": "video", "video": clip(second), "sample_fps": 2.0, "raw_fps": 2.0, **PIXELS}
    messages = [{"role": "user", "content": [video, {"type": "text", "text": QUESTION}]}]
    _, videos = process_vision_info(messages, image_patch_size=16, return_video_metadata=True)
    frames, metadata = zip(*videos, strict=True)
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    inputs = processor(
        text=[text], videos=list(frames), video_metadata=list(metadata), do_sample_frames=False, return_tensors="pt"
    )
    text = f"{second if answer is None else answer}.0<|im_end|>"
    return inputs, videos, torch.tensor(processor.tokenizer(text).input_ids)


def collate(examples):
    """All clips have the same shape, so prompts with their answers are equally long; returns model inputs and labels."""
    ids = torch.stack([torch.cat([inputs["input_ids"][0], answer]) for inputs, _, answer in examples])
    prompt = len(examples[0][0]["input_ids"][0])
    types = torch.stack([inputs["mm_token_type_ids"][0] for inputs, _, _ in examples])
    types = torch.cat([types, torch.zeros(len(ids), ids.shape[1] - prompt, dtype=types.dtype)], dim=1)
    media = {
        name: torch.cat([inputs[name] for inputs, _, _ in examples])
        for name in ("pixel_values_videos", "video_grid_thw")
    }
    labels = ids.clone()
    labels[:, :prompt] = -100
    return dict(input_ids=ids, mm_token_type_ids=types, **media), labels


def train(folder, processor):
    """Learn which second the square is in; saves the model and returns it."""
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98))
    pool = [prepare(processor, second) for second in range(4) for _ in range(24)]
    for step in range(STEPS):
        inputs, labels = collate(random.sample(pool, BATCH))
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 20, 2 * (STEPS - step) / STEPS)
        model(**inputs, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return model.eval()


@torch.no_grad()
def actor_probabilities(model, example):
    inputs, _ = collate([example])
    ids = inputs["input_ids"][0]
    probabilities = model(**inputs).logits[0].softmax(-1)
    return probabilities[:-1].gather(1, ids[1:, None])[-len(example[2]) :, 0]


def rollout_probabilities(llm, examples, prompts):
    """vLLM's probabilities of the answer tokens behind the given prompts."""
    from vllm import SamplingParams

    requests = [
        {
            "prompt_token_ids": ids,
            "multi_modal_data": {"video": videos},
            "mm_processor_kwargs": {"do_sample_frames": False},
        }
        for ids, (_, videos, _) in zip(prompts, examples, strict=True)
    ]
    outputs = llm.generate(requests, SamplingParams(max_tokens=1, prompt_logprobs=0, temperature=0), use_tqdm=False)
    found = []
    for output, (_, _, answer) in zip(outputs, examples, strict=True):
        tail = zip(output.prompt_token_ids[-len(answer) :], output.prompt_logprobs[-len(answer) :], strict=True)
        found.append(torch.tensor([logprobs[token].logprob for token, logprobs in tail]).exp())
    return found, [list(output.prompt_token_ids) for output in outputs]


def main(folder):
    from sv6d.recipes.demo.model import build_model
    from transformers import AutoProcessor

    random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    corpus = [([{"role": "user", "content": "<video>" + QUESTION}], f"{second}.0") for second in range(4)]
    build_model(corpus, folder)
    processor = AutoProcessor.from_pretrained(folder)
    model = train(folder, processor)
    examples = [prepare(processor, second, answer) for second in range(4) for answer in (second, (second + 1) % 4)]
    expected = [actor_probabilities(model, example) for example in examples]

    from verl.workers.rollout.utils import qwen2_5_vl_dedup_image_tokens as mended
    from vllm import LLM

    llm = LLM(folder, dtype="float32", enforce_eager=True, max_model_len=256, max_num_batched_tokens=4096, seed=0)
    full = [torch.cat([inputs["input_ids"][0], answer]).tolist() for inputs, _, answer in examples]
    result = {"learnt": min(float(probabilities[0]) for probabilities in expected[::2])}
    for name, dedup in {"mended": mended, "unmended": mended.__sv6d_original__}.items():
        got, prompts = rollout_probabilities(llm, examples, [dedup(ids, processor) for ids in full])
        result[name] = max(float((a - b).abs().max()) for a, b in zip(got, expected, strict=True))
        result[f"{name}_log"] = max(float((a.log() - b.log()).abs().max()) for a, b in zip(got, expected, strict=True))
        result[f"{name}_same_prompt"] = prompts == full
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
