"""Broken safetensors files: each ends in a FormatError that names the file and, if there is one, the tensor.

The table is made by hand, after the reference library's `attacks/` and what other readers got wrong; the
fuzzer damages a good file at random. Any bytes are a FormatError or a file whose every tensor can be read.
"""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from araio.errors import FormatError
from araio.formats.safetensors import STORED_TYPES, SafetensorsFile


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def file_of(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


EIGHT = bytes(8)

BROKEN = {
    "empty file": (b"", "0 bytes"),
    "seven bytes": (bytes(7), "7 bytes"),
    "no header": (bytes(8), "does not start with"),
    "header of 2^63 bytes": (file_of({}, length=1 << 63), "9,223,372,036,854,775,808"),
    "header of 200 MB": (file_of({}, length=200_000_000), "not a safetensors file"),
    "header beyond the file": (file_of({}, length=99), "truncated"),
    "header that starts with a space": (file_of(b" {}"), "does not start with"),
    "header that is a list": (file_of([]), "does not start with"),
    "header that is not JSON": (file_of(b"{]"), "not valid JSON"),
    "header that is not UTF-8": (file_of(b'{"\xff": 1}'), "not UTF-8"),
    "header with something behind it": (file_of(b"{} {}"), "not valid JSON"),
    "deep JSON": (file_of(b'{"a":' + b"[" * 200_000), "header"),
    "nested JSON": (file_of(b'{"a":' + b"[" * 80 + b"]" * 80 + b"}"), "nests deeper"),
    "NaN in the header": (file_of(b'{"a": NaN}'), "NaN"),
    "a number of 10,000 digits": (file_of(b'{"a": ' + b"1" * 10_000 + b"}"), "header"),
    "metadata that is a number": (file_of({"__metadata__": 3}), "__metadata__"),
    "metadata that is not text": (file_of({"__metadata__": {"a": 1}}), "__metadata__"),
    "duplicate tensor": (
        file_of(f'{{"w": {json.dumps(entry())}, "w": {json.dumps(entry())}}}'.encode(), EIGHT),
        "'w' appears twice",
    ),
    "duplicate key in a tensor": (
        file_of(b'{"w": {"dtype": "F32", "shape": [2], "shape": [2], "data_offsets": [0, 8]}}', EIGHT),
        "'shape' appears twice",
    ),
    "tensor that is null": (file_of({"w": None}), "tensor 'w': described by None"),
    "missing key": (file_of({"w": {"dtype": "F32", "shape": [2]}}, EIGHT), "tensor 'w'"),
    "unknown key": (file_of({"w": entry() | {"strides": [1]}}, EIGHT), "tensor 'w'"),
    "unknown dtype": (file_of({"w": entry("F128")}, EIGHT), "tensor 'w': dtype 'F128'"),
    "dtype that is a list": (file_of({"w": entry(["F32"])}, EIGHT), "tensor 'w': dtype"),
    "negative dimension": (file_of({"w": entry(shape=[-2])}, EIGHT), r"tensor 'w': shape \[-2\]"),
    "two negative dimensions": (file_of({"w": entry(shape=[-1, -2])}, EIGHT), "tensor 'w': shape"),
    "fractional dimension": (file_of({"w": entry(shape=[2.0])}, EIGHT), "tensor 'w': shape"),
    "true as a dimension": (file_of({"w": entry(shape=[True, 2])}, EIGHT), "tensor 'w': shape"),
    "shape that is a number": (file_of({"w": entry(shape=2)}, EIGHT), "tensor 'w': shape"),
    "too many dimensions": (file_of({"w": entry(shape=[1] * 70 + [2])}, EIGHT), "tensor 'w': shape"),
    "shape that wraps 2^64": (file_of({"w": entry(shape=[1 << 32, 1 << 32])}, EIGHT), "tensor 'w'"),
    "shape that wraps to its size": (file_of({"w": entry(shape=[(1 << 62) + 2])}, EIGHT), "tensor 'w'"),
    "empty shape with a huge dimension": (file_of({"w": entry(shape=[0, 1 << 70], offsets=[0, 0])}), "'w'"),
    "shape smaller than the bytes": (file_of({"w": entry(shape=[1])}, EIGHT), "span 8 bytes; expected 4"),
    "shape larger than the bytes": (file_of({"w": entry(shape=[3])}, EIGHT), "span 8 bytes; expected 12"),
    "begin after end": (file_of({"w": entry(offsets=[8, 0])}, EIGHT), "tensor 'w': data_offsets"),
    "negative begin": (file_of({"w": entry(offsets=[-8, 0])}, EIGHT), "tensor 'w': data_offsets"),
    "three offsets": (file_of({"w": entry(offsets=[0, 8, 8])}, EIGHT), "tensor 'w': data_offsets"),
    "offsets beyond the file": (file_of({"w": entry(offsets=[1 << 40, (1 << 40) + 8])}, EIGHT), "'w'"),
    "truncated body": (file_of({"w": entry()}, bytes(7)), "tensor 'w' ends at byte.*truncated"),
    "no body": (file_of({"w": entry()}), "tensor 'w' ends.*truncated"),
    "trailing bytes": (file_of({"w": entry()}, bytes(9)), "1 bytes follow the last tensor"),
    "body without tensors": (file_of({}, b"PK\x03\x04"), "4 bytes follow"),
    "hole at the start": (file_of({"w": entry(offsets=[4, 12])}, bytes(12)), "tensor 'w' begins.*no holes"),
    "hole between": (
        file_of({"v": entry(), "w": entry(offsets=[12, 20])}, bytes(20)),
        "tensor 'w' begins.*no holes",
    ),
    "overlap": (file_of({"v": entry(), "w": entry(offsets=[4, 12])}, bytes(12)), "tensor 'w' begins.*inside"),
    "same bytes twice": (file_of({"v": entry(), "w": entry()}, EIGHT), "begins.*inside the tensor before it"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_refused_with_file_and_tensor(tmp_path, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as caught:
        SafetensorsFile(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 800


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(FormatError, match="cannot be opened"):
        SafetensorsFile(tmp_path / "missing.safetensors")
    with pytest.raises(FormatError, match="cannot be opened"):
        SafetensorsFile(Path("nul\0byte"))
    with pytest.raises(FormatError, match="not a regular file"):
        SafetensorsFile(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="not a regular file"):  # and it does not wait for a writer
        SafetensorsFile(tmp_path / "pipe")


def test_a_file_that_shrinks_while_it_is_open(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(file_of({"w": entry()}, EIGHT))
    file = SafetensorsFile(path)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(FormatError, match="ends inside tensor 'w'"):
        file.read("w")


def test_refused_files_are_closed(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(file_of({"w": None}))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(128, limits[0]), limits[1]))
    try:
        for _ in range(200):
            with pytest.raises(FormatError, match="'w'"):
                SafetensorsFile(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# ---------------------------------------------------------------------- what is allowed


def test_strange_but_valid(tmp_path):
    path = tmp_path / "model.safetensors"
    header = {
        "__metadata__": {"format": "pt"},
        "late": entry("U8", [3], [4, 7]),
        "": entry("BF16", [2, 1], [0, 4]),
        "../../etc/passwd": entry("F32", [0, 5], [4, 4]),
        "scalar": entry("F32", [], [7, 11]),
    }
    path.write_bytes(file_of(json.dumps(header).encode() + b"   ", bytes(range(11))))
    file = SafetensorsFile(path)
    assert file.metadata == {"format": "pt"}
    assert list(file) == ["late", "", "../../etc/passwd", "scalar"]
    np.testing.assert_array_equal(file.read("late"), [4, 5, 6])
    np.testing.assert_array_equal(file.read(""), [[0x0100], [0x0302]])
    assert file.read("../../etc/passwd").shape == (0, 5)
    assert file.read("scalar").shape == ()  # at an odd offset
    assert file.read("late").flags.writeable


@pytest.mark.parametrize("dtype", STORED_TYPES)
def test_every_stored_type(tmp_path, dtype):
    size = STORED_TYPES[dtype].itemsize * 3
    path = tmp_path / "model.safetensors"
    path.write_bytes(file_of({"w": entry(dtype, [3], [0, size])}, bytes([1]) * size))
    array = SafetensorsFile(path).read("w")
    assert (array.dtype, array.tobytes()) == (STORED_TYPES[dtype], bytes([1]) * size)


# ---------------------------------------------------------------------- any bytes at all

GOOD = file_of(
    {
        "__metadata__": {"format": "pt"},
        "model.a.weight": entry("F32", [2, 3], [0, 24]),
        "model.b.weight": entry("BF16", [4], [24, 32]),
        "model.c.weight": entry("F8_E4M3", [2, 2], [32, 36]),
    },
    bytes(range(36)),
)
NUMBERS = st.integers(-2, 40).map(lambda n: str(n).encode()) | st.integers(0, 1 << 70).map(
    lambda n: str(n).encode()
)


def opens_or_is_refused(path: Path) -> None:
    try:
        file = SafetensorsFile(path)
    except FormatError:
        return
    arrays = {name: file.read(name) for name in file}
    assert sum(array.nbytes for array in arrays.values()) <= path.stat().st_size
    assert all(arrays[name].shape == file[name].shape for name in file)
    file.close()


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.data())
def test_a_damaged_file(tmp_path_factory, data):
    content = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        cut = data.draw(st.integers(0, 3) | st.integers(0, 40))
        content[at : at + cut] = data.draw(st.binary(max_size=8) | NUMBERS)
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(content)
    opens_or_is_refused(path)


ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*STORED_TYPES, "F4", ""]),
        "shape": st.lists(st.integers(-1, 4) | st.integers(0, 1 << 65), max_size=4),
        "data_offsets": st.lists(st.integers(-1, 24) | st.integers(0, 1 << 65), min_size=1, max_size=3),
    }
)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.dictionaries(st.text(max_size=3), ENTRIES, max_size=3), st.binary(max_size=24))
def test_a_header_of_random_entries(tmp_path_factory, header, body):
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    path.write_bytes(file_of(header, body))
    opens_or_is_refused(path)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.binary(max_size=64))
def test_random_bytes(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.safetensors"
    path.write_bytes(content)
    opens_or_is_refused(path)
