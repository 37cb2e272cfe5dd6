"""The file that remembers what experts were worth: read back, refused, and kept from doing harm."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from araio.weights.usage import UsageFile

WORTH = np.array([0.0, 1.5, 123.456, 0.00123456, 7.0, 2.0])


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    file = tmp_path / "model" / "experts.safetensors"
    file.write_bytes(b"experts")
    return file


def usage(weights: Path, **changes: object) -> UsageFile:
    given = {"folder": weights.parent, "files": [weights], "pins": {}, "shape": (2, 3)} | changes
    return UsageFile(**given)


def test_what_is_written_is_read_to_three_digits(weights: Path) -> None:
    assert usage(weights).read() is None
    usage(weights).write(WORTH)
    found = usage(weights).read()
    np.testing.assert_allclose(found, WORTH, rtol=5e-3)
    assert found[0] == 0


def test_other_weights_pins_and_shapes_have_files_of_their_own(weights: Path) -> None:
    usage(weights).write(WORTH)
    assert usage(weights, pins={1: [2]}).read() is None
    assert usage(weights, pins={1: [2, 0]}).path == usage(weights, pins={1: [0, 2]}).path
    assert usage(weights, shape=(3, 2)).read() is None
    assert usage(weights, mask="0123").read() is None
    assert usage(weights, mask="0123").path != usage(weights, mask="4567").path
    weights.write_bytes(b"others, written anew")
    assert usage(weights).read() is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"form": 1}',
        '{"form": 2, "worth": [[0, 1, 2], [3, 4, 5]]}',
        '{"form": 1, "worth": [[0, 1], [3, 4, 5]]}',
        '{"form": 1, "worth": [[0, 1, -2], [3, 4, 5]]}',
        '{"form": 1, "worth": [[0, 1, "x"], [3, 4, 5]]}',
        '{"form": 1, "worth": [[0, 1, 1e999], [3, 4, 5]]}',
        '{"form": 1, "worth": ' + "[" * 100_000,
    ],
)
def test_a_damaged_file_is_as_good_as_none_and_is_replaced(weights: Path, content: str) -> None:
    file = usage(weights)
    file.path.parent.mkdir(parents=True)
    file.path.write_text(content)
    assert file.read() is None
    file.write(WORTH)
    assert file.read() is not None


@contextmanager
def full_disk() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_leaves_the_old_file_and_a_note(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = usage(weights)
    file.write(WORTH)
    before = file.path.read_bytes()
    with full_disk():
        file.write(2 * WORTH)
    assert "could not be kept (File too large)" in capsys.readouterr().err
    assert file.path.read_bytes() == before
    assert [path.name for path in file.path.parent.iterdir()] == [file.path.name]
    assert json.loads(before)["folder"] == str(weights.parent.resolve())
