"""verl 0.9.1, `utils/distributed.py:62,83`, CPU only: the process group cannot be made.

verl builds the backend `cpu:gloo,<device>:<backend>`; on a CPU that is `cpu:gloo,cpu:gloo`, which torch refuses with
`ValueError: Duplicate device type cpu in backend string`. The mend says `gloo`.
"""

import inspect
import os
from datetime import timedelta

import torch.distributed

from ..after_import import replace


def needed(distributed) -> bool:
    """Only where verl's device is the CPU; not once its string is no longer made of two devices."""
    named_twice = "cpu:gloo,{get_device_name()}" in inspect.getsource(distributed)
    return distributed.get_device_name() == "cpu" and named_twice


def apply(distributed) -> None:
    def in_ray(original):
        def initialize_global_process_group_ray(timeout_second=None, backend=None):
            return original(timeout_second=timeout_second, backend=backend or "gloo")

        return initialize_global_process_group_ray

    def under_torchrun(original):
        def initialize_global_process_group(timeout_second=36000):
            init_method = os.environ.get("DIST_INIT_METHOD")
            timeout = timedelta(seconds=timeout_second)
            torch.distributed.init_process_group(backend="gloo", timeout=timeout, init_method=init_method)
            return tuple(int(os.environ[name]) for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"))

        return initialize_global_process_group

    replace(distributed, "initialize_global_process_group_ray", in_ray)
    replace(distributed, "initialize_global_process_group", under_torchrun)
