"""Do the model's own files agree with one another and with the recipe: configuration, tokenizer, processor, chat template?

verl and vLLM each read them for themselves, and where they disagree nothing fails: the policy that writes is then not quite the
one that is trained, or sees other pixels than were paid for.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from omegaconf import OmegaConf

from .context import FRAMES_A_PATCH, clip
from .finding import Finding, error, note, warning
from .subject import Subject

PADS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
}
VOCABULARIES = ("tokenizer.json", "vocab.json", "tokenizer.model")
QUESTION = "Which shot is it?"


def tokenizer(subject: Subject) -> Iterator[Finding]:
    """The tokenizer against the embedding, the special tokens and the token that ends an answer."""
    if not any((subject.model_folder / name).is_file() for name in VOCABULARIES):
        yield error(
            f"{subject.model_folder} has no tokenizer ({', '.join(VOCABULARIES)}): copy tokenizer, processor and chat template from the "
            f"model that it was trained from"
        )
        return
    words, config = subject.tokenizer, subject.model_config
    text = config.get("text_config", config)
    rows, known = text["vocab_size"], len(words)
    if known > rows:
        yield error(
            f"the tokenizer has {known:,} tokens and the model's embedding {rows:,} rows (vocab_size): the last {known - rows:,} would "
            f"be out of range. Resize the embedding (model.resize_token_embeddings({known})), or take the tokenizer of this model"
        )
    elif known < rows:
        yield note(
            f"{rows - known:,} of the embedding's {rows:,} rows belong to no token: vLLM never samples them, and the trainer counts "
            f"them when it normalises; harmless where a trained model gives them next to nothing"
        )
    for key, token in PADS.items():
        stated, found = config.get(key), words.convert_tokens_to_ids(token)
        if stated is not None and stated != found:
            yield error(
                f"config.json says {key}={stated}, and the tokenizer's {token} is {found}: the model would look for media at another "
                f"token than the processor writes. Take both from one model"
            )
    yield from _ends(subject.model_folder, words)


def _ends(folder: Path, words) -> Iterator[Finding]:
    path = folder / "generation_config.json"
    if words.eos_token_id is None:
        yield error("the tokenizer has no eos_token: no answer would ever end before data.max_response_length. Set one")
    elif path.is_file():
        stated = json.loads(path.read_text()).get("eos_token_id")
        ends = stated if isinstance(stated, list) else [stated]
        if words.eos_token_id not in ends:
            yield warning(
                f"generation_config.json ends answers at {stated}, and the tokenizer's eos_token {words.eos_token!r} is "
                f"{words.eos_token_id}: add it there, or answers go on behind their end"
            )


def chat_template(subject: Subject) -> Iterator[Finding]:
    """The template renders a prompt with a video, and opens the answer."""
    render = subject.processor
    if not getattr(render, "chat_template", None):
        yield error(
            "the model has no chat template (chat_template.jinja): prompts cannot be written. Take its instruct version"
        )
        return
    messages = [{"role": "user", "content": [{"type": "video", "video": "clip"}, {"type": "text", "text": QUESTION}]}]
    extra = OmegaConf.to_container(
        subject.config.data.get("apply_chat_template_kwargs") or OmegaConf.create({}), resolve=True
    )
    bare, opened = (
        render.apply_chat_template(messages, tokenize=False, add_generation_prompt=add, **extra)
        for add in (False, True)
    )
    pads = opened.count(PADS["video_token_id"])
    if pads != 1:
        yield error(
            f"the chat template writes {pads} {PADS['video_token_id']} for a message with one video: the processor would put the "
            f"frames nowhere, or twice. Take the chat template of a Qwen3-VL model"
        )
    if QUESTION not in opened:
        yield error(
            "the chat template leaves out the text of a message that has a video: take that of a Qwen3-VL model"
        )
    if opened == bare or not opened.startswith(bare):
        yield error(
            "add_generation_prompt does not open the answer in the chat template: the model would first have to write the "
            "assistant's mark itself. Take the chat template of an instruct model"
        )
    elif "<think>" in opened[len(bare) :]:
        yield warning(
            "the chat template opens a <think> in the prompt: it is then missing in the answer, and chain of thought loses its format "
            "reward. Take the instruct version, or data.apply_chat_template_kwargs that leave it out"
        )


def patches(subject: Subject) -> Iterator[Finding]:
    """Patch and merge of the processor, the model and the recipe are the same, as is what a video may have."""
    config, model = subject.config, subject.model_config
    vision = model.get("vision_config") or {}
    wanted = {
        "patch_size": vision.get("patch_size"),
        "merge_size": vision.get("spatial_merge_size"),
        "temporal_patch_size": vision.get("temporal_patch_size"),
    }
    render = subject.processor
    for name in ("image_processor", "video_processor"):
        part = getattr(render, name, None)
        for key, size in wanted.items():
            found = getattr(part, key, size)
            if part is not None and size is not None and found != size:
                yield error(
                    f"the {name} has {key}={found} and the model {size}: take both from one model (preprocessor_config.json)"
                )
    if wanted["patch_size"] and config.data.image_patch_size != wanted["patch_size"]:
        yield error(
            f"data.image_patch_size={config.data.image_patch_size} and the model's patches have {wanted['patch_size']} pixels: media "
            f"would be resized twice. Set data.image_patch_size={wanted['patch_size']}"
        )
    if getattr(render, "video_processor", None) is not None:
        yield from _video_budget(subject, render.video_processor)


def _video_budget(subject: Subject, processor) -> Iterator[Finding]:
    """What the recipe lets a video have against what the processor then cuts it down to, in silence."""
    config = subject.config
    size = OmegaConf.select(config, "data.mm_processor_kwargs.size") or processor.size
    most = size.get("longest_edge") if hasattr(size, "get") else getattr(size, "longest_edge", None)
    options = OmegaConf.to_container(
        OmegaConf.select(config, "data.mixture.video") or OmegaConf.create({}), resolve=True
    )
    resizes = OmegaConf.select(config, "data.mm_processor_kwargs.do_resize")
    if not most or not options or resizes is False:
        return
    edge = processor.patch_size * processor.merge_size
    longest = clip(options, None, edge)
    asked, given = longest.frames // FRAMES_A_PATCH * longest.pair_tokens, most // (FRAMES_A_PATCH * edge**2)
    if asked > given:
        yield warning(
            f"data.mixture.video lets a video have {asked:,} tokens ({longest.frames} frames in pairs of {longest.pair_tokens}), and the "
            f"model's processor shrinks every video to {given:,} (size.longest_edge={most:,} pixels over all frames): the frames would "
            f"lose {1 - given / asked:.0%} of their pixels in silence. Set data.mm_processor_kwargs.do_resize=false, as frames have "
            f"their size already, or sv6d.video_tokens={given}"
        )
