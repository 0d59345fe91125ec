"""The mends of one line each: of a log line of separate_async, of engines beside TRL, and three of the CPU."""

import colorsys
import importlib
import logging
import socket
import types

import pytest
import torch
import torch.distributed as dist
from sv6d.verl_plugin.mends import (
    gloo_process_group,
    separate_logger,
    trl_value_head,
    unpinned_offload,
    vllm_cpu_weights,
)


def test_separate_asyncs_log_line_no_longer_raises(caplog):
    module = types.SimpleNamespace(logger=logging.getLogger("verl.separate"))
    with caplog.at_level(logging.INFO, "verl.separate"):
        with pytest.raises(TypeError, match="flush"):
            module.logger.info("added %d replicas", 2, flush=True)
        separate_logger.apply(module)
        module.logger.info("added %d replicas", 2, flush=True)
    assert caplog.messages == ["added 2 replicas"]


def test_separate_asyncs_mend_looks_for_the_keyword():
    module = importlib.import_module("verl.trainer.ppo.v1.trainer_separate_async")
    assert separate_logger.needed(module)
    assert not separate_logger.needed(colorsys)


@pytest.mark.parametrize(("parts", "asked"), [((), True), (("trl.experimental.ppo",), False)])
def test_an_engine_beside_trl_looks_for_a_class_only_where_trl_has_it(monkeypatch, parts, asked):
    monkeypatch.setattr(trl_value_head, "find_spec", lambda name: name in parts or None)
    module = types.SimpleNamespace(__name__="verl.patch", is_trl_available=lambda: True)
    assert trl_value_head.needed(module) == asked
    trl_value_head.apply(module)
    assert not module.is_trl_available()


def test_without_trl_nothing_is_mended():
    assert not trl_value_head.needed(types.SimpleNamespace(is_trl_available=lambda: False))


@pytest.fixture
def alone(monkeypatch):
    """The environment of a single rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", **meeting}.items():
        monkeypatch.setenv(name, value)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.parametrize("name", ["initialize_global_process_group", "initialize_global_process_group_ray"])
def test_verl_cannot_make_a_process_group_on_a_cpu(alone, unmended, name):
    with pytest.raises(ValueError, match="Duplicate device type cpu"):
        getattr(unmended("verl.utils.distributed"), name)()


@pytest.mark.parametrize("name", ["initialize_global_process_group", "initialize_global_process_group_ray"])
def test_the_mend_makes_one_of_gloo(alone, unmended, name):
    module = unmended("verl.utils.distributed")
    assert gloo_process_group.needed(module)
    gloo_process_group.apply(module)
    returned = getattr(module, name)(30)
    assert dist.get_backend() == "gloo"
    assert returned in (None, (0, 0, 1))  # local rank, rank, world size; verl's Ray variant returns nothing


def test_a_gpu_keeps_verls_process_group(unmended):
    module = unmended("verl.utils.distributed")
    module.get_device_name = lambda: "cuda"
    assert not gloo_process_group.needed(module)


@pytest.fixture
def engine_module(monkeypatch):
    """verl's own FSDP engine module, on another device, with an offload policy that tells how it is asked for."""

    def make(device):
        module = importlib.import_module("verl.workers.engine.fsdp.transformer_impl")
        monkeypatch.setattr(module, "device_name", device)
        monkeypatch.setattr(module, "CPUOffloadPolicy", lambda pin_memory: {"pin_memory": pin_memory})
        return module

    return make


def test_offloading_on_a_cpu_asks_for_memory_that_is_not_pinned(engine_module):
    module = engine_module("cpu")
    assert unpinned_offload.needed(module)
    unpinned_offload.apply(module)
    unpinned_offload.apply(module)
    assert module.CPUOffloadPolicy(pin_memory=True) == {"pin_memory": False}


def test_pinned_memory_cannot_be_had_here():
    """What verl's reference policy meets on a CPU."""
    with pytest.raises(RuntimeError, match="accelerator"):
        torch.empty(1).pin_memory()


def test_offloading_from_a_gpu_stays_pinned(engine_module):
    assert not unpinned_offload.needed(engine_module("cuda"))


class Platform:
    def __init__(self, cpu):
        self.is_cpu = lambda: cpu


def layer_utils(cpu):
    """vLLM's function by its effect: the packed layer drops its weight when it is told to."""

    def dispatch_cpu_unquantized_gemm(layer, remove_weight):
        layer.packed = layer.weight.clone()
        if remove_weight:
            layer.weight = torch.nn.Parameter(torch.empty(0))

    return types.SimpleNamespace(
        __name__="vllm.layers",
        current_platform=Platform(cpu),
        dispatch_cpu_unquantized_gemm=dispatch_cpu_unquantized_gemm,
    )


def test_vllms_cpu_layer_keeps_its_weight_for_the_next_sync():
    module, layer = layer_utils(cpu=True), torch.nn.Linear(2, 3)
    assert vllm_cpu_weights.needed(module)
    vllm_cpu_weights.apply(module)
    module.dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
    assert layer.weight.shape == (3, 2) and torch.equal(layer.packed, layer.weight)


def test_vllm_on_a_gpu_is_left_alone():
    assert not vllm_cpu_weights.needed(layer_utils(cpu=False))
