"""From frames to vision tokens to context, by the arithmetic of `data_mixers.clips` and Qwen3-VL's processor (docs/check.md).

Without opening a file: from a row's options and duration alone, upper bounds. With media, `media.prompts` lets the processor
itself count. A pair of frames (temporal patch 2) of h x w pixels is h/32 x w/32 tokens (patch 16, merge 2), and Qwen3-VL writes
the pair's time before it, `<123.4 seconds>` between two marks.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from omegaconf import DictConfig

from .batch import sequence_parallel
from .finding import Finding, NotKnown, error, note, warning
from .subject import Subject

FRAMES_A_PATCH = 2
TIME_TOKENS = 10
"""`<`, three digits, `.`, a digit, ` seconds`, `>` and the two vision marks around the pair."""
CHARACTERS_A_TOKEN = 3
"""Of instructions, at least, where the model's tokenizer is not at hand."""
# qwen-vl-utils 0.0.14, where an option is not given (FPS, FPS_MIN_FRAMES, FPS_MAX_FRAMES, VIDEO_*_TOKEN_NUM, MODEL_SEQ_LEN)
DEFAULTS = {
    "fps": 2.0,
    "min_frames": 4,
    "max_frames": 768,
    "min_tokens": 128,
    "max_tokens": 768,
    "all_tokens": 128000 * 0.9,
}


class Clip(NamedTuple):
    """What becomes of one video: frames, at most so many tokens for each pair of them, and in all, times included."""

    frames: int
    pair_tokens: int

    @property
    def tokens(self) -> int:
        return self.frames // FRAMES_A_PATCH * (self.pair_tokens + TIME_TOKENS)


def clip(options: Mapping[str, Any], seconds: float | None, factor: int = 32) -> Clip:
    """The largest that a video of so many seconds can become.

    Args:
        options: qwen-vl-utils', as in `MEDIA_OPTIONS`.
        seconds: the video's length; None takes as many frames as the options allow.
        factor: pixels of a token's edge: patch x merge.
    """
    return Clip(frames := frames_of(options, seconds), _pair_tokens(options, frames, factor))


def frames_of(options: Mapping[str, Any], seconds: float | None) -> int:
    """Frames that are sampled: even, within the row's bounds."""
    if "nframes" in options:
        return round(options["nframes"] / FRAMES_A_PATCH) * FRAMES_A_PATCH
    most = options.get("max_frames", DEFAULTS["max_frames"])
    if seconds is None:
        wanted = most
    else:
        begin, end = options.get("video_start", 0.0), options.get("video_end", seconds)
        wanted = max(end - begin, 0.0) * options.get("fps", DEFAULTS["fps"])
    least = options.get("min_frames", DEFAULTS["min_frames"])
    return int(min(max(wanted, least), most)) // FRAMES_A_PATCH * FRAMES_A_PATCH


def _pair_tokens(options: Mapping[str, Any], frames: int, factor: int) -> int:
    area = factor**2
    if "resized_height" in options and "resized_width" in options:
        return max(1, round(options["resized_height"] / factor)) * max(1, round(options["resized_width"] / factor))
    least = options.get("min_pixels", DEFAULTS["min_tokens"] * area)
    most = options.get("max_pixels", max(DEFAULTS["max_tokens"] * area, least))
    budget = options.get("total_pixels", DEFAULTS["all_tokens"] * area) / max(frames, 1) * FRAMES_A_PATCH
    return int(min(most, budget)) // area


def token_edge(config: DictConfig, model_config: Mapping[str, Any]) -> int:
    """Pixels of a token's edge, as verl has qwen-vl-utils round to."""
    return config.data.image_patch_size * model_config.get("vision_config", {}).get("spatial_merge_size", 2)


def lengths(subject: Subject) -> Iterator[Finding]:
    """The settings of length against one another."""
    config, rollout = subject.config, subject.config.actor_rollout_ref.rollout
    prompt, response = config.data.max_prompt_length, config.data.max_response_length
    whole = prompt + response
    if rollout.max_model_len is not None and rollout.max_model_len < whole:
        yield error(
            f"rollout.max_model_len={rollout.max_model_len:,} is less than data.max_prompt_length + data.max_response_length = "
            f"{prompt:,} + {response:,} = {whole:,}: the longest prompts have no room for an answer. Set it to {whole:,}"
        )
    parallel, actor = sequence_parallel(config), config.actor_rollout_ref.actor
    for key, dynamic, tokens in (
        ("actor.ppo_max_token_len_per_gpu", actor.use_dynamic_bsz, actor.ppo_max_token_len_per_gpu),
        (
            "rollout.log_prob_max_token_len_per_gpu",
            rollout.log_prob_use_dynamic_bsz,
            rollout.log_prob_max_token_len_per_gpu,
        ),
    ):
        if dynamic and tokens * parallel < whole:
            yield error(
                f"actor_rollout_ref.{key}={tokens:,}{f' x {parallel} GPUs a sequence' if parallel > 1 else ''} is less than one "
                f"longest sequence of {whole:,} tokens, at which verl stops; set it to {-(-whole // parallel):,} or more"
            )


def positions(subject: Subject) -> Iterator[Finding]:
    """The longest sequence against the positions that the model was made for."""
    config, longest = subject.config, subject.config.actor_rollout_ref.rollout.max_model_len
    longest = longest or config.data.max_prompt_length + config.data.max_response_length
    text = subject.model_config.get("text_config", subject.model_config)
    most = text.get("max_position_embeddings")
    if most and longest > most:
        yield error(
            f"sequences of up to {longest:,} tokens, and the model has {most:,} positions (max_position_embeddings); lower "
            f"data.max_prompt_length and rollout.max_model_len"
        )


def vision(subject: Subject) -> Iterator[Finding]:
    """What the rows' videos become in tokens, at most, against `data.max_prompt_length`; frame caps that thin out time."""
    config = subject.config
    try:
        edge = token_edge(config, subject.model_config)
    except NotKnown:
        edge = 2 * config.data.image_patch_size
    words = _counter(subject)
    found, longest, sparse, over = 0, (0, ""), [], 0
    for row in subject.rows.rows:
        seconds = (row.get("extra_info") or {}).get("duration")
        clips = [(options, clip(options, seconds, edge)) for options in subject.clips(row)]
        found += len(clips)
        sparse += [seconds for options, made in clips if seconds and _thinned(options, made, seconds)]
        question = sum(words(message["content"]) for message in row["prompt"])
        tokens = sum(made.tokens for _, made in clips) + question if clips else 0
        over += tokens > config.data.max_prompt_length
        if tokens > longest[0]:
            longest = (tokens, _told(clips, seconds, question))
    if not found:
        return
    tokens, told = longest
    if over:
        yield warning(
            f"{over} of {len(subject.rows.rows)} prompts may be longer than data.max_prompt_length="
            f"{config.data.max_prompt_length:,} and would be skipped, the longest with up to {tokens:,} tokens ({told}). Raise it to "
            f"{tokens:,} (and rollout.max_model_len with it), or lower data.mixture.video.total_pixels, max_frames or fps"
        )
    else:
        yield note(f"the longest prompt has at most {tokens:,} of {config.data.max_prompt_length:,} tokens: {told}")
    if sparse:
        yield note(
            f"{len(sparse)} of {found} videos, up to {max(sparse):.0f} s long, are too long for their frame cap: they are sampled "
            f"more sparsely than their fps says, and their times stay true"
        )


def _counter(subject: Subject) -> Callable[[str], int]:
    """Tokens of a text, by the model's own tokenizer where it is at hand, else at most."""
    try:
        tokenizer = subject.tokenizer
    except NotKnown:
        return lambda text: -(-len(text) // CHARACTERS_A_TOKEN)
    return cache(lambda text: len(tokenizer(text)["input_ids"]))


def _thinned(options: Mapping[str, Any], made: Clip, seconds: float) -> bool:
    return "nframes" not in options and made.frames + FRAMES_A_PATCH < seconds * options.get("fps", DEFAULTS["fps"])


def _told(clips: list[tuple[Mapping[str, Any], Clip]], seconds: float | None, question: int) -> str:
    parts = [
        f"{made.frames} frames{f' of {seconds:.0f} s' if seconds else ''} in pairs of {made.pair_tokens} + {TIME_TOKENS} tokens"
        for _, made in clips
    ]
    return " and ".join([*parts, f"{question} of the question"])
