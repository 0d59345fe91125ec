"""vLLM's entry point (`vllm.general_plugins`): called in every vLLM process before the model loads."""

from .mends import install, require


def register() -> None:
    """Apply the mends of vLLM; a mend that fails stops the process with its reason."""
    install("vllm")
    require("vllm")
