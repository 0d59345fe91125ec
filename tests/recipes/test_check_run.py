"""The whole preflight on real parts: every packaged recipe passes, real videos through the real dataset and processor, and verl's own
arithmetic against ours."""

import json
import os
from types import SimpleNamespace

import av
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from preflight import composed, example, findings, only, subject, write_json, write_task
from sv6d.recipes.checking import check
from sv6d.recipes.checking.batch import read_batch
from sv6d.recipes.checking.cli import command
from sv6d.recipes.checking.environment import names, verl_settings
from sv6d.recipes.checking.keys import OURS
from sv6d.recipes.checking.media import decodable, durations, prompts
from sv6d.recipes.checking.model_size import ModelSize, find_config
from sv6d.recipes.compose import available
from sv6d.recipes.demo.model import Size, build_config, build_processor, build_tokenizer
from sv6d.schema import TASKS

pytestmark = pytest.mark.slow


def write_video(path, frames=50, fps=25):
    """Grey that brightens, 64 x 64 pixels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"g": "10"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for level in range(frames):
            grey = np.full((64, 64, 3), 4 * level + 20, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def words():
    return build_tokenizer([([{"role": "user", "content": "Which letter?"}], "B")])


@pytest.fixture(scope="module")
def model(words, tmp_path_factory):
    """The tiny Qwen3-VL without weights."""
    folder = tmp_path_factory.mktemp("model")
    build_config(words, Size()).save_pretrained(folder)
    build_processor(words).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(words, model, tmp_path_factory):
    """By name: a folder with the configuration of the stated size, and a small tokenizer and processor."""

    def folder(name):
        config = find_config(f"Qwen/{name}-Instruct")
        path = tmp_path_factory.mktemp(name)
        for file in model.iterdir():
            (path / file.name).write_bytes(file.read_bytes())
        marks = {"image_token_id": "image_pad", "video_token_id": "video_pad", "vision_start_token_id": "vision_start"}
        ids = {key: words.convert_tokens_to_ids(f"<|{mark}|>") for key, mark in marks.items()}
        write_json(path / "config.json", config | ids)
        return path

    return {"tiny": model, "2b": folder("Qwen3-VL-2B"), "8b": folder("Qwen3-VL-8B")}


@pytest.fixture(scope="module")
def thirteen(tmp_path_factory):
    """A row of each of the 13 tasks."""
    folder = tmp_path_factory.mktemp("data")
    for task in TASKS.values():
        truth = {"ocr": "EXIT", "chain_of_thought": "B"}.get(task.family, "[]")
        media = "a.mp4" if task.media == "video" else "a.png"
        write_task(
            folder, [example(task.id, media, truth, query="Which one?", duration=8.0 if media == "a.mp4" else None)]
        )
    return folder


@pytest.mark.parametrize("recipe", [name for name in available("grpo") if name != "table3"])
def test_every_recipe_passes_without_media(recipe, models, thirteen, tmp_path):
    """On the model size that its name states; warnings about this machine (GPUs, disk, cupy) are none of the recipe's."""
    model = next((folder for size, folder in models.items() if f"_{size}" in recipe), models["tiny"])
    of = subject(recipe, f"sv6d.data={thirteen}", f"sv6d.model={model}", f"sv6d.run_dir={tmp_path}")
    found = list(check(of.config, media=False))
    assert [finding for finding in found if finding.level == "error"] == []
    named = {finding.check for finding in found}
    assert {"batch", "replicas", "quotas", "vision tokens", "gold answers", "disk", "plug-in"} <= named
    assert not any(finding.text.startswith("not checked") for finding in found)


def test_the_command_prints_a_line_a_finding_and_its_exit_status_says_whether_there_is_an_error(
    models, thirteen, tmp_path
):
    places = [f"sv6d.data={thirteen}", f"sv6d.model={models['8b']}", f"sv6d.run_dir={tmp_path}", "--no-media"]
    good = CliRunner().invoke(command, ["leum_8b_1node", *places])
    assert good.exit_code == 0, good.output
    assert "390 prompts x 8 = 3,120 sequences over 8 ranks" in " ".join(good.output.split())
    bad = CliRunner().invoke(command, ["leum_8b_1node", *places, "trainer.nnodes=4", "--json"])
    assert bad.exit_code == 1
    errors = [finding for finding in json.loads(bad.stdout) if finding["level"] == "error"]
    assert [finding["check"] for finding in errors] == ["batch"] and "take 24 or 40 GPUs" in errors[0]["text"]


FEW = ["data.train_batch_size=2", "sv6d.tasks=1", "data.mixture.video.fps=4", "data.max_prompt_length=1000"]


@pytest.fixture
def filmed(tmp_path, model):
    def filmed(*names, **options):
        write_task(
            tmp_path, [example("subject", tmp_path / name, "[]", duration=2.0, media_options=options) for name in names]
        )
        return subject("cpu_demo", f"sv6d.data={tmp_path}", f"sv6d.model={model}", *FEW)

    return filmed


def test_media_that_decode_and_prompts_that_tell_true_times(tmp_path, filmed):
    write_video(tmp_path / "a.mp4")
    of = filmed("a.mp4")
    assert only(decodable, of) == ("note", "1 sampled media decode to their end")
    lengths, times = findings(prompts, of)
    assert lengths[0] == times[0] == "note"
    assert "1 sampled prompts have" in lengths[1]
    assert times[1].startswith("the times that 1 sampled videos' prompts tell are those of their frames")


def test_a_video_that_ends_early_and_one_that_hangs_are_named(tmp_path, filmed):
    whole = write_video(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    os.mkfifo(tmp_path / "hangs.mp4")  # nobody writes to it: opening it never returns
    of = filmed("a.mp4", "cut.mp4", "hangs.mp4")
    of.config.data.mixture.decode_seconds = 1
    texts = sorted(text for level, text in findings(decodable, of) if level == "error")
    assert len(texts) == 2 and all(text.startswith("2 of 3 sampled media do not decode") for text in texts)
    assert "cut.mp4" in texts[0] and "hangs.mp4 hangs its decoder: it was ended after 1 s" in texts[1]


def test_frames_that_were_sampled_beforehand_are_caught_by_the_clock_of_their_row(tmp_path, filmed):
    write_video(tmp_path / "a.mp4")
    assert only(durations, filmed("a.mp4")) == ("note", "1 sampled videos last as long as their rows say")
    write_video(tmp_path / "thinned.mp4", frames=8)  # 8 of the 50 frames of 2 s, written at 25 frames a second
    level, text = only(durations, filmed("thinned.mp4"))
    assert level == "error" and "thinned.mp4 lasts 0.32 s, and row 0 of subject says 2.00 s" in text


def test_a_folder_of_frames_that_does_not_say_its_rate_is_refused(tmp_path, filmed):
    for number in range(4):
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "frames" / f"{number}.png")
    level, text = findings(prompts, filmed("frames"))[0]
    assert level == "error" and "does not tell its rate; set sample_fps" in text


def test_prompts_longer_than_allowed_are_counted(tmp_path, filmed):
    write_video(tmp_path / "a.mp4")
    of = filmed("a.mp4")
    of.config.data.max_prompt_length = 10
    level, text = findings(prompts, of)[0]
    assert level == "warning" and "1 of 1 sampled prompts have more than data.max_prompt_length=10 tokens" in text


def test_a_task_of_which_no_prompt_fits_would_stop_the_run(tmp_path, filmed):
    write_video(tmp_path / "a.mp4")
    write_video(tmp_path / "b.mp4")
    of = filmed("a.mp4", "b.mp4")
    of.config.data.max_prompt_length = 10
    level, text = findings(prompts, of)[0]
    assert level == "error" and text.startswith("all 2 sampled prompts of subject have more than")
    assert "no row of a task fits, training stops" in text


def test_sampling_twice_is_caught(tmp_path, filmed):
    write_video(tmp_path / "a.mp4")
    of = filmed("a.mp4")
    of.config.data.mm_processor_kwargs = {"do_sample_frames": True, "do_resize": False}
    level, text = findings(prompts, of)[-1]
    assert level == "error" and "1 of 1 sampled videos have other times in their prompt than in their file" in text


def test_a_model_of_any_size_has_the_parameters_that_we_count(model, words):
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    with torch.device("meta"):
        real = Qwen3VLForConditionalGeneration(build_config(words, Size(hidden=64, layers=5)))
    counted = ModelSize.read(build_config(words, Size(hidden=64, layers=5)).to_dict())
    assert counted.parameters == sum(parameter.numel() for parameter in real.parameters())


def saved_numbers(module, *inputs, **more):
    """Numbers of two bytes that autograd saves of a module's pass, its parameters aside."""
    import torch

    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    own |= {part.untyped_storage().data_ptr() for part in more["position_embeddings"]}
    saved = {}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            saved[tensor.untyped_storage().data_ptr()] = (tensor, tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(*inputs, **more)
    return sum(size for _, size in saved.values()) / 2


def test_what_autograd_saves_of_a_layer_is_what_we_count():
    import torch
    from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig, Qwen3VLVisionConfig

    tokens, bf16 = 256, torch.bfloat16
    text = Qwen3VLTextConfig(
        vocab_size=64, hidden_size=256, intermediate_size=768, num_attention_heads=8, num_key_value_heads=2, head_dim=32
    )
    vision = Qwen3VLVisionConfig(hidden_size=128, intermediate_size=480, num_heads=4)
    text._attn_implementation = vision._attn_implementation = "sdpa"
    words = torch.randn(1, tokens, 256, dtype=bf16, requires_grad=True)
    places = qwen.Qwen3VLTextRotaryEmbedding(text)(words, torch.arange(tokens).expand(3, 1, tokens))
    layer = qwen.Qwen3VLTextDecoderLayer(text, 0).to(bf16)
    decoder = saved_numbers(layer, words, position_embeddings=places, attention_mask=None)
    # keys and values over 2 heads of 32
    assert decoder / tokens == pytest.approx(13 * 256 + 3 * (2 * 2 * 32) + 4 * 768, rel=0.02)

    patches = torch.randn(tokens, 128, dtype=bf16, requires_grad=True)
    turns = (torch.randn(tokens, 32, dtype=bf16),) * 2
    block = qwen.Qwen3VLVisionBlock(vision).to(bf16)
    ends = torch.tensor([0, tokens], dtype=torch.int32)
    tower = saved_numbers(block, patches, cu_seqlens=ends, position_embeddings=turns)
    assert tower / tokens == pytest.approx(12 * 128 + 2 * 480, rel=0.02)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("actor_rollout_ref.actor.loss_agg_mode=mean", "Invalid loss_agg_mode: mean"),
        ("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=null", "ppo_micro_batch_size_per_gpu"),
        ("sv6d.record_responses=lots", "sv6d.record_responses=lots: give the number"),
        (
            "sv6d.kl.sample=-1",
            "sv6d.kl.sample is -1; set it to a share (above 0, up to 1) or a whole number of sequences",
        ),
        (
            "trainer.v1.sampler.sampler_kwargs.wait_for_task=-5",
            "sampler_kwargs.wait_for_task is -5; set it to 0 or more",
        ),
    ],
)
def test_what_verl_or_our_trainers_refuse_at_their_start_is_told_before(setting, said):
    level, text = only(verl_settings, subject("cpu_demo", setting))
    assert level == "error" and text.startswith("the run would be refused at its start: ") and said in text


def test_the_names_that_a_fresh_verl_has_are_those_of_the_recipes_and_no_others():
    assert findings(names, subject("leum_8b_async")) == findings(names, subject("cpu_separate")) == []
    wrong = ("actor_rollout_ref.rollout.checkpoint_engine.backend=nccll", "actor_rollout_ref.actor.strategy=fspd2")
    texts = [text for _, text in findings(names, subject("leum_8b_async", *wrong))]
    assert len(texts) == 2 and "did you mean 'fsdp2'" in texts[0] and "did you mean 'nccl'" in texts[1]


def test_our_lists_are_those_of_the_modules_that_read():
    from sv6d.data_mixers import verl_dataset
    from sv6d.verl_plugin import replay_buffer

    assert set(OURS["data.mixture"]) | set(composed("table3").data.mixture) >= set(verl_dataset._SETTINGS)
    assert set(OURS["trainer.v1.sampler.sampler_kwargs"]) == set(replay_buffer._SETTINGS)


@pytest.mark.parametrize("nodes", [1, 4, 8, 12, 16])
def test_verl_itself_pads_to_our_multiple_and_asserts_our_shares(nodes):
    from tensordict import TensorDict
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer
    from verl.utils import tensordict_utils as tu
    from verl.workers.engine_workers import TrainingWorker

    config = subject("leum_8b_1node", f"trainer.nnodes={nodes}").config
    batch = read_batch(config)
    trainer = SimpleNamespace(config=config, use_critic=False, global_steps=1)
    assert PPOTrainer._get_required_batch_multiple(trainer, batch.ranks) == batch.multiple

    data = TensorDict({}, batch_size=[batch.padded // batch.ranks])
    tu.assign_non_tensor(data, mini_batch_size=batch.mini * batch.group)
    worker = SimpleNamespace(
        engine=SimpleNamespace(get_data_parallel_size=lambda: batch.ranks, get_data_parallel_rank=lambda: 0)
    )
    with pytest.raises((AssertionError, AttributeError)) as stopped:  # AttributeError: it went on to the engine
        TrainingWorker.train_mini_batch(worker, data)
    assert (stopped.type is AttributeError) == batch.fits
