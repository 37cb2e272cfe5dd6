"""One safetensors file: a strict header, and tensors read by offset.

The format (github.com/huggingface/safetensors): eight bytes of little-endian header length; a JSON header,
`{"NAME": {"dtype", "shape", "data_offsets": [begin, end]}, ..., "__metadata__": {...}}`; the bytes of all
tensors, without holes, overlaps or anything behind them. Whatever departs from that is refused with a
FormatError that names the file and the tensor, before any byte of a tensor is read; so are duplicate names,
which the reference library accepts. Nothing is mapped into memory and only asked-for tensors are read. Read
`shards.py` and `checkpoint.py` next for a folder of such files.
"""

from __future__ import annotations

import math
import os
import stat
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from araio.errors import FormatError
from araio.json_reader import parse_object, shown
from araio.memory import weight_memory

__all__ = ["STORED_TYPES", "SafetensorsFile", "TensorEntry", "tensor_bytes"]

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
MAX_TENSOR_BYTES = 1 << 62  # keeps every product of dimensions inside NumPy's own arithmetic
MAX_DIMENSIONS = 16

# What each stored type is read as. NumPy has no bfloat16 or float8: their bits stay bits.
STORED_TYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?",
        "U8": "u1",
        "I8": "i1",
        "F8_E4M3": "u1",
        "F8_E5M2": "u1",
        "F8_E8M0": "u1",
        "U16": "<u2",
        "I16": "<i2",
        "F16": "<f2",
        "BF16": "<u2",
        "U32": "<u4",
        "I32": "<i4",
        "F32": "<f4",
        "U64": "<u8",
        "I64": "<i8",
        "F64": "<f8",
    }.items()
}


def tensor_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor of a stored type."""
    return STORED_TYPES[dtype].itemsize * math.prod(shape)


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: `begin` and `end` count bytes from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile(Mapping[str, TensorEntry]):
    """A mapping from tensor name to its place in one file; the file stays open until `close`.

    remedy       what the owner of a file that is cut off can do
    keeps_pages  the system may keep a copy of what is read in its page cache, for the next time; set it to
                 False where the memory of that copy is needed

    Raises FormatError when the file cannot be opened or departs from the format.
    """

    def __init__(self, path: Path, remedy: str = "download it again") -> None:
        self.path = path
        self.remedy = remedy
        self.keeps_pages = True
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise FormatError(f"{path}: cannot be opened ({error})") from None
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)
        try:
            self.size_bytes = self._regular_file_size()
            self._entries, self.metadata = _parse_header(path, self._read_header(), self.size_bytes, remedy)
        except FormatError:
            self._close()
            raise

    def __getitem__(self, name: str) -> TensorEntry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, name: str) -> npt.NDArray[Any]:
        """The tensor in its shape, as the type `STORED_TYPES` has for it; a fresh, writable array."""
        entry = self._entries[name]
        return self._read_array(name, entry, entry.begin, entry.shape)

    def read_slice(self, name: str, index: int) -> npt.NDArray[Any]:
        """The part of a tensor at one index of its first dimension; a fresh, writable array."""
        entry = self._entries[name]
        slice_bytes = (entry.end - entry.begin) // entry.shape[0]
        return self._read_array(name, entry, entry.begin + index * slice_bytes, entry.shape[1:])

    def _read_array(
        self, name: str, entry: TensorEntry, begin: int, shape: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        dtype = STORED_TYPES[entry.dtype]
        size = math.prod(shape) * dtype.itemsize
        content = weight_memory(size)
        self._read_into(content.data, begin, f"tensor {name!r}")
        return content.view(dtype).reshape(shape)

    def close(self) -> None:
        """Close the file; tensors already read stay valid."""
        self._close()

    def _regular_file_size(self) -> int:
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FormatError(f"{self.path}: is not a regular file")
        return status.st_size

    def _read_header(self) -> bytes:
        if self.size_bytes < 8:
            raise FormatError(
                f"{self.path}: has {self.size_bytes} bytes, too few for a safetensors file; {self.remedy}"
            )
        length = int.from_bytes(self._read_bytes(0, 8), "little")
        if length > MAX_HEADER_BYTES:
            raise FormatError(
                f"{self.path}: says that its header has {length:,} bytes, more than the format's "
                f"{MAX_HEADER_BYTES:,}; this is not a safetensors file"
            )
        if 8 + length > self.size_bytes:
            raise FormatError(
                f"{self.path}: says that its header has {length:,} bytes, but the file has only "
                f"{self.size_bytes:,}; it is truncated, {self.remedy}"
            )
        return self._read_bytes(8, length)

    def _read_bytes(self, offset: int, size: int) -> bytes:
        content = bytearray(size)
        self._read_into(memoryview(content), offset, "the header")
        return bytes(content)

    def _read_into(self, target: memoryview, offset: int, what: str) -> None:
        done = 0
        while done < len(target):
            try:
                count = os.preadv(self._descriptor, [target[done:]], offset + done)
            except OSError as error:
                raise FormatError(f"{self.path}: cannot read {what} ({error.strerror})") from None
            if count == 0:
                raise FormatError(f"{self.path}: ends inside {what}; the file has shrunk since it was opened")
            done += count
            if not self.keeps_pages and hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self._descriptor, offset, done, os.POSIX_FADV_DONTNEED)


def _parse_header(
    path: Path, header: bytes, size_bytes: int, remedy: str
) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    # The format asks for `{` first, so that no file can be two formats at once.
    if not header.startswith(b"{"):
        raise FormatError(f"{path}: the header does not start with '{{'; this is not a safetensors file")
    try:
        document = parse_object(header)
    except ValueError as error:
        raise FormatError(f"{path}: the header {error}") from None
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"{path}: __metadata__ is {shown(metadata)}; expected an object of strings")
    body = 8 + len(header)
    entries = {name: _parse_entry(path, name, value, body) for name, value in document.items()}
    _check_cover(path, entries, body, size_bytes, remedy)
    return entries, metadata


def _parse_entry(path: Path, name: str, value: Any, body: int) -> TensorEntry:
    def refuse(found: str, expected: str) -> NoReturn:
        raise FormatError(f"{path}: tensor {shown(name)}: {found}; expected {expected}")

    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        refuse(f"described by {shown(value)}", "exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in STORED_TYPES:
        refuse(f"dtype {shown(dtype)}", "one of " + ", ".join(STORED_TYPES))
    if not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        refuse(f"shape {shown(shape)}", f"up to {MAX_DIMENSIONS} integers, none negative")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        refuse(f"data_offsets {shown(offsets)}", "[begin, end] with 0 <= begin <= end")
    item_bytes = STORED_TYPES[dtype].itemsize
    # Zeros count as ones here: NumPy refuses a shape whose other dimensions alone are too large.
    if item_bytes * math.prod(max(size, 1) for size in shape) > MAX_TENSOR_BYTES:
        refuse(f"shape {shown(shape)} of {dtype}", f"at most {MAX_TENSOR_BYTES:,} bytes")
    needed, given = item_bytes * math.prod(shape), offsets[1] - offsets[0]
    if needed != given:
        refuse(f"data_offsets span {given:,} bytes", f"{needed:,} for shape {shown(shape)} of {dtype}")
    return TensorEntry(dtype, tuple(shape), body + offsets[0], body + offsets[1])


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


def _check_cover(
    path: Path, entries: dict[str, TensorEntry], body: int, size_bytes: int, remedy: str
) -> None:
    """Tensors must cover the file from the header to its end, each byte once."""
    covered = body
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        where = f"{path}: tensor {shown(name)} begins at byte {entry.begin:,}"
        if entry.begin < covered:
            raise FormatError(f"{where}, inside the tensor before it, which ends at byte {covered:,}")
        if entry.begin > covered:
            raise FormatError(
                f"{where}, but the data before it ends at byte {covered:,}; files have no holes"
            )
        if entry.end > size_bytes:
            raise FormatError(
                f"{path}: tensor {shown(name)} ends at byte {entry.end:,}, but the file has only "
                f"{size_bytes:,}; it is truncated, {remedy}"
            )
        covered = entry.end
    if covered != size_bytes:
        raise FormatError(
            f"{path}: {size_bytes - covered:,} bytes follow the last tensor, which ends at byte {covered:,}; "
            "files hold nothing but their tensors"
        )
