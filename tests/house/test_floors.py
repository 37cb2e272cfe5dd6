"""The floors of pyproject.toml hold: no import goes up, none goes round in a circle."""

import logging.config

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports


@pytest.mark.slow
def test_import_contracts_hold(capsys, monkeypatch):
    # The linter sets up its own log, and silences those of everybody who is there already.
    monkeypatch.setattr(logging.config, "dictConfig", lambda config: None)
    status = lint_imports(config_filename="pyproject.toml", cache_dir=None)
    output = capsys.readouterr().out
    assert status == EXIT_STATUS_SUCCESS, output
    assert "3 kept, 0 broken" in output
