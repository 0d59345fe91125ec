"""Mends two gaps of the CPU stack at interpreter start; `sv6d doctor --mend` has a `.pth` file import this module.

Standard library only and about a millisecond: it only leaves finders behind, which act when torchvision is imported or
a distribution named `vllm` is asked for.
"""

import sys

from .after_import import after_import

MISSING_OPERATORS = ("nms", "qnms")


def define_operators(extension):
    """Declare the operators that torchvision's compiled half would have declared.

    PyPI's torchvision is linked against CUDA's libraries, so its compiled half does not load beside a CPU build of torch
    and `import torchvision` dies at `operator torchvision::nms does not exist`. Declared, the rest of it works (nobody
    here calls them). With a torchvision that loads, nothing is done.
    """
    if extension._has_ops():
        return
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in MISSING_OPERATORS:
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    extension._sv6d_operators = library  # the declaration lives as long as the library object


class VLLMFinder:
    """Answers for the distribution `vllm` after everybody else did, so a real `vllm` always wins."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None

    @classmethod
    def find_distributions(cls, context=None):
        if getattr(context, "name", None) != "vllm":
            return
        from .vllm_distribution import alias  # importlib.metadata costs more than all the rest: only for who asks

        yield from alias()


def install():
    """Leave the finders behind; a second call does nothing."""
    if any(getattr(finder, "__name__", "") == "VLLMFinder" for finder in sys.meta_path):
        return
    sys.meta_path.append(VLLMFinder)
    after_import("torchvision.extension", define_operators)


install()
