"""Configuration, tokenizer, processor and chat template of one model folder: what agrees, and each way of not agreeing."""

import json

import pytest
from preflight import findings, only, subject
from sv6d.recipes.checking.model_files import chat_template, patches, tokenizer
from sv6d.recipes.checking.table import CHECKS, SKIPPED, run
from sv6d.recipes.demo.model import CHAT_TEMPLATE, Size, build_config, build_processor, build_tokenizer


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A Qwen3-VL without weights: configuration, tokenizer, processor."""
    folder = tmp_path_factory.mktemp("model")
    words = build_tokenizer([([{"role": "user", "content": "Which letter?"}], "B")])
    build_config(words, Size()).save_pretrained(folder)
    build_processor(words).save_pretrained(folder)
    return folder


@pytest.fixture
def model(built, tmp_path):
    """A copy of it to spoil."""
    for path in built.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def of(model, *settings):
    return subject("cpu_demo", f"sv6d.model={model}", *settings)


def test_files_of_one_model_agree(model):
    assert [findings(check, of(model)) for check in (tokenizer, chat_template, patches)] == [[], [], []]


def test_more_tokens_than_embeddings_are_an_error(model):
    config = json.loads((model / "config.json").read_text())
    words = config["text_config"]["vocab_size"]
    edit(model / "config.json", text_config=config["text_config"] | {"vocab_size": words - 3})
    level, text = only(tokenizer, of(model))
    assert (
        level == "error"
        and f"the tokenizer has {words:,} tokens" in text
        and "the last 3 would be out of range" in text
    )


def test_more_embeddings_than_tokens_are_a_note(model):
    config = json.loads((model / "config.json").read_text())
    edit(model / "config.json", text_config=config["text_config"] | {"vocab_size": 1000})
    level, text = only(tokenizer, of(model))
    assert level == "note" and "of the embedding's 1,000 rows belong to no token" in text


def test_a_media_token_that_the_tokenizer_has_elsewhere_is_an_error(model):
    edit(model / "config.json", video_token_id=5)
    level, text = only(tokenizer, of(model))
    assert level == "error" and "config.json says video_token_id=5, and the tokenizer's <|video_pad|> is" in text


def test_an_end_that_generation_does_not_know_is_a_warning(model):
    (model / "generation_config.json").write_text('{"eos_token_id": [7]}')
    level, text = only(tokenizer, of(model))
    assert level == "warning" and "ends answers at [7]" in text and "<|im_end|>" in text


@pytest.mark.parametrize(
    ("old", "new", "level", "said"),
    [
        (
            "<|vision_start|><|video_pad|><|vision_end|>",
            "",
            "error",
            "writes 0 <|video_pad|> for a message with one video",
        ),
        ("{{- c.text }}", "", "error", "leaves out the text of a message that has a video"),
        (
            "{%- if add_generation_prompt %}",
            "{%- if false %}",
            "error",
            "add_generation_prompt does not open the answer",
        ),
        (
            "'<|im_start|>assistant\\n' }}{%- endif",
            "'<|im_start|>assistant\\n<think>\\n' }}{%- endif",
            "warning",
            "opens a <think>",
        ),
    ],
)
def test_a_chat_template_that_loses_something_is_told(model, old, new, level, said):
    assert old in CHAT_TEMPLATE
    (model / "chat_template.jinja").write_text(CHAT_TEMPLATE.replace(old, new))
    found, text = only(chat_template, of(model))
    assert found == level and said in text


def test_a_patch_size_of_another_model_is_an_error(model):
    level, text = only(patches, of(model, "data.image_patch_size=14"))
    assert level == "error" and "data.image_patch_size=14 and the model's patches have 16 pixels" in text


def test_a_processor_of_another_model_is_an_error(model):
    config = json.loads((model / "config.json").read_text())
    edit(model / "config.json", vision_config=config["vision_config"] | {"temporal_patch_size": 1})
    [(level, text), *_] = findings(patches, of(model))
    assert level == "error" and "temporal_patch_size=2 and the model 1" in text


def test_a_processor_that_would_shrink_the_videos_is_a_warning(model):
    # The tiny model's processor has 128 x 128 x 8 pixels over all frames: 64 tokens. 8 frames of 64 x 64 pixels, 4 pairs of 4 tokens,
    # fit; 768 frames of 512 x 512, 384 pairs of 256 tokens, do not, and the budget leaves 50,000 of them: 384 x 130.
    resize = "data.mm_processor_kwargs.do_resize=true"
    small = [resize, "data.mixture.video.max_frames=8", "data.mixture.video.max_pixels=4096"]
    assert findings(patches, of(model, *small)) == []
    level, text = only(patches, of(model, resize))
    assert level == "warning"
    assert "49,920 tokens (768 frames in pairs of 130)" in text and "shrinks every video to 64" in text
    assert "do_resize=false" in text
    assert findings(patches, of(model)) == []  # the recipes tell the processor not to resize


def test_a_folder_without_a_tokenizer_is_an_error(model):
    (model / "tokenizer.json").unlink()
    level, text = only(tokenizer, of(model))
    assert level == "error" and f"{model} has no tokenizer" in text


def test_a_model_that_is_not_here_is_not_checked():
    one = next(check for check in CHECKS if check.name == "tokenizer")
    [finding] = run(one, subject("cpu_demo"))
    assert finding.level == "note" and finding.text.startswith(f"{SKIPPED}: the model is no folder here")
