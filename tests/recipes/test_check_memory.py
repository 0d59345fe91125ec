"""Memory of a GPU and of the disk, computed by hand from the sizes of a model."""

import pytest
from preflight import findings, only, recipe_with, subject, write_json
from sv6d.recipes.checking import disk
from sv6d.recipes.checking.finding import NotKnown
from sv6d.recipes.checking.memory import (
    GB,
    offloaded,
    rollout_memory,
    rollouts,
    tokens_at_once,
    training,
    training_memory,
)
from sv6d.recipes.checking.model_size import ModelSize, find_config

P8 = 8_767_123_696  # parameters of Qwen3-VL-8B
LAYER8 = 192_946_432  # of one of its 36 decoder layers
EMBEDDING8 = 151_936 * 4096


def size_of(name: str) -> ModelSize:
    return ModelSize.read(find_config(f"Qwen/{name}-Instruct"))


def one_gpu_text_only() -> ModelSize:
    """A model whose memory can be counted on paper: 1,000 parameters, 2 layers, hidden 10, no vision tower."""
    return ModelSize(
        parameters=1000, language_linear=((10, 20),), layer=100, embedding=400, tied=True, hidden=10, layers=2, intermediate=30,
        key_values=8, vocabulary=40, vision_hidden=0, vision_layers=0, vision_intermediate=0, patches=4, patch_values=1536,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen3-VL-2B", 2_127_532_032),
        ("Qwen3-VL-4B", 4_437_815_808),
        ("Qwen3-VL-8B", P8),
        ("Qwen3-VL-32B", 33_357_390_064),
    ],
)
def test_published_models_have_the_parameters_that_transformers_gives_them(name, parameters):
    assert (
        size_of(name).parameters == parameters
    )  # sum(p.numel()) of Qwen3VLForConditionalGeneration on the meta device


def test_a_token_of_the_8b_model_leaves_144_kib_in_the_kv_cache():
    # 36 layers x 2 (key, value) x 8 heads x 128 numbers x 2 bytes
    memory = rollout_memory(recipe_with("leum_8b_1node"), size_of("Qwen3-VL-8B"), 80 * GB)
    assert memory.token == 36 * 2 * 8 * 128 * 2 == 144 * 1024


def test_states_of_fp32_training_are_16_bytes_a_parameter_over_all_ranks():
    memory = training_memory(recipe_with("leum_8b_1node"), size_of("Qwen3-VL-8B"))
    assert memory.states == P8 * (4 + 4 + 8) / 8
    # bf16 copies of two layers and of embedding and head; gradients of one layer in fp32 before they are scattered
    assert memory.gathered == 2 * (2 * LAYER8 + 2 * EMBEDDING8) + 4 * LAYER8


def test_offloading_does_not_lower_the_peak_of_an_update():
    model, key = size_of("Qwen3-VL-8B"), "actor_rollout_ref.actor.fsdp_config"
    without = recipe_with("leum_8b_1node", f"{key}.param_offload=false", f"{key}.optimizer_offload=false")
    assert training_memory(without, model) == training_memory(recipe_with("leum_8b_1node"), model)
    # What is offloaded waits in the node's memory: 4 bytes of parameters and 8 of the optimizer.
    assert offloaded(recipe_with("leum_8b_1node"), model) == 12 * P8 and offloaded(without, model) == 0
    assert "105 GB of each node's own memory" in only(training, subject("leum_8b_1node"))[1]


def test_lora_trains_its_adapters_alone():
    # rank x (inputs + outputs) of q, k, v, o, gate, up, down in 36 layers
    pairs = [(4096, 4096), (4096, 1024), (4096, 1024), (4096, 4096), (4096, 12288), (4096, 12288), (12288, 4096)]
    adapters = 36 * 64 * sum(i + o for i, o in pairs)
    config = recipe_with("leum_8b_1node", "actor_rollout_ref.model.lora_rank=64")
    assert training_memory(config, size_of("Qwen3-VL-8B")).states == (P8 * 4 + adapters * 12) / 8


@pytest.mark.parametrize(
    ("setting", "part", "bytes_"),
    [
        # 100 tokens x 2 bytes: two layers' inputs of 10, and one layer at work: 13 x 10 + 3 x 8 + 4 x 30
        ("actor_rollout_ref.model.enable_gradient_checkpointing=true", "activations", 200 * (2 * 10 + 274)),
        ("actor_rollout_ref.model.enable_gradient_checkpointing=false", "activations", 200 * 2 * 274),
        # logits, their gradient, probabilities and their product
        ("actor_rollout_ref.model.use_fused_kernels=false", "logits", 100 * 40 * 2 * 4),
        ("actor_rollout_ref.actor.fsdp_config.entropy_checkpointing=true", "logits", 100 * 40 * 2 * 2),
        ("actor_rollout_ref.model.use_fused_kernels=true", "logits", 512 * 40 * 4 * 3),
        ("trainer.n_gpus_per_node=1", "gathered", 0),
        ("actor_rollout_ref.actor.fsdp_config.offload_policy=true", "states", 0),
        ("actor_rollout_ref.actor.fsdp_config.fsdp_size=2", "states", 16 * 1000 / 2),
    ],
)
def test_each_part_by_hand(setting, part, bytes_):
    unfused = "actor_rollout_ref.model.use_fused_kernels=false"
    config = recipe_with("leum_8b_1node", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=100", unfused, setting)
    assert getattr(training_memory(config, one_gpu_text_only()), part) == bytes_


def test_fixed_micro_batches_have_so_many_of_the_longest_sequences():
    config = recipe_with(
        "leum_8b_1node", "actor_rollout_ref.actor.use_dynamic_bsz=false", "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=2",
        "data.max_prompt_length=1000", "data.max_response_length=24",
    )  # fmt: skip
    assert tokens_at_once(config) == 2048


def test_the_8b_recipe_fits_80_gb_and_says_of_what_that_is_made():
    level, text = only(training, subject("leum_8b_1node"))
    assert level == "note" and "of a GPU of 80 GB: 17.5 states" in text
    level, text = only(rollouts, subject("leum_8b_1node"))
    assert level == "note" and "17.5 GB of weights" in text


def test_what_does_not_fit_is_an_error_that_names_the_largest_part():
    # 58,320 tokens x 151,936 x 2 bytes x 4 = 71 GB of logits
    level, text = only(training, subject("leum_8b_1node", "actor_rollout_ref.model.use_fused_kernels=false"))
    assert (
        level == "error"
        and "70.9 logits" in text
        and text.endswith("Set actor_rollout_ref.model.use_fused_kernels=true")
    )
    level, text = only(training, subject("leum_8b_1node", "trainer.n_gpus_per_node=1"))
    assert level == "error" and "140.3 states" in text and "LoRA" in text


def test_a_gpu_that_is_not_stated_is_taken_for_80_gb_and_said_so():
    assert "(assumed: sv6d.gpu_gb is not set)" in only(training, subject("leum_8b_1node", "sv6d.gpu_gb=null"))[1]
    level, text = only(training, subject("leum_8b_1node", "sv6d.gpu_gb=40"))
    assert level == "error" and "GPU of 40 GB" in text


def test_vllm_beside_a_trainer_that_leaves_its_states_there():
    # 0.6 x 80 = 48 GB beside 12 bytes x 8.77e9 / 8 = 13.2 GB fit; 0.85 x 80 = 68 do not.
    key = "actor_rollout_ref.actor.fsdp_config"
    stay = [f"{key}.param_offload=false", f"{key}.optimizer_offload=false"]
    assert only(rollouts, subject("leum_8b_1node", *stay))[0] == "note"
    level, text = only(
        rollouts, subject("leum_8b_1node", *stay, "actor_rollout_ref.rollout.gpu_memory_utilization=0.85")
    )
    assert level == "error" and "vLLM takes 68 GB" in text and "beside 13 GB" in text
    assert "gpu_memory_utilization to at most 0.80" in text  # (80 - 13.2 - 3) / 80


def test_a_kv_cache_without_room_for_one_longest_sequence_is_an_error():
    level, text = only(rollouts, subject("leum_8b_1node", "actor_rollout_ref.rollout.gpu_memory_utilization=0.4"))
    assert level == "error" and "vLLM does not start with less than one" in text


def test_a_cpu_recipe_is_not_estimated():
    assert findings(training, subject("cpu_demo")) == findings(rollouts, subject("cpu_demo")) == []


def test_another_engine_than_fsdp_is_not_estimated():
    of = subject("leum_8b_1node", "actor_rollout_ref.actor.strategy=megatron")
    for check in (training, rollouts, disk.free_disk):
        with pytest.raises(NotKnown, match="estimated for FSDP"):
            findings(check, of)


def test_a_model_whose_size_cannot_be_told_is_not_guessed(tmp_path):
    write_json(tmp_path / "config.json", {"model_type": "other"})
    with pytest.raises(NotKnown, match="has no hidden_size"):
        ModelSize.read(find_config(str(tmp_path)))
    with pytest.raises(NotKnown, match="nobody/Knows are not known"):
        find_config("nobody/Knows")


def test_a_checkpoint_is_12_bytes_a_parameter_and_two_are_kept():
    config = recipe_with("leum_8b_1node")
    assert disk.checkpoint_bytes(config, size_of("Qwen3-VL-8B")) == 12 * P8
    assert disk.kept(config) == 2


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ((), 2),
        # The new one is written before the only one is deleted.
        (("trainer.max_actor_ckpt_to_keep=1",), 2),
        (("trainer.max_actor_ckpt_to_keep=null",), 15),  # 150 steps, one each 10
        (("trainer.save_freq=-1",), 0),
        (("trainer.total_training_steps=10",), 1),
    ],
)
def test_how_many_checkpoints_lie_on_the_disk(settings, count):
    assert disk.kept(recipe_with("leum_8b_1node", *settings)) == count


def test_checkpoints_that_do_not_fit_the_disk_are_told_with_both_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100 * 10**9}))
    of = subject("leum_8b_1node", f"sv6d.run_dir={tmp_path}", "trainer.device=cpu")
    level, text = only(disk.free_disk, of)
    assert level == "error"
    assert "2 checkpoints of about 105.21 GB = 210.4 GB" in text and "100.0 GB are free" in text
    assert (
        only(disk.free_disk, subject("leum_8b_1node", f"sv6d.run_dir={tmp_path}"))[0] == "warning"
    )  # no GPU: not this disk


def test_checkpoints_of_the_run_itself_count_as_room(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0}))
    of = subject("leum_8b_1node", f"sv6d.run_dir={tmp_path}", "trainer.device=cpu")
    of.model = one_gpu_text_only()  # 2 x 12,000 bytes
    assert only(disk.free_disk, of)[0] == "error"
    written = tmp_path / "checkpoints" / "global_step_10" / "actor" / "model.pt"
    written.parent.mkdir(parents=True)
    written.write_bytes(bytes(24_000))
    assert only(disk.free_disk, of)[0] == "note"


def test_a_folder_in_which_nothing_may_be_written_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.os, "access", lambda path, mode: False)
    of = subject("leum_8b_1node", f"sv6d.run_dir={tmp_path}", "sv6d.model=nobody/Knows")  # nor need its size be known
    level, text = only(disk.free_disk, of)
    assert (
        level == "error" and f"nothing may be written in {tmp_path}. Set sv6d.run_dir to a folder of your own" in text
    )


def test_a_run_that_saves_nothing_is_told_that_nothing_of_it_can_be_continued(tmp_path):
    of = subject("leum_8b_1node", f"sv6d.run_dir={tmp_path}", "trainer.save_freq=-1")
    (level, text), _ = findings(disk.free_disk, of)
    assert level == "warning" and text.startswith(
        "trainer.save_freq=-1 saves no checkpoint: a run that dies is begun anew"
    )
