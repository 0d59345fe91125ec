"""The `sv6d` command: a job that cannot be loaded says why."""

import pytest
from click.testing import CliRunner
from sv6d.recipes import cli


@pytest.mark.parametrize(("module", "extra"), [("no_such_package.cli", True), ("sv6d.recipes.no_such_module", False)])
def test_what_is_not_installed_names_its_extra_and_a_fault_of_ours_does_not(module, extra, monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "demo", (module, "..."))
    result = CliRunner().invoke(cli.main, ["demo"])
    assert result.exit_code != 0
    assert ("pip install 'sv6d[" in result.output) == extra
    assert isinstance(result.exception, ModuleNotFoundError) != extra
