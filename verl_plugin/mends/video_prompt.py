"""verl 0.9.1, `workers/rollout/utils.py:93` (`qwen2_5_vl_dedup_image_tokens`), any device: the rollout sees another
video prompt than the actor.

Qwen3-VL writes a clip as `<0.3 seconds><|vision_start|><|video_pad|>...<|vision_end|><1.3 seconds>...`, one such group a
temporal patch. verl merges equal neighbours only, so each group keeps its own pad, and vLLM, which replaces *one*
`<|video_pad|>` by the whole clip with all its timestamps, puts a clip in the place of the first group on top of the
rest. A trained model's probabilities then differ between rollout and actor by up to .92.
The mend folds each clip back to its one placeholder before vLLM sees it.
"""

import re

from ..after_import import replace

TIMESTAMP = re.compile(r"<(\d+(?:\.\d+)?) seconds>$")
LONGEST_TIMESTAMP = 24  # tokens; "<12345.5 seconds>" has 17 characters, Qwen's tokenizer needs 11


def needed(rollout_utils) -> bool:
    """Tries a clip of two frames: not once verl itself leaves it a single placeholder."""
    one, two, start, end, pad = range(5)
    times = {one: "<0.3 seconds>", two: "<1.3 seconds>", start: "<|vision_start|>", end: "<|vision_end|>"}

    class Tokenizer:
        def decode(self, ids, **options):
            return "".join(times.get(i, "<|video_pad|>") for i in ids)

        def encode(self, text, **options):
            return [token for token, written in times.items() if written in text]

    class Qwen2VLImageProcessor:
        pass

    class Qwen3VLProcessor:
        tokenizer, image_processor = Tokenizer(), Qwen2VLImageProcessor()
        vision_start_token_id, vision_end_token_id, video_token_id, image_token_id = start, end, pad, 5

    clip = [start, one, start, pad, pad, end, two, start, pad, pad, end, end]
    return rollout_utils.qwen2_5_vl_dedup_image_tokens(clip, Qwen3VLProcessor()).count(pad) > 1


def apply(rollout_utils) -> None:
    def make(original):
        def qwen2_5_vl_dedup_image_tokens(prompt_ids, processor):
            if type(processor).__name__.startswith("Qwen3VL"):
                prompt_ids = fold_clips(list(prompt_ids), processor)
            return original(prompt_ids, processor)

        return qwen2_5_vl_dedup_image_tokens

    replace(rollout_utils, "qwen2_5_vl_dedup_image_tokens", make)


def fold_clips(ids: list[int], processor) -> list[int]:
    """Fold every clip in a prompt's token ids to `<|vision_start|><|video_pad|><|vision_end|>`, as the chat template
    wrote it: vLLM replaces that, or the pad in it, by what the processor of the installed transformers makes of it.

    A group belongs to the clip before it when nothing but its timestamp stands between them and its time does not run
    backwards; otherwise it begins a new clip. (From transformers 5.10 on the template's pair of vision tokens stays
    around each clip and keeps two clips apart; before that, the clock does, which starts again.)

    Args:
        ids: token ids of the whole prompt, as the processor expanded them.
        processor: a Qwen3-VL processor (its token ids and tokenizer are used).
    """
    start, end, pad = processor.vision_start_token_id, processor.vision_end_token_id, processor.video_token_id
    folded: list[int] = []
    clip_end, clip_time = -1, None  # where the last clip ends in `folded`, and the time of its last group
    i = 0
    while i < len(ids):
        if ids[i] != start or ids[i + 1 : i + 2] != [pad]:
            folded.append(ids[i])
            i += 1
            continue
        i += 1
        while i < len(ids) and ids[i] == pad:
            i += 1
        i += ids[i : i + 1] == [end]
        time = _pop_timestamp(folded, processor)
        same_clip = len(folded) == clip_end and None not in (time, clip_time) and time >= clip_time
        if not same_clip:
            enclosed = folded[-1:] == [start]  # the template's own pair is still there
            folded += [pad] if enclosed else [start, pad, end]
        clip_end, clip_time = len(folded), time
    return folded


def _pop_timestamp(ids: list[int], processor) -> float | None:
    """Remove a timestamp (`<1.3 seconds>`) from the end of `ids` and return it in seconds; None where there is none."""
    fences = {processor.vision_start_token_id, processor.vision_end_token_id, processor.video_token_id}
    for length in range(1, min(LONGEST_TIMESTAMP, len(ids)) + 1):
        if ids[-length] in fences:
            return None
        text = processor.tokenizer.decode(ids[-length:])
        match = TIMESTAMP.search(text)
        if match:  # the "<" may share a token with the text before it (":<"): that text stays
            ids[-length:] = processor.tokenizer.encode(text[: match.start()], add_special_tokens=False)
            return float(match[1])
    return None
