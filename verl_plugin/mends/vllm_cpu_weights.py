"""vLLM's CPU build (0.27.1), `model_executor/layers/linear.py:220`: the second weight sync dies.

After loading, a CPU linear layer packs its weight for oneDNN and drops the original, so the next `load_weights` fails
with `'Parameter' object has no attribute 'weight_loader'`. The mend keeps the original; verl asks for the packing again
after each sync.
"""

import inspect

from ..after_import import replace


def needed(layer_utils) -> bool:
    """Only where vLLM's platform is the CPU; not once nothing can be told to drop a weight."""
    told = "remove_weight" in inspect.signature(layer_utils.dispatch_cpu_unquantized_gemm).parameters
    return layer_utils.current_platform.is_cpu() and told


def apply(layer_utils) -> None:
    def make(original):
        def dispatch_cpu_unquantized_gemm(layer, remove_weight):
            return original(layer, remove_weight=False)

        return dispatch_cpu_unquantized_gemm

    replace(layer_utils, "dispatch_cpu_unquantized_gemm", make)
