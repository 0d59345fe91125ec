"""From frames to vision tokens to context: hand-computed, and the bounds hold against the processor's own count."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from preflight import SEGMENTS, example, findings, only, subject, write_task
from sv6d.data_mixers.clips import plan
from sv6d.data_mixers.media import Probe
from sv6d.recipes.checking.context import clip, frames_of, lengths, positions, vision

REPORT = {"fps": 4, "max_frames": 768, "min_pixels": 65536, "max_pixels": 262144, "total_pixels": 50000 * 1024}


@pytest.mark.parametrize(
    ("options", "seconds", "frames"),
    [
        ({"fps": 4}, 10, 40),
        ({"fps": 4}, 10.3, 40),  # 41.2 frames, in whole pairs
        ({}, 10, 20),  # qwen-vl-utils' own 2 fps
        ({"fps": 4}, 0.5, 4),  # at least 4
        ({"fps": 4, "max_frames": 768}, 600, 768),
        ({"fps": 4, "video_start": 2.0, "video_end": 4.0}, 10, 8),
        ({"nframes": 15}, 10, 16),  # qwen-vl-utils rounds to pairs
        ({"fps": 4, "max_frames": 100}, None, 100),
    ],
)
def test_frames_that_are_sampled(options, seconds, frames):
    assert frames_of(options, seconds) == frames


@pytest.mark.parametrize(
    ("seconds", "frames", "pair"),
    [
        (10, 40, 256),  # 262,144 / 32^2 pixels: far from the budget
        (60, 240, 256),  # 120 pairs x 256 = 30,720
        (192, 768, 130),  # 50,000 / 384 pairs
        (3600, 768, 130),
    ],
)
def test_the_tokens_of_a_pair_keep_to_the_reports_budget(seconds, frames, pair):
    made = clip(REPORT, seconds)
    assert made == (frames, pair)
    assert made.tokens == frames // 2 * (pair + 10)


@given(
    frames=st.integers(4, 2000),
    fps=st.sampled_from([10.0, 23.976, 25.0, 30.0]),
    sides=st.tuples(st.integers(64, 1080), st.integers(64, 1080)),
    options=st.fixed_dictionaries(
        {},
        optional={
            "fps": st.sampled_from([0.5, 2, 4, 8]),
            "max_frames": st.sampled_from([8, 64, 768]),
            "min_pixels": st.sampled_from([1024, 65536]),
            "max_pixels": st.sampled_from([131072, 262144]),
            "total_pixels": st.sampled_from([2_000_000, 51_200_000]),
            "video_start": st.sampled_from([0.0, 0.1]),
        },
    ),
)
def test_no_clip_that_the_dataset_plans_has_more_tokens_than_we_foretell(frames, fps, sides, options):
    try:
        planned = plan({"video": "v", **options}, Probe(None, *sides, frames, fps), patch=16)
    except ValueError:
        assume(False)
    tokens = (len(planned.indices) // 2) * (planned.height // 32) * (planned.width // 32)
    made = clip(options, frames / fps)
    assert len(planned.indices) <= made.frames and tokens <= made.frames // 2 * made.pair_tokens


def test_a_fixed_size_is_taken_as_it_is():
    assert clip({"resized_height": 64, "resized_width": 96, "fps": 2}, 10) == (20, 6)


def test_settings_of_length_that_contradict_each_other():
    of = subject(
        "leum_8b_1node", "data.max_prompt_length=1000", "data.max_response_length=200",
        "actor_rollout_ref.rollout.max_model_len=1100", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=1000",
        "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=1200",
    )  # fmt: skip
    texts = [text for level, text in findings(lengths, of) if level == "error"]
    assert len(texts) == 2
    assert (
        "max_model_len=1,100 is less than data.max_prompt_length + data.max_response_length = 1,000 + 200 = 1,200"
        in texts[0]
    )
    assert "ppo_max_token_len_per_gpu=1,000 is less than one longest sequence of 1,200 tokens" in texts[1]


def test_sequence_parallelism_shares_a_sequence():
    key = "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size"
    small = [
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=30000",
        "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=30000",
    ]
    assert len(findings(lengths, subject("leum_8b_1node", *small))) == 2
    assert findings(lengths, subject("leum_8b_1node", *small, f"{key}=2")) == []


def test_more_positions_than_the_model_has():
    of = subject("leum_8b_1node")
    of.model_config["text_config"]["max_position_embeddings"] = 32768
    level, text = only(positions, of)
    assert level == "error" and "the model has 32,768 positions" in text


@pytest.fixture
def rows(tmp_path):
    def rows(*seconds, **options):
        made = [example(duration=length, truth=SEGMENTS, media_options=options) for length in seconds]
        write_task(tmp_path, made)
        return f"sv6d.data={tmp_path}"

    return rows


def test_the_longest_prompt_is_told_from_the_rows_alone(rows):
    level, text = only(vision, subject("leum_8b_1node", rows(10.0, 60.0)))
    # 120 pairs x (256 + 10)
    assert level == "note" and "240 frames of 60 s in pairs of 256 + 10 tokens" in text


def test_videos_beyond_the_frame_cap_are_sampled_more_sparsely_and_said_so(rows):
    found = findings(vision, subject("leum_8b_1node", rows(10.0, 300.0)))
    assert found[1][0] == "note" and "1 of 2 videos, up to 300 s long, are too long for their frame cap" in found[1][1]


def test_prompts_that_may_be_longer_than_allowed_are_counted(rows):
    level, text = only(vision, subject("leum_8b_1node", rows(10.0, 60.0), "data.max_prompt_length=20000"))
    assert level == "warning" and "1 of 2 prompts may be longer than data.max_prompt_length=20,000" in text
    assert "240 frames of 60 s" in text


def test_a_rows_own_options_come_first(rows):
    text = only(vision, subject("leum_8b_1node", rows(10.0, fps=1.0)))[1]
    assert "10 frames of 10 s in pairs of 256" in text
