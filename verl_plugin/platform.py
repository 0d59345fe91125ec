"""verl's platform interface on a CPU, for machines without an accelerator.

verl probes its own platforms first (nvidia, huawei, amd) and this one last; with a GPU build of torch it never answers,
because a Ray actor without a GPU on a GPU machine looks like a CPU to torch. `VERL_PLATFORM=cpu` asks for it by name.
"""

import os
import resource
import types
from contextlib import contextmanager

import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry, platform_manager

PAGE = os.sysconf("SC_PAGE_SIZE")


class _DeviceModule(types.ModuleType):
    """`torch.cpu` with the names of `torch.cuda` that verl calls; memory is the process's own."""

    def __getattr__(self, name):
        return getattr(torch.cpu, name)

    def is_available(self):
        return True

    def device_count(self):
        return 1

    def current_device(self):
        return 0

    def set_device(self, device):
        pass

    def synchronize(self, device=None):
        pass

    def empty_cache(self):
        pass

    def ipc_collect(self):
        pass

    def get_device_name(self, device=None):
        return "cpu"

    def memory_allocated(self, device=None):
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * PAGE

    def max_memory_allocated(self, device=None):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    memory_reserved = memory_allocated
    max_memory_reserved = max_memory_allocated

    def reset_peak_memory_stats(self, device=None):
        pass

    def mem_get_info(self, device=None):
        """Free and total bytes of the machine."""
        return os.sysconf("SC_AVPHYS_PAGES") * PAGE, os.sysconf("SC_PHYS_PAGES") * PAGE

    def get_rng_state(self, device=None):
        return torch.get_rng_state()

    def set_rng_state(self, state, device=None):
        torch.set_rng_state(state)

    def manual_seed(self, seed):
        torch.manual_seed(seed)

    manual_seed_all = manual_seed


_DEVICE_MODULE = _DeviceModule("sv6d_cpu_device")


def only_cpu() -> bool:
    """Whether this torch knows no accelerator: a CPU build, without a plug-in for one."""
    return torch.version.cuda is None and torch.version.hip is None and not hasattr(torch, "npu")


class PlatformCPU(PlatformBase):
    """gloo for collectives, shared memory for weights, Ray's logical GPU slots for placement."""

    device_name = property(lambda self: "cpu")
    vendor_name = property(lambda self: "cpu")
    device_module = property(lambda self: _DEVICE_MODULE)

    def is_available(self):
        return True

    def is_platform_available(self, use_smi_check=False):
        return only_cpu()

    def current_device(self):
        return torch.device("cpu")  # callers only pass it to `.to()` and `torch.device()`

    def device_count(self):
        return 1

    def set_device(self, device_index):
        pass

    def synchronize(self, device_index=None):
        pass

    def manual_seed(self, seed):
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def set_allocator_settings(self, settings):
        pass

    def empty_cache(self):
        pass

    def get_device_capability(self, device_index=0):
        return None, None

    def communication_backend_name(self):
        return "gloo"

    def visible_devices_envvar(self):
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg):
        yield

    def profiler_start(self):
        pass

    def profiler_stop(self):
        pass

    def ray_resource_name(self):
        """verl reads `get_accelerator_ids()["GPU"]`, which Ray has for its built-in accelerators only: the slots are
        Ray's logical GPUs (`ray_kwargs.ray_init.num_gpus`), and nothing touches a device."""
        return "GPU"

    def ray_noset_envvars(self):
        return []

    def rollout_env_vars(self):
        """What vLLM's CPU build needs beside a trainer: a small cache, and no cores taken for itself."""
        defaults = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        return {name: os.environ.get(name, value) for name, value in defaults.items()}

    def is_ipc_supported(self):
        return False  # weights then go to the rollouts through shared memory

    def cudart(self):
        return None


def register() -> None:
    """Make `cpu` known to verl.

    Raises:
        RuntimeError: on a CPU where verl has already chosen another platform; every module that was imported since has
            frozen the wrong device.
    """
    PlatformRegistry.register(platform="cpu")(PlatformCPU)
    chosen = platform_manager._current_platform
    if chosen is not None and chosen.device_name != "cpu" and only_cpu():
        raise RuntimeError(
            f"verl chose the platform {type(chosen).__name__} before sv6d could register the CPU platform: a module in "
            "VERL_USE_EXTERNAL_MODULES imports verl's engines too early. Remove it from there, or set VERL_PLATFORM=cpu "
            "and list sv6d.verl_plugin.platform first."
        )
