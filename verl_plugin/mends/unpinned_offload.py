"""verl 0.9.1, `workers/engine/fsdp/transformer_impl.py:462`, CPU only: the reference policy cannot be built.

Engines that only run forward offload with `CPUOffloadPolicy(pin_memory=True)`, and pinning memory needs an accelerator
(`Cannot access accelerator device when none is available`). The mend asks for memory that is not pinned.
"""

import inspect

from ..after_import import replace


def needed(transformer_impl) -> bool:
    """Only where verl's device is the CPU; not once it no longer asks for pinned memory."""
    asked = "CPUOffloadPolicy(pin_memory=True)" in inspect.getsource(transformer_impl)
    return transformer_impl.device_name == "cpu" and transformer_impl.CPUOffloadPolicy is not None and asked


def apply(transformer_impl) -> None:
    def make(policy):
        def unpinned(pin_memory=False):
            return policy(pin_memory=False)

        return unpinned

    replace(transformer_impl, "CPUOffloadPolicy", make)
