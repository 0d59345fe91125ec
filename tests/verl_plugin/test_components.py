"""Learning rates by component: which parameter belongs where, and errors for rates that reach nothing."""

import pytest
import torch
from sv6d.verl_plugin.engines.component_groups import Rates, component, parameter_groups, read_rates
from sv6d.verl_plugin.engines.fsdp import ComponentFSDPEngine


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.visual.patch_embed.proj.weight", "vision"),
        ("model.visual.blocks.0.attn.qkv.bias", "vision"),
        ("model.visual.merger.linear_fc1.weight", "merger"),
        ("model.visual.deepstack_merger_list.2.norm.weight", "merger"),
        ("visual.merger.mlp.0.weight", "merger"),  # Qwen2-VL
        ("model.language_model.layers.0.mlp.up_proj.weight", "language"),
        ("lm_head.weight", "language"),
        ("model.language_model.audiovisual.weight", "language"),  # only a part named exactly "visual" is the encoder
    ],
)
def test_component_of_a_parameter(name, expected):
    assert component(name) == expected


def named(*names, frozen=()):
    return [(name, torch.nn.Parameter(torch.zeros(2), requires_grad=name not in frozen)) for name in names]


MODEL = ("visual.blocks.0.w", "visual.merger.w", "language_model.w", "lm_head.w")


def rates_by_component(groups):
    return {group["component"]: (group["lr"], [name for name, _ in group["params"]]) for group in groups}


def test_a_component_without_a_rate_has_the_common_one():
    groups = parameter_groups(named(*MODEL), read_rates({"vision": 1e-6, "merger": 5e-6}), 1e-5)
    assert rates_by_component(groups) == {
        "language": (1e-5, ["language_model.w", "lm_head.w"]),
        "merger": (5e-6, ["visual.merger.w"]),
        "vision": (1e-6, ["visual.blocks.0.w"]),
    }


def test_language_comes_first_because_verl_logs_the_first_groups_rate():
    assert [group["component"] for group in parameter_groups(named(*MODEL), {}, 1.0)] == [
        "language",
        "merger",
        "vision",
    ]


def test_frozen_parameters_are_in_no_group():
    groups = parameter_groups(named(*MODEL, frozen={"visual.blocks.0.w"}), {}, 1.0)
    assert "vision" not in rates_by_component(groups)


def test_a_text_model_has_one_group():
    assert rates_by_component(parameter_groups(named("model.w"), {}, 0.5)) == {"language": (0.5, ["model.w"])}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"aligner": 1e-4}, "lr_groups names 'aligner'; the components are language, merger, vision"),
        ({"vision": {"rate": 1e-4}}, r"lr_groups.vision names \['rate'\]; it may have lr, weight_decay, schedule"),
        ({"vision": {"schedule": "linear"}}, "lr_groups.vision.schedule='linear'; there are constant and cosine"),
        ({"vision": "1e-6"}, "lr_groups.vision.lr='1e-6'; give a number from 0 up"),
        ({"vision": {"weight_decay": -1}}, "lr_groups.vision.weight_decay=-1; give a number from 0 up"),
    ],
)
def test_a_wrong_setting_is_named(settings, words):
    with pytest.raises(ValueError, match=words):
        read_rates(settings)


def test_rates_that_reach_no_parameter_are_an_error():
    with pytest.raises(ValueError, match=r"gives rates to \['vision'\], but no trainable parameter"):
        parameter_groups(named("model.w"), {"vision": Rates(lr=1e-4)}, 1.0)
    with pytest.raises(ValueError, match=r"gives rates to \['vision'\]"):
        parameter_groups(named(*MODEL, frozen={"visual.blocks.0.w"}), {"vision": Rates(weight_decay=0.0)}, 1.0)


def test_parameters_that_fsdp_has_laid_together_have_no_component():
    """Its `_flat_param` would all be the language model's."""
    flat = named("_fsdp_wrapped_module._flat_param")
    with pytest.raises(
        ValueError, match=r"gives rates to \['vision'\], and FSDP has .* set engine.use_orig_params=true"
    ):
        parameter_groups(flat, {"vision": Rates(lr=1e-4)}, 1.0)
    assert rates_by_component(parameter_groups(flat, {}, 1.0)) == {
        "language": (1.0, ["_fsdp_wrapped_module._flat_param"])
    }


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = torch.nn.ModuleDict({"blocks": torch.nn.Linear(2, 2), "merger": torch.nn.Linear(2, 2)})
        self.lm_head = torch.nn.Linear(2, 2)


def cosine_engine(**more):
    """The engine as far as its optimizer needs it: rate 1e-3, over four steps along a cosine to a tenth."""
    from verl.workers.config.optimizer import FSDPOptimizerConfig

    engine = object.__new__(ComponentFSDPEngine)
    engine.rank = 0
    engine.optimizer_config = FSDPOptimizerConfig(
        lr=1e-3,
        lr_scheduler_type="cosine",
        min_lr_ratio=0.1,
        lr_warmup_steps=0,
        lr_warmup_steps_ratio=0.0,
        total_training_steps=4,
        **more,
    )
    return engine


def test_the_engines_optimizer_and_verls_schedule_keep_the_ratio(capsys):
    """verl's cosine schedule scales each group's own rate: after the last step all stand at a tenth."""
    engine = cosine_engine(override_optimizer_config={"lr_groups": {"vision": 1e-4, "merger": 5e-4}, "eps": 1e-6})
    optimizer = engine._build_optimizer(Model())
    schedule = engine._build_lr_scheduler(optimizer)
    assert [group["eps"] for group in optimizer.param_groups] == [1e-6] * 3  # other overrides still reach the optimizer
    assert (
        "sv6d: learning rate 0.0001, weight decay 0.01 for vision: 2 tensors, visual.blocks.weight"
        in capsys.readouterr().out
    )
    for _ in range(4):
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr() == pytest.approx([1e-4, 5e-5, 1e-5])


def test_a_component_may_have_a_decay_and_a_schedule_of_its_own():
    """Four steps. Language: cosine to a tenth. Vision: half of its rate after one of two steps of warm-up, then constant.
    Merger: cosine to 0, without weight decay."""
    engine = cosine_engine(
        weight_decay=0.1,
        override_optimizer_config={
            "lr_groups": {
                "vision": {"lr": 1e-4, "schedule": "constant", "warmup_steps": 2},
                "merger": {"weight_decay": 0.0, "min_lr_ratio": 0.0},
            }
        },
    )
    optimizer = engine._build_optimizer(Model())
    schedule = engine._build_lr_scheduler(optimizer)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0, 0.1]
    rates = [schedule.get_last_lr()]
    for _ in range(4):
        optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr())
    language, merger, vision = zip(*rates, strict=True)
    assert language[0] == 1e-3 and language[2] == pytest.approx(0.55e-3) and language[4] == pytest.approx(1e-4)
    assert merger[2] == pytest.approx(0.5e-3) and merger[4] == pytest.approx(0.0)
    assert vision == pytest.approx((0.0, 0.5e-4, 1e-4, 1e-4, 1e-4))


def test_qwen_models_have_the_three_components():
    """Every parameter of small random models of both families, by the names that Hugging Face gives them."""
    from collections import Counter

    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForImageTextToText

    for kind, merger in (("qwen3_vl", "deepstack_merger_list"), ("qwen2_5_vl", "merger.mlp")):
        with init_empty_weights():
            model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(kind))
        names = [name for name, _ in model.named_parameters()]
        counts = Counter(component(name) for name in names)
        assert min(counts[key] for key in ("language", "merger", "vision")) > 0, kind
        assert all(component(name) == "merger" for name in names if merger in name)
        assert not any("visual" in name for name in names if component(name) == "language")


def test_verl_picks_the_engine_for_both_strategies():
    import verl.workers.engine  # noqa: F401
    from verl.workers.engine.base import EngineRegistry

    for strategy in ("fsdp", "fsdp2"):
        assert EngineRegistry.get_engine_cls("language_model", strategy) is ComponentFSDPEngine
