"""The CPU platform: chosen where torch knows no accelerator, asleep otherwise, and complete."""

import os

import pytest
import torch
from sv6d.verl_plugin import platform
from verl.plugin.platform import PlatformBase, PlatformRegistry, get_platform, platform_manager


def test_is_chosen_here_by_import_verl_alone():
    assert isinstance(get_platform(), platform.PlatformCPU)
    from verl.utils.device import get_device_name, get_nccl_backend, is_support_ipc

    assert (get_device_name(), get_nccl_backend(), is_support_ipc()) == ("cpu", "gloo", False)


def test_answers_everything_that_verl_asks_of_a_platform():
    assert PlatformBase.__abstractmethods__ <= set(dir(platform.PlatformCPU))
    platform.PlatformCPU()  # an abstract method left out would raise


@pytest.mark.parametrize("build", [{"cuda": "13.0"}, {"hip": "7.0"}])
def test_sleeps_with_a_gpu_build_of_torch(monkeypatch, build):
    """A Ray actor without a GPU sees none, and must still take the cluster's platform."""
    for name, value in build.items():
        monkeypatch.setattr(torch.version, name, value)
    assert not platform.PlatformCPU().is_platform_available(use_smi_check=True)


def test_can_be_asked_for_by_name(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    assert platform_manager._detect_platform_name() == "cpu"
    assert PlatformRegistry.get("cpu") is platform.PlatformCPU


def test_memory_is_the_process_and_the_machine():
    device = platform.PlatformCPU().device_module
    free, total = device.mem_get_info()
    assert 0 < free < total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 50e6 < device.memory_allocated() <= device.max_memory_allocated() * 1.01 < total


def test_the_random_state_comes_back():
    device = platform.PlatformCPU().device_module
    device.manual_seed(3)
    state = device.get_rng_state()
    first = torch.rand(4)
    device.set_rng_state(state)
    assert torch.equal(torch.rand(4), first)


def test_vllm_gets_its_defaults_unless_the_user_has_others(monkeypatch):
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0-3")
    assert platform.PlatformCPU().rollout_env_vars() == {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "0-3",
    }


def test_a_platform_chosen_too_early_is_an_error(monkeypatch):
    from verl.plugin.platform.platform_cuda import PlatformCUDA

    monkeypatch.setattr(platform_manager, "_current_platform", PlatformCUDA())
    with pytest.raises(RuntimeError, match=r"chose the platform PlatformCUDA before.*VERL_USE_EXTERNAL_MODULES"):
        platform.register()
