"""The writer of one file: what pieces in any order come to, and what it insists on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from araio.errors import FormatError
from araio.formats.safetensors import SafetensorsFile
from araio.formats.tensor_file import TensorFileWriter

TENSORS = {"bytes": ("U8", (3, 5)), "numbers": ("F32", (4, 2)), "none": ("F32", (0, 2))}


def test_pieces_in_turn_make_the_whole(tmp_path: Path) -> None:
    numbers = np.arange(8, dtype=np.float32).reshape(4, 2)
    content = np.arange(30, dtype=np.uint8).reshape(3, 10)[:, ::2]  # not contiguous
    with TensorFileWriter(tmp_path / "a", TENSORS, {"format": "pt"}, alignment=4096) as writer:
        writer.append("numbers", numbers[:1])
        writer.append("bytes", content[:2])
        writer.append("numbers", numbers[1:])
        writer.append("bytes", content[2:])
    file = SafetensorsFile(tmp_path / "a")
    np.testing.assert_array_equal(file.read("numbers"), numbers)
    np.testing.assert_array_equal(file.read("bytes"), content)
    np.testing.assert_array_equal(file.read_slice("bytes", 1), content[1])
    assert file.read("none").shape == (0, 2)
    assert file.metadata == {"format": "pt"}
    assert file["numbers"].begin == 4096  # wide types come first
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_arrays_begin_at_cache_lines(tmp_path: Path) -> None:
    with TensorFileWriter(tmp_path / "a", {"x": ("U8", (7, 333))}) as writer:
        writer.append("x", np.zeros((7, 333), np.uint8))
    file = SafetensorsFile(tmp_path / "a")
    arrays = [file.read("x"), *(file.read_slice("x", index) for index in range(7))]
    assert [array.ctypes.data % 64 for array in arrays] == [0] * 8
    assert all(array.flags.writeable for array in arrays)


def test_too_much_and_too_little_are_bugs(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="longer than its header says"),
        TensorFileWriter(tmp_path / "a", {"x": ("U8", (4,))}) as writer,
    ):
        writer.append("x", np.zeros(5, np.uint8))
    with (
        pytest.raises(AssertionError, match="were not filled"),
        TensorFileWriter(tmp_path / "b", {"x": ("U8", (4,))}) as writer,
    ):
        writer.append("x", np.zeros(3, np.uint8))
    with pytest.raises(FormatError):  # the header would have come last
        SafetensorsFile(tmp_path / "b")
