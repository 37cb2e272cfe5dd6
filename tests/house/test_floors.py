"""The floors of pyproject.toml hold: no import goes up, none goes round in a circle."""

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports


@pytest.mark.slow
def test_import_contracts_hold(capsys):
    status = lint_imports(config_filename="pyproject.toml", cache_dir=None)
    output = capsys.readouterr().out
    assert status == EXIT_STATUS_SUCCESS, output
    assert "3 kept, 0 broken" in output
