"""The shape of the house: folders import only from those below them, modules never in a circle, and all of them are packaged."""

import ast
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ["schema", "rewards", "data_mixers", "sft", "reports", "verl_plugin", "recipes"]  # from the ground up


def modules() -> dict[str, Path]:
    """Path of each module, by its name below `sv6d`; a package is its `__init__`."""
    found = {}
    for path in (path for floor in FLOORS for path in (ROOT / floor).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of ours that a module imports, wherever in it."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            source = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            source = ".".join(part for part in source if part)
            inner = {f"{source}.{alias.name}" for alias in node.names}
            found |= {one if one in known else source for one in inner}
    return found & set(known) - {name}


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    known = modules()
    return {name: imported(name, path, known) for name, path in known.items()}


def test_a_folder_imports_only_from_those_below_it(imports):
    floor = {name: FLOORS.index(name.split(".")[0]) for name in imports}
    pairs = [(name, other) for name, others in imports.items() for other in others]
    assert len(pairs) > 200
    assert [(name, other) for name, other in pairs if floor[other] > floor[name]] == []


def test_modules_do_not_import_each_other_in_a_circle(imports):
    TopologicalSorter(imports).prepare()


def test_every_package_is_in_the_wheel():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = sorted(name for name, path in modules().items() if path.name == "__init__.py")
    assert sorted(setuptools["packages"]) == [f"sv6d.{name}" for name in folders]
    assert setuptools["package-dir"] == {f"sv6d.{name}": name.replace(".", "/") for name in folders}
