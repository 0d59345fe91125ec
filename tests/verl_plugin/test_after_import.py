"""A callback runs once its module is imported: not before, not without it, and at once where it already is."""

import importlib
import importlib.util
import sys

import pytest
from sv6d.verl_plugin.after_import import after_import, replace


@pytest.fixture
def fresh_module(tmp_path, monkeypatch):
    (tmp_path / "late_module.py").write_text("value = 1\n")
    (tmp_path / "early_user.py").write_text("from late_module import value\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "late_module"
    for name in ("late_module", "early_user"):
        sys.modules.pop(name, None)


def test_waits_for_the_import(fresh_module):
    seen = []
    after_import(fresh_module, lambda module: seen.append(module.value))
    assert seen == [] and fresh_module not in sys.modules
    __import__(fresh_module)
    assert seen == [1]


def test_runs_at_once_for_an_imported_module(fresh_module):
    module = __import__(fresh_module)
    seen = []
    after_import(fresh_module, seen.append)
    assert seen == [module]


def test_callbacks_run_in_order_and_before_the_importer_goes_on(fresh_module):
    after_import(fresh_module, lambda module: setattr(module, "value", module.value * 10))
    after_import(fresh_module, lambda module: setattr(module, "value", module.value + 2))
    assert __import__("early_user").value == 12


def test_looking_for_the_module_is_not_importing_it(fresh_module):
    seen = []
    after_import(fresh_module, seen.append)
    assert importlib.util.find_spec(fresh_module) is not None
    assert seen == []
    __import__(fresh_module)
    assert len(seen) == 1


def test_leaves_no_finder_behind(fresh_module):
    before = list(sys.meta_path)
    after_import(fresh_module, lambda module: None)
    __import__(fresh_module)
    assert sys.meta_path == before


def test_an_exception_reaches_the_importer(fresh_module):
    def refuse(module):
        raise RuntimeError("no")

    after_import(fresh_module, refuse)
    with pytest.raises(RuntimeError, match="no"):
        __import__(fresh_module)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """`mendable.home` has a function that `mendable.user` and `stranger` took by name."""
    (tmp_path / "mendable").mkdir()
    (tmp_path / "mendable" / "__init__.py").write_text("")
    (tmp_path / "mendable" / "home.py").write_text("def f():\n    return 1\n")
    (tmp_path / "mendable" / "user.py").write_text("from mendable.home import f\n")
    (tmp_path / "stranger.py").write_text("from mendable.home import f\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = [importlib.import_module(name) for name in ("mendable.home", "mendable.user", "stranger")]
    yield modules
    for name in ("mendable", "mendable.home", "mendable.user", "stranger"):
        sys.modules.pop(name, None)


def one_more(original):
    return lambda: original() + 1


def test_replace_reaches_names_taken_earlier_in_the_same_package(package):
    home, user, stranger = package
    replace(home, "f", one_more)
    assert (home.f(), user.f(), stranger.f()) == (2, 2, 1)
    assert home.f.__sv6d_original__() == 1


def test_replace_twice_replaces_once(package):
    home, user, _ = package
    replace(home, "f", one_more)
    replace(home, "f", one_more)
    assert (home.f(), user.f()) == (2, 2)
