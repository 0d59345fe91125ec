"""Recipes: what they compose to, and what the errors teach."""

import pytest
from omegaconf import OmegaConf
from sv6d.recipes.compose import RecipeError, available, compose, leaves, make_absolute, shown

OPEN = ["sv6d.data=D", "sv6d.model=M", "sv6d.run_dir=R"]


def error_of(call, *arguments):
    with pytest.raises(RecipeError) as error:
        call(*arguments)
    return error.value.message


@pytest.mark.parametrize("recipe", available("sft"))
def test_every_sft_recipe_composes_over_verl(recipe):
    config = compose("sft", recipe, OPEN)
    resolved = OmegaConf.to_container(config, resolve=True)
    assert resolved["data"]["train_files"] == "D/sft"
    assert resolved["data"]["custom_cls"] == {"path": "pkg://sv6d.sft.verl_dataset", "name": "SFTDataset"}
    assert resolved["trainer"]["default_local_dir"] == "R/checkpoints"
    assert resolved["trainer"]["max_ckpt_to_keep"] >= resolved["sv6d"]["average_last"]
    assert "hf_model" in resolved["checkpoint"]["save_contents"]
    assert resolved["optim"]["_target_"] == "verl.workers.config.FSDPOptimizerConfig"  # verl's own key, from its YAML


def test_the_vision_side_of_the_8b_recipe_learns_slower_than_the_language_model():
    config = compose("sft", "leum_8b", OPEN)
    rates = config.optim.override_optimizer_config.lr_groups
    assert rates.vision < rates.merger < config.optim.lr


def test_overrides_win():
    config = compose("sft", "cpu_demo", [*OPEN, "trainer.save_freq=7", "++data.mixture.weights.subject=3"])
    assert config.trainer.save_freq == 7
    assert config.data.mixture.weights.subject == 3


def test_a_recipe_of_ones_own_inherits_a_packaged_one(tmp_path):
    (tmp_path / "mine.yaml").write_text("defaults: [cpu_demo, _self_]\ntrainer: {save_freq: 3}\n")
    config = compose("sft", str(tmp_path / "mine.yaml"), OPEN)
    assert (config.trainer.save_freq, config.trainer.device) == (3, "cpu")


def test_an_unknown_recipe_names_the_near_and_all():
    assert error_of(compose, "sft", "cpu_dmo", OPEN) == (
        "no sft recipe is called 'cpu_dmo' (did you mean cpu_demo?). There are base, cpu_demo, leum_8b; "
        "or give the path of a YAML file."
    )


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ("trainer.save_frq=3", "trainer.save_freq"),
        ("optimizer.lr=1", "optim.lr"),
        ("data.mixtur.seed=1", "data.mixture.seed"),
    ],
)
def test_an_unknown_key_names_the_near_keys(override, near):
    message = error_of(compose, "sft", "cpu_demo", [*OPEN, override])
    assert message.startswith(f"{override.split('=')[0]} is no key of recipe cpu_demo (did you mean ")
    assert near in message


@pytest.mark.parametrize("value", ["it's", "a=b", "läum", "~/runs"])
def test_a_value_that_hydra_cannot_read_is_told_how_to_be_quoted(value):
    message = error_of(compose, "grpo", "cpu_demo", [*OPEN[:2], f"sv6d.run_dir={value}"])
    assert message.startswith(f"sv6d.run_dir={value} cannot be read by Hydra") and "double quotes" in message
    assert compose("grpo", "cpu_demo", [*OPEN[:2], f'sv6d.run_dir="{value}"']).sv6d.run_dir == value


def test_places_are_whole_paths_for_processes_that_stand_elsewhere_and_a_hubs_name_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "rows").mkdir()
    config = compose(
        "sft", "cpu_demo", ["sv6d.data=rows", "sv6d.model=Qwen/Qwen3-VL-8B-Instruct", 'sv6d.run_dir="~/runs/leum"']
    )
    make_absolute(config)
    assert config.sv6d.run_dir == "/home/me/runs/leum"
    assert (config.sv6d.data, config.data.train_files) == (str(tmp_path / "rows"), str(tmp_path / "rows" / "sft"))
    assert config.sv6d.model == "Qwen/Qwen3-VL-8B-Instruct"


def test_open_settings_are_asked_for():
    message = error_of(compose, "sft", "cpu_demo", ["sv6d.data=D"])
    assert message.endswith("Add sv6d.run_dir=... sv6d.model=...")


def test_a_missing_yaml_and_a_broken_one_are_named(tmp_path):
    assert error_of(compose, "sft", str(tmp_path / "no.yaml")) == f"{tmp_path / 'no.yaml'}: no such file"
    (tmp_path / "bad.yaml").write_text("trainer: [1\n")
    assert "bad" in error_of(compose, "sft", str(tmp_path / "bad.yaml"))


def test_a_scaled_recipe_rounds_counts_and_keeps_one():
    config = OmegaConf.create(
        {"a": "${count:30,0.1}", "b": "${count:13,0.001}", "c": "${product:1e-6,1000}", "d": "${sum:2,8}"}
    )
    compose("sft", "cpu_demo", OPEN)  # registers the resolvers
    assert OmegaConf.to_container(config, resolve=True) == {"a": 3, "b": 1, "c": pytest.approx(1e-3), "d": 10}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sv6d.scale.prompts=-1", "sv6d.prompts_per_task=${count:30,${sv6d.scale.prompts}}: 30 x -1 counts nothing"),
        (
            "sv6d.video_tokens=0",
            "video.total_pixels=${count:${sv6d.video_tokens},1024}: 0 x 1024 counts nothing; set each",
        ),
        ("sv6d.scale.steps=inf", "sv6d.steps=${count:150,${sv6d.scale.steps}}: 150 x inf counts nothing"),
        (
            "sv6d.scale.steps=few",
            "sv6d.steps=${count:150,${sv6d.scale.steps}}: could not convert string to float: 'few'",
        ),
        ("sv6d.seed=${nothing}", "sv6d.seed=${nothing}: Interpolation key 'nothing' not found"),
    ],
)
def test_a_factor_that_leaves_nothing_is_refused_where_it_is_used_and_not_taken_for_one(override, said):
    assert said in error_of(compose, "grpo", "cpu_demo", [*OPEN, override])


def test_leaves_are_dotted_names_with_unresolved_values():
    assert leaves(OmegaConf.create({"a": {"b": "${c}", "d": {}}, "c": "???"})) == {"a.b": "${c}", "a.d": {}, "c": "???"}


def test_cfg_changes_is_what_a_recipe_changes_of_verls_defaults_and_adds(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "defaults: [ppo_trainer, _self_]\ntrainer: {nnodes: 3, save_freq: -1}\nmine: 1\n"
    )
    config = compose("grpo", str(tmp_path / "mine.yaml"))
    assert shown("grpo", config, "changes") == "trainer:\n  nnodes: 3\nmine: 1\n"  # save_freq is -1 in verl too
    assert "total_epochs: 30" in shown("grpo", config, "job")
