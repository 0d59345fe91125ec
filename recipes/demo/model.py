"""A tiny Qwen3-VL made on the spot: the architecture, processor and chat markup of the real model, at a size that two CPU cores can train.

Its tokenizer is fitted to a corpus of prompts and answers: numbers, tags and letters stay apart, and whatever stands between
them (JSON punctuation and keys, instructions) becomes one token each, so that an answer has 5 to 30 tokens instead of hundreds.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...schema import TASKS, Taxonomy

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>",
    "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip

# Qwen's chat markup, without tools.
CHAT_TEMPLATE = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}"
    "{%- if m.content is string %}{{- m.content }}{%- else %}{%- for c in m.content %}"
    "{%- if c.type == 'image' or 'image' in c %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif c.type == 'video' or 'video' in c %}{{- '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{%- elif 'text' in c %}{{- c.text }}{%- endif %}{%- endfor %}{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

# What a model has to choose between, one token a choice: times, digits, option letters, strings of JSON, think and answer marks.
CHOICE = re.compile(r"\d+\.\d+|\d|\b[A-Z]\b|(?<=\")[^\"{}\[\]]+(?=\"[,}\]])|</?think>|</?answer>")
MEDIA_MARK = re.compile(r"<video>|<image>")


@dataclass(frozen=True)
class Size:
    """Sizes of the tiny model. The default has about 1.7 million parameters."""

    hidden: int = 128
    layers: int = 3
    vision_hidden: int = 128
    vision_layers: int = 2
    max_positions: int = 4096


def fragments(prompt: str, answer: str) -> set[str]:
    """The token strings that one prompt and its answer need: the prompt's pieces whole, the answer cut at its choices."""
    pieces = {piece for piece in MEDIA_MARK.split(prompt) if len(piece) > 1}
    if not answer.startswith(("{", "<think>")):  # a transcription: letter by letter
        return pieces
    position = 0
    for choice in CHOICE.finditer(answer):
        pieces |= {answer[position : choice.start()], choice.group()}
        position = choice.end()
    return {piece for piece in pieces | {answer[position:]} if len(piece) > 1}


def build_tokenizer(corpus: Iterable[tuple[list[dict], str]]):
    """A byte-level Qwen2 tokenizer without merges whose added tokens are the corpus's fragments.

    Args:
        corpus: (messages, answer) pairs; the messages are those of a row, with `<video>` and `<image>` marks.
    """
    from tokenizers import AddedToken, pre_tokenizers
    from transformers import Qwen2TokenizerFast

    taxonomy = Taxonomy.load()
    pieces = {"user\n", "assistant\n", "system\n", " seconds>"} | {f"{tenths / 10:.1f}" for tenths in range(100)}
    for task in TASKS.values():  # every tag that a task can ask for can be said, whether or not the corpus has it
        for dimension, sub_dimension in task.labels:
            pieces |= set(taxonomy.dimensions[dimension].sub_dimensions[sub_dimension].labels)
    for messages, answer in corpus:
        for message in messages:
            pieces |= fragments(message["content"], "")
        pieces |= fragments("", answer)

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Qwen2TokenizerFast(
        vocab={token: index for index, token in enumerate([*alphabet, SPECIAL_TOKENS[0]])},
        merges=[],
        unk_token="<|endoftext|>",
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        model_max_length=4096,
    )
    # Added tokens, not merges: Qwen2's tokenizer installs its own pre-tokenizer on every load.
    ordered = sorted(pieces, key=lambda piece: (-len(piece), piece))
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in ordered])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def closing_tokens(tokenizer, answers: Iterable[str]) -> set[int]:
    """Ids of the tokens that close a structured answer, as `}]}` or `</answer>`. A transcription's last letter closes nothing.

    The model generates nothing behind them. What trails an answer is ignored by the rewards, so a policy that by chance goes on
    writing there is never called back: a run was seen to end half again as long as it began.
    """
    structured = {answer for answer in answers if answer.startswith(("{", "<think>"))}
    return {tokenizer(answer).input_ids[-1] for answer in structured}


def build_processor(tokenizer):
    """Qwen3-VL's processor: 16-pixel patches, merged 2 x 2, two frames a temporal patch, times written into the prompt."""
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    patches = dict(patch_size=16, temporal_patch_size=2, merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    images = Qwen2VLImageProcessor(**patches, size={"shortest_edge": 32 * 32, "longest_edge": 128 * 128})
    videos = Qwen3VLVideoProcessor(
        **patches,
        size={"shortest_edge": 32 * 32 * 2, "longest_edge": 128 * 128 * 8},
        fps=2,
        min_frames=2,
        max_frames=16,
    )
    return Qwen3VLProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=videos, chat_template=CHAT_TEMPLATE
    )


def build_config(tokenizer, size: Size):
    """A Qwen3-VL configuration of the given size whose vocabulary is exactly the tokenizer's (verl masks a longer one on one side only)."""
    from transformers import Qwen3VLConfig
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig, Qwen3VLVisionConfig

    token = tokenizer.convert_tokens_to_ids
    text = Qwen3VLTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=2 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // 32,
        num_key_value_heads=max(1, size.hidden // 64),
        head_dim=32,
        max_position_embeddings=size.max_positions,
        tie_word_embeddings=True,
        initializer_range=0.04,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [8, 4, 4],
            "mrope_interleaved": True,
        },
        bos_token_id=None,
        eos_token_id=token("<|im_end|>"),
        pad_token_id=token("<|endoftext|>"),
    )
    vision = Qwen3VLVisionConfig(
        depth=size.vision_layers,
        hidden_size=size.vision_hidden,
        intermediate_size=2 * size.vision_hidden,
        num_heads=size.vision_hidden // 32,
        patch_size=16,
        spatial_merge_size=2,
        temporal_patch_size=2,
        out_hidden_size=size.hidden,
        num_position_embeddings=64,
        deepstack_visual_indexes=[0],
        initializer_range=0.04,
    )
    return Qwen3VLConfig(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
        initializer_range=0.04,
    )


def build_model(
    corpus: Iterable[tuple[list[dict], str]], out: str | Path, seed: int = 0, size: Size | None = None
) -> dict:
    """Write a randomly initialised tiny Qwen3-VL with its processor to `out`, as a folder that transformers, verl and vLLM load.

    Args:
        corpus: as of `build_tokenizer`.

    Returns:
        `{"parameters": int, "vocabulary": int}`.
    """
    import torch
    from transformers import GenerationConfig, Qwen3VLForConditionalGeneration
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # of writing a few megabytes
    corpus = list(corpus)
    tokenizer = build_tokenizer(corpus)
    config = build_config(tokenizer, size or Size())
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config).float()
    end, pad = tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.convert_tokens_to_ids("<|endoftext|>")
    ends = [end, pad, *sorted(closing_tokens(tokenizer, (answer for _, answer in corpus)))]
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=pad, do_sample=True)
    out = Path(out)
    build_processor(tokenizer).save_pretrained(out)
    model.save_pretrained(out)  # the weights last: their presence means that the folder is whole
    return {"parameters": sum(p.numel() for p in model.parameters()), "vocabulary": len(tokenizer)}


def corpus_of(rows: Iterable[dict]) -> list[tuple[list[dict], str]]:
    """(messages, answer) pairs of rows (`data_mixers.rows`); the answer is empty for RL rows, which hold none."""
    return [(row["prompt"], row["messages"][-1]["content"] if row.get("messages") else "") for row in rows]
