"""vLLM's entry point (`vllm.general_plugins`): called in every vLLM process before the model loads."""

from .mends import install


def register() -> None:
    """Have vLLM's mends apply themselves; one that fails ends the process with its reason."""
    install("vllm")
