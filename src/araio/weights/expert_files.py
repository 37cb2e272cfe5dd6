"""Where on disk each routed expert lies, so that it can be read into a record of memory at any time.

A store has an expert as one aligned record with a checksum; a published checkpoint has its matrices and their
scales as ranges of shards, with neither. Both fill the same record (`formats.store_layout.ExpertRecord`), so
that nothing behind the read knows which one it was. Read `residency.py` for who asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from araio.codecs import Codec, codec
from araio.config import ModelConfig
from araio.disk.reader import Check, Piece
from araio.errors import CheckpointError
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import EXPERT_MATRICES
from araio.formats.store import Store
from araio.formats.store_layout import EXPERTS_TENSOR, ExpertRecord, expert_file
from araio.json_reader import shown

__all__ = ["CheckpointExperts", "ExpertFiles", "Source", "StoreExperts", "expert_files"]

# What is tested where no checksum is: scales of fp8 must be positive too, as when a whole model is loaded.
_CHECKS = {"F32": Check.F32, "BF16": Check.BF16, "F8_E4M3": Check.FP8}


class Source(NamedTuple):
    """One expert on disk.

    pieces  that fill its record; `file` counts in `ExpertFiles.paths`
    crc32   of the record; None where nobody knows
    """

    pieces: Sequence[Piece]
    crc32: int | None


class ExpertFiles(Protocol):
    """The experts of one folder.

    record  what each of them fills
    paths   of all files that have a part of one
    """

    record: ExpertRecord
    paths: list[Path]

    def find(self, layer: int, expert: int) -> Source:
        """Where one expert lies."""


class StoreExperts:
    """Those of a store: a read each."""

    def __init__(self, store: Store, layers: Sequence[int]) -> None:
        self.record = store.record
        names = [expert_file(layer) for layer in layers]
        self.paths = [store.folder / name for name in names]
        files = {file.path.name: file for file in store.files}
        self._places = {
            layer: (number, files[name][EXPERTS_TENSOR].begin, store.manifest.files[name].crc32)
            for number, (layer, name) in enumerate(zip(layers, names, strict=True))
        }

    def find(self, layer: int, expert: int) -> Source:
        """One record."""
        file, begin, checksums = self._places[layer]
        size = self.record.bytes
        return Source([Piece(file, begin + expert * size, size, 0, Check.NONE)], checksums[expert])


class CheckpointExperts:
    """Those of a published checkpoint: a range for each matrix and for its scales.

    Raises CheckpointError where experts are stored in several ways, or in one that would have to be widened.
    """

    def __init__(self, checkpoint: Checkpoint, config: ModelConfig, layers: Sequence[int]) -> None:
        self._checkpoint = checkpoint
        stored = self._codec(config, layers)
        self.record = ExpertRecord(config, stored)
        self.paths = [file.path for file in checkpoint.files]
        numbers = {id(file): number for number, file in enumerate(checkpoint.files)}
        self._homes = {name: numbers[id(file)] for file in checkpoint.files for name in file}

    def find(self, layer: int, expert: int) -> Source:
        """Three ranges, or six with scales."""
        pieces = []
        for matrix in EXPERT_MATRICES:
            name = _tensor(layer, expert, matrix)
            for part, target in self.record.places(matrix):
                entry = self._checkpoint[name + part.suffix]
                check = Check.SCALE if part.suffix else _CHECKS[entry.dtype]
                size = entry.end - entry.begin
                pieces.append(Piece(self._homes[name + part.suffix], entry.begin, size, target, check))
        return Source(pieces, None)

    def _codec(self, config: ModelConfig, layers: Sequence[int]) -> Codec[Any]:
        """The one that all experts share."""
        checkpoint = self._checkpoint
        first = checkpoint[_tensor(layers[0], 0, EXPERT_MATRICES[0])].dtype
        for layer in layers:
            for expert in range(config.n_routed_experts):
                for matrix in EXPERT_MATRICES:
                    name = _tensor(layer, expert, matrix)
                    if checkpoint[name].dtype != first or first not in _CHECKS:
                        raise CheckpointError(
                            f"{checkpoint.folder}: tensor {shown(name)} is stored as "
                            f"{checkpoint[name].dtype}, and experts are read from disk as they are stored, "
                            f"all in one of {', '.join(_CHECKS)}; make a store of it with `araio convert`, "
                            "or give it enough --ram to be loaded as a whole"
                        )
        return codec({"F32": "f32", "BF16": "bf16", "F8_E4M3": "fp8"}[first], checkpoint.block)


def expert_files(checkpoint: Checkpoint | Store, config: ModelConfig, layers: Sequence[int]) -> ExpertFiles:
    """Those of an open checkpoint or store; `layers` are all that have routed experts.

    Raises CheckpointError as `CheckpointExperts`.
    """
    if isinstance(checkpoint, Store):
        return StoreExperts(checkpoint, layers)
    return CheckpointExperts(checkpoint, config, layers)


def _tensor(layer: int, expert: int, matrix: str) -> str:
    return f"model.layers.{layer}.mlp.experts.{expert}.{matrix}.weight"
