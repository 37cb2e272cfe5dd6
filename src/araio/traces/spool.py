"""`Spool`: rows that keep coming, put into shards of a bounded number of rows.

A safetensors file says how long its tensors are before the first number is there, which nobody knows while
rows still come. So each column grows in a file of its own, and when a shard is full, or the trace ends, they
are put together: what is in memory is one block of rows. Read `writer.py` for who feeds it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.formats.safetensors import STORED_TYPES
from araio.formats.tensor_file import TensorFileWriter

__all__ = ["Spool", "safetensors_type", "shard_name"]

Array = npt.NDArray[Any]

_PIECE_BYTES = 4 << 20
_TYPE_NAMES = {dtype: name for name, dtype in STORED_TYPES.items() if not name.startswith(("F8", "BF"))}


def shard_name(kind: str, number: int) -> str:
    """The file of a shard of tokens or drafts."""
    return f"{kind}-{number:05d}.safetensors"


def safetensors_type(dtype: np.dtype[Any]) -> str:
    """What safetensors calls a type."""
    return _TYPE_NAMES[dtype]


class Spool:
    """The shards of one kind of rows.

    shards  rows of each that is complete
    """

    def __init__(self, folder: Path, kind: str, rows_per_shard: int) -> None:
        self.folder = folder
        self.kind = kind
        self.rows_per_shard = rows_per_shard
        self.shards: list[int] = []
        self._rows = 0  # of the shard that grows
        self._types: dict[str, tuple[str, tuple[int, ...]]] = {}

    def add(self, block: dict[str, Array]) -> None:
        """Add rows, column by column; every block has the same columns. Raises OSError."""
        total = len(next(iter(block.values())))
        begin = 0
        while begin < total:
            end = min(total, begin + self.rows_per_shard - self._rows)
            self._append({name: values[begin:end] for name, values in block.items()}, end - begin)
            begin = end
            if self._rows == self.rows_per_shard:
                self.finish()

    def finish(self) -> None:
        """Put the rows that came since the last shard into one. Raises OSError."""
        if not self._rows:
            return
        tensors = {name: (dtype, (self._rows, *shape)) for name, (dtype, shape) in self._types.items()}
        path = self.folder / shard_name(self.kind, len(self.shards))
        with TensorFileWriter(path, tensors) as writer:
            for name in tensors:
                with self._path(name).open("rb", buffering=0) as pieces:
                    while piece := pieces.read(_PIECE_BYTES):
                        writer.append(name, np.frombuffer(piece, np.uint8))
        self.shards.append(self._rows)
        self._rows = 0
        for name in tensors:
            self._path(name).unlink()

    def _append(self, block: dict[str, Array], rows: int) -> None:
        for name, values in block.items():
            self._types[name] = safetensors_type(values.dtype), values.shape[1:]
            with self._path(name).open("ab", buffering=0) as file:
                content = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
                while content:
                    content = content[file.write(content) :]
        self._rows += rows

    def _path(self, name: str) -> Path:
        return self.folder / f"{self.kind}.{name}.growing"
