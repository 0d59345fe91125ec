"""A mend turns itself off where upstream has mended its bug, whatever the version is called."""

import inspect
from importlib import import_module
from types import ModuleType, SimpleNamespace

import pytest
from sv6d.verl_plugin.mends import MENDS

TARGETS = {mend.name: mend.target for mend in MENDS}


def code(name):
    return import_module(f"sv6d.verl_plugin.mends.{name}")


@pytest.mark.parametrize("name", ["video_prompt", "vision_tower_once", "equal_length_positions"])
def test_tried_on_the_module_itself(unmended, name):
    """Our own mend stands for upstream's: behind it the bug does not show, so nothing is needed."""
    module = unmended(TARGETS[name])
    assert code(name).needed(module)
    code(name).apply(module)
    assert not code(name).needed(module)


def test_another_mend_of_the_vision_tower_is_seen_too(unmended):
    """Upstream may mend it elsewhere: a tower that is called for the videos alone when the images' features are there."""
    module = unmended(TARGETS["vision_tower_once"])
    module._get_input_embeds = lambda model, ids, pixel_values, pixel_values_videos, **grids: model.visual(
        pixel_values + pixel_values_videos, grids["image_grid_thw"]
    )
    assert not code("vision_tower_once").needed(module)


@pytest.mark.parametrize(
    ("name", "buggy", "mended"),
    [
        ("separate_logger", "flush=True,", ""),
        ("unpinned_offload", "CPUOffloadPolicy(pin_memory=True)", 'CPUOffloadPolicy(pin_memory=device_name != "cpu")'),
        ("gloo_process_group", 'f"cpu:gloo,{get_device_name()}:{get_nccl_backend()}"', "backend_of_this_device()"),
    ],
)
def test_read_in_the_source(name, buggy, mended, tmp_path):
    installed = import_module(TARGETS[name])
    source = inspect.getsource(installed)
    assert buggy in source  # as 0.9.1 has it
    copy = ModuleType(f"{name}_mended")
    copy.__dict__.update({key: value for key, value in vars(installed).items() if key.isidentifier()})
    copy.__file__ = str(tmp_path / f"{name}.py")
    (tmp_path / f"{name}.py").write_text(source.replace(buggy, mended))
    assert not code(name).needed(copy)


def test_a_vllm_that_drops_no_weights_needs_no_mend():
    module = SimpleNamespace(
        current_platform=SimpleNamespace(is_cpu=lambda: True), dispatch_cpu_unquantized_gemm=lambda layer: None
    )
    assert not code("vllm_cpu_weights").needed(module)
