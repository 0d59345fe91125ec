"""What one node of a Ray cluster sees: runs in a worker process there, and is sent there as code, so that it can also tell that
sv6d is not installed. Therefore nothing here imports the project, or more than the standard library, before it is called.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("sv6d", "verl", "vllm", "torch", "transformers", "ray", "TransferQueue", "qwen-vl-utils", "av")


def look(paths: dict[str, str], token: str, node: str, environment: list[str]) -> dict:
    """Answer for this node.

    Args:
        paths: setting to file or folder.
        token: a folder that the asking node has just made in the run's folder; this one leaves a file there.
        node: the file's name.
        environment: names of variables that should have arrived.
    """
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "problems": _plugin_problems(),
        "paths": {setting: fingerprint(path) for setting, path in paths.items()},
        "shared": _answer(Path(token), node),
        "environment": {name: os.environ.get(name) for name in environment},
        "devices": _devices(),
        "free_gib": _free_gib(Path(token)),
    }


def fingerprint(path: str) -> str | None:
    """Equal for equal content, as names and sizes of files say it; None where there is nothing."""
    start = Path(path)
    if not start.exists():
        return None
    files = [start] if start.is_file() else sorted(p for p in start.rglob("*") if p.is_file())
    listing = "\n".join(f"{p.relative_to(start)} {p.stat().st_size}" for p in files)
    return hashlib.sha256(listing.encode()).hexdigest()[:12]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _plugin_problems() -> list[str]:
    """Why verl would run without sv6d in this process; empty where it would not."""
    try:
        import verl  # noqa: F401
    except Exception as error:
        return [f"`import verl` fails: {type(error).__name__}: {error}"]
    if "sv6d.verl_plugin.verl" not in sys.modules:
        return [
            "`import verl` does not load the plug-in sv6d: install sv6d there, and look at VERL_USE_EXTERNAL_PLUGINS"
        ]
    from sv6d.verl_plugin.problems import PROBLEMS

    return list(PROBLEMS)


def _answer(token: Path, node: str) -> bool:
    """Leave a file beside the asking node's; False where its folder is not to be seen or not to be written to."""
    try:
        (token / node).touch()
    except OSError:
        return False
    return True


def _devices() -> list[str]:
    """`name, memory` of each GPU of the machine, also of those that Ray has not given to this process."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    ask = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(ask, capture_output=True, text=True, timeout=60)
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def _free_gib(path: Path) -> float:
    """Of the file system that holds the path, or would."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free / 2**30
