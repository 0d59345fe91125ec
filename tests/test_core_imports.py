"""The core stays light: someone with TRL, ms-swift or a notebook installs no torch, verl, ray or transformers for it."""

import subprocess
import sys

CORE = ["sv6d.schema", "sv6d.rewards", "sv6d.data_mixers", "sv6d.reports"]
HEAVY = ["torch", "verl", "ray", "transformers", "vllm"]


def test_core_packages_import_nothing_heavy():
    code = f"import sys, {', '.join(CORE)}; print([m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_scoring_imports_nothing_heavy():
    code = f"import sys; from sv6d.rewards import score; score('ocr', 'a', 'a'); print([m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"
