"""`TensorFileWriter`: one safetensors file whose tensors are known beforehand and filled piece by piece.

The header says where everything lies before the first number is there, so a file of any size is written from
pieces of any size, to several tensors in turn. Read `safetensors.py` for the format and the way back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.formats.safetensors import STORED_TYPES, tensor_bytes

__all__ = ["TensorFileWriter"]


class TensorFileWriter:
    """A context in which `append` fills a file; its header comes last, so until then there is none to trust.

    tensors    name to safetensors type and shape
    alignment  data begin at a multiple of it
    """

    def __init__(
        self,
        path: Path,
        tensors: Mapping[str, tuple[str, tuple[int, ...]]],
        metadata: Mapping[str, str] | None = None,
        alignment: int = 8,
    ) -> None:
        self.path = path
        # Wide types first, so that every tensor is aligned for readers that map the file into memory.
        ordered = sorted(tensors.items(), key=lambda item: -STORED_TYPES[item[1][0]].itemsize)
        header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
        self._next: dict[str, int] = {}
        self._end: dict[str, int] = {}
        end = 0
        for name, (dtype, shape) in ordered:
            begin, end = end, end + tensor_bytes(dtype, shape)
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
            self._next[name], self._end[name] = begin, end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(8 + len(text)) % alignment)
        self._header = len(text).to_bytes(8, "little") + text

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors in the order in which they lie."""
        return tuple(self._end)

    def append(self, name: str, array: npt.NDArray[Any]) -> None:
        """Write the next numbers of a tensor, behind those that it has."""
        begin = self._next[name]
        end = self._next[name] = begin + array.nbytes
        assert end <= self._end[name], f"tensor {name} is longer than its header says"
        self._write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, len(self._header) + begin)

    def __enter__(self) -> TensorFileWriter:
        self._handle = self.path.open("wb", buffering=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._handle:
            if error is None:
                self._finish()

    def _finish(self) -> None:
        unfilled = [name for name in self._end if self._next[name] != self._end[name]]
        assert not unfilled, f"{self.path}: {unfilled[:3]} were not filled"
        self._write(self._header, 0)
        os.fsync(self._handle.fileno())

    def _write(self, content: bytes | memoryview, offset: int) -> None:
        done = 0
        while done < len(content):
            done += os.pwrite(self._handle.fileno(), content[done:], offset + done)
