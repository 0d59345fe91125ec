"""The table of mends: every mend says what it is for, a failing one is loud and stops the trainers."""

import colorsys  # noqa: F401  (imported already, its mend applies at once)
import logging
import types

import pytest
from sv6d.verl_plugin import mends
from sv6d.verl_plugin.mends import Mend


@pytest.fixture
def one_mend(monkeypatch):
    """A table of one mend, `broken`, of the standard library's `colorsys`; the test brings its code."""

    def make(needed=lambda target: True, apply=lambda target: None, where="verl"):
        monkeypatch.setattr(mends, "MENDS", (Mend("broken", "a test", where, "colorsys"),))
        monkeypatch.setattr(mends, "_states", {})
        code = types.SimpleNamespace(needed=needed, apply=apply)
        original = mends.import_module
        monkeypatch.setattr(mends, "import_module", lambda name: code if name.endswith(".broken") else original(name))

    return make


def fail(target):
    raise AttributeError("no such function any more")


@pytest.mark.parametrize("mend", mends.MENDS, ids=lambda mend: mend.name)
def test_each_mend_has_its_module_which_names_the_bug(mend):
    import importlib

    module = importlib.import_module(f"sv6d.verl_plugin.mends.{mend.name}")
    assert callable(module.needed) and callable(module.apply)
    assert "0.9.1" in module.__doc__ or "0.27.1" in module.__doc__  # the version that has the bug
    assert ".py:" in module.__doc__  # file and line


def test_applied(one_mend):
    changed = []
    one_mend(apply=changed.append)
    mends.install("verl")
    assert mends.settle("verl") == {"broken": "applied"}
    assert [module.__name__ for module in changed] == ["colorsys"]
    mends.require("verl")


def test_installing_twice_applies_once(one_mend):
    changed = []
    one_mend(apply=changed.append)
    mends.install("verl")
    mends.install("verl")
    mends.settle("verl")
    assert len(changed) == 1


def test_not_needed(one_mend):
    one_mend(needed=lambda target: False, apply=fail)
    mends.install("verl")
    assert mends.settle("verl") == {"broken": "not needed"}
    mends.require("verl")


def test_a_failing_mend_is_logged_and_stops_training_with_its_reason(one_mend, caplog):
    one_mend(apply=fail)
    with caplog.at_level(logging.ERROR):
        mends.install("verl")
    assert "mend broken of colorsys failed" in caplog.text
    with pytest.raises(
        RuntimeError, match=r"broken \(failed: AttributeError: no such function any more\).*sv6d doctor"
    ):
        mends.require("verl")


def test_in_vllm_a_failing_mend_ends_the_process(one_mend):
    one_mend(apply=fail, where="vllm")
    with pytest.raises(AttributeError, match="no such function any more"):
        mends.install("vllm")
    assert mends.state("broken").startswith("failed: AttributeError")


def test_a_mend_that_was_never_installed_stops_training(one_mend):
    one_mend()
    with pytest.raises(RuntimeError, match=r"broken \(not loaded\)"):
        mends.require("verl")


def test_switched_off_by_name(one_mend, monkeypatch):
    one_mend(apply=fail)
    monkeypatch.setenv("SV6D_MENDS_OFF", " broken ,")
    mends.install("verl")
    assert mends.settle("verl") == {"broken": "switched off"}
    mends.require("verl")


def test_switching_off_what_is_no_mend_is_an_error(monkeypatch):
    monkeypatch.setenv("SV6D_MENDS_OFF", "video_prmpt")
    with pytest.raises(ValueError, match=r"\['video_prmpt'\].*video_prompt"):
        mends.install("verl")


def test_all_of_verls_mends_are_in_place_here():
    """On this machine, with the pinned versions: nothing failed, nothing is left waiting."""
    import verl  # noqa: F401

    states = mends.settle("verl")
    assert set(states.values()) <= {"applied", "not needed"}, states
    assert states["video_prompt"] == states["vision_tower_once"] == states["equal_length_positions"] == "applied"
