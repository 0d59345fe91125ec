"""A clip reaches vLLM as one placeholder (verl's Qwen3-VL video prompt bug)."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sv6d.verl_plugin.mends import video_prompt

START, END, IMAGE, VIDEO = 1001, 1002, 1003, 1004
MARKS = {"[": START, "]": END, "#": IMAGE, "*": VIDEO}  # in the strings below


class CharacterTokenizer:
    """One token a character."""

    def decode(self, ids):
        return "".join(chr(i) if i < 1000 else "|" for i in ids)

    def encode(self, text, add_special_tokens=True):
        return [ord(c) for c in text]


class Qwen2VLImageProcessor:
    pass


class Qwen3VLProcessor:
    tokenizer, image_processor = CharacterTokenizer(), Qwen2VLImageProcessor()
    vision_start_token_id, vision_end_token_id, image_token_id, video_token_id = START, END, IMAGE, VIDEO


class Qwen2_5_VLProcessor(Qwen3VLProcessor):
    pass


def ids(text):
    return [MARKS.get(c, ord(c)) for c in text]


def text(tokens):
    marks = {v: k for k, v in MARKS.items()}
    return "".join(marks.get(i) or chr(i) for i in tokens)


def fold(prompt):
    return text(video_prompt.fold_clips(ids(prompt), Qwen3VLProcessor()))


@pytest.mark.parametrize(
    ("prompt", "folded"),
    [
        # transformers 5.10: the template's own vision tokens stay around the clip
        ("ask [<0.3 seconds>[****]<1.3 seconds>[****]] now", "ask [*] now"),
        ("[<0.3 seconds>[**]]", "[*]"),
        ("[<0.5 seconds>[*]<1.5 seconds>[*]][<2.5 seconds>[*]]", "[*][*]"),
        # earlier processors replace them
        ("ask <0.3 seconds>[****]<1.3 seconds>[****] now", "ask [*] now"),
        ("<0.3 seconds>[**]", "[*]"),
        ("no clip at all", "no clip at all"),
        ("", ""),
        ("picture [####] stays", "picture [####] stays"),
        # two clips with text between them, and two side by side: the clock starts again
        ("a<0.0 seconds>[*]<1.0 seconds>[*]b<0.0 seconds>[*]c", "a[*]b[*]c"),
        ("a<0.5 seconds>[*]<1.5 seconds>[*]<0.5 seconds>[*]<1.5 seconds>[*]b", "a[*][*]b"),
        # a slow motion clip: the rounded clock stands still
        ("[<0.0 seconds>[*]<0.0 seconds>[*]<0.1 seconds>[*]]", "[*]"),
        # an image between two clips, and around one
        ("[##]<0.2 seconds>[*]<0.7 seconds>[*][##]<0.9 seconds>[*]", "[##][*][##][*]"),
        # the user writes something like a timestamp; only what stands before a frame is one
        ("at <0.3 seconds> look: [<0.2 seconds>[*]]", "at <0.3 seconds> look: [*]"),
        # groups without timestamps (not Qwen3-VL's own) are one clip each
        ("[**][**]", "[*][*]"),
        # long clips, a clip cut off at the end of the prompt
        ("<12345.5 seconds>[*]<12346.5 seconds>[*]", "[*]"),
        ("x<0.3 seconds>[**", "x[*]"),
    ],
)
def test_fold(prompt, folded):
    assert fold(prompt) == folded


def test_text_that_shares_a_token_with_the_bracket_stays():
    class MergingTokenizer(CharacterTokenizer):
        def decode(self, tokens):
            return "".join(":<" if i == 900 else chr(i) for i in tokens)

    class Processor(Qwen3VLProcessor):
        tokenizer = MergingTokenizer()

    prompt = [ord("a"), 900, *ids("0.3 seconds>[**]<1.3 seconds>[**]")]
    assert text(video_prompt.fold_clips(prompt, Processor())) == "a:[*]"


@settings(deadline=None)
@given(st.lists(st.sampled_from(["word ", "[##]", "<1.1 seconds>[**]", "[<0.1 seconds>[*]]", "]"])))
def test_everything_but_clips_stays_in_its_order(parts):
    folded = fold("".join(parts))
    kept = [part for part in parts if part in ("word ", "[##]", "]")]
    assert folded.replace("[*]", "") == "".join(kept)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=8).map(sorted),
    st.text("abc ", max_size=5),
    st.text("abc ", max_size=5),
)
def test_any_clip_of_rising_times_becomes_one_placeholder(tenths, before, after):
    groups = "".join(f"<{t / 10:.1f} seconds>[***]" for t in tenths)
    assert fold(before + groups + after) == before + "[*]" + after
    assert fold(before + "[" + groups + "]" + after) == before + "[*]" + after


def test_verl_leaves_each_frame_its_pad_and_the_mend_does_not(unmended):
    rollout_utils = unmended("verl.workers.rollout.utils")
    prompt = ids("ask [<0.3 seconds>[****]<1.3 seconds>[****]] now")

    assert text(rollout_utils.qwen2_5_vl_dedup_image_tokens(prompt, Qwen3VLProcessor())) == (
        "ask [<0.3 seconds>[*]<1.3 seconds>[*]] now"
    )
    assert video_prompt.needed(rollout_utils)
    video_prompt.apply(rollout_utils)
    assert text(rollout_utils.qwen2_5_vl_dedup_image_tokens(prompt, Qwen3VLProcessor())) == "ask [*] now"


def test_images_and_other_models_are_as_before(unmended):
    rollout_utils = unmended("verl.workers.rollout.utils")
    video_prompt.apply(rollout_utils)
    dedup = rollout_utils.qwen2_5_vl_dedup_image_tokens
    assert text(dedup(ids("see [####] now"), Qwen3VLProcessor())) == "see [#] now"
    assert text(dedup(ids("see [****] now"), Qwen2_5_VLProcessor())) == "see [*] now"
    assert dedup([1, 2, 3], None) == [1, 2, 3]


def test_every_holder_of_the_function_gets_the_mended_one():
    """verl's vLLM server took the function by name; the mend must reach it in whichever order they are imported."""
    import verl.workers.rollout.utils as rollout_utils
    from sv6d.verl_plugin import mends

    assert mends.state("video_prompt") == "applied"
    assert re.search("fold_clips", str(rollout_utils.qwen2_5_vl_dedup_image_tokens.__code__.co_names))
