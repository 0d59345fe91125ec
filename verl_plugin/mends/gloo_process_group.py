"""verl 0.9.1, `utils/distributed.py:62,83`, CPU only: the process group cannot be made.

verl builds the backend `cpu:gloo,<device>:<backend>`; on a CPU that is `cpu:gloo,cpu:gloo`, which torch refuses with
`ValueError: Duplicate device type cpu in backend string`. The mend says `gloo`.
"""

import os
from datetime import timedelta

import torch.distributed

from ..after_import import rebind


def needed(distributed) -> bool:
    """Only where verl's device is the CPU."""
    return distributed.get_device_name() == "cpu"


def apply(distributed) -> None:
    original_ray = distributed.initialize_global_process_group_ray

    def initialize_global_process_group_ray(timeout_second=None, backend=None):
        return original_ray(timeout_second=timeout_second, backend=backend or "gloo")

    def initialize_global_process_group(timeout_second=36000):
        torch.distributed.init_process_group(
            backend="gloo", timeout=timedelta(seconds=timeout_second), init_method=os.environ.get("DIST_INIT_METHOD")
        )
        return tuple(int(os.environ[name]) for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"))

    rebind("verl", "initialize_global_process_group_ray", original_ray, initialize_global_process_group_ray)
    original = distributed.initialize_global_process_group
    rebind("verl", "initialize_global_process_group", original, initialize_global_process_group)
