"""A text file is replaced whole or not at all."""

from pathlib import Path

import pytest

from araio.atomic import write_text
from araio.config import ModelConfig
from araio.errors import ConfigError
from araio.testing.checkpoints import tiny_config


def test_new_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    path.chmod(0o600)
    write_text(path, "b")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("b", 0o600)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "config.json"
    tiny_config("v3").save(path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync" if step == "fsync" else "pathlib.Path.replace", full)
    with pytest.raises(ConfigError, match="No space left"):
        tiny_config("v2").save(path)
    assert ModelConfig.from_file(path) == tiny_config("v3")
    assert list(tmp_path.iterdir()) == [path]
