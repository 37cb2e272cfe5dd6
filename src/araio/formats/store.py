"""`Store`: the reader of a converted model, with the methods of a `Checkpoint`.

A store is what `araio convert` writes: `araio.json`, one file for what every token needs, and one for the
experts of each layer. When it is opened, every size and header is held against the manifest and the config.
An expert is one read and its matrices are views of what was read. Whatever is read is held against its
checksum; those of whole files take a pass of their own, so `store_check.py` compares them when somebody asks.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.codecs import Codec, codec
from araio.config import ModelConfig
from araio.errors import CheckpointError
from araio.formats.layout import expert_of, mtp_tensors
from araio.formats.manifest import MANIFEST_NAME, Manifest
from araio.formats.safetensors import SafetensorsFile
from araio.formats.shards import inside
from araio.formats.store_layout import (
    DENSE_FILE,
    EXPERTS_TENSOR,
    RECORD_ALIGNMENT,
    ExpertRecord,
    Tensors,
    dense_tensors,
    expert_file,
    store_files,
)
from araio.json_reader import shown
from araio.tensors import Weight

__all__ = ["Store"]

# A store was made here and by nobody else, so it cannot be downloaded.
_REMEDY = "convert the model again"


class Store:
    """Every tensor of a store, by its published name.

    manifest  what `araio.json` says
    record    where the matrices of an expert lie
    files     in the manifest's order, open until `close`

    Raises CheckpointError when files, manifest and config contradict each other, and FormatError when a file
    is malformed.
    """

    def __init__(self, folder: Path, config: ModelConfig, block: tuple[int, int] = (128, 128)) -> None:
        self.folder = folder
        self.block = block
        self.manifest = Manifest.read(folder / MANIFEST_NAME)
        self.record = ExpertRecord(config, codec(self.manifest.codecs.experts, block))
        self._shapes = dict(dense_tensors(config))
        self._by_name = {name: self._open(name) for name in self.manifest.files}
        self.files = list(self._by_name.values())
        # The record that was read last: its three matrices are asked for one after the other.
        self._last: tuple[int, int, npt.NDArray[np.uint8]] | None = None
        self._check(config)
        # As many checksums as tensors, or, in a store of an early version, none.
        checksums = self.manifest.files[DENSE_FILE].crc32
        self._crc32 = dict(zip(self._by_name[DENSE_FILE], checksums, strict=False))

    def _open(self, name: str) -> SafetensorsFile:
        path = inside(self.folder, name, _REMEDY)
        if not path.exists():
            raise self._failure(f"names {name}, which is missing")
        return SafetensorsFile(path, _REMEDY)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every file; weights already read stay valid."""
        for file in self.files:
            file.close()

    def holds_mtp(self, config: ModelConfig) -> bool:
        """Whether the config's MTP layers are stored; a source without them gives a store without them."""
        dense = self._by_name.get(DENSE_FILE, ())
        return any(name in dense for name, _ in mtp_tensors(config))

    def codec(self, name: str) -> Codec[Any]:
        """How `read_weight` gives a tensor."""
        return self.manifest.codecs.of(name, self._shapes.get(name, (0, 0)), self.block)

    def read_weight(self, name: str) -> Weight:
        """One weight as it is stored; an expert's is a view of its record.

        Raises CheckpointError for what fails its checksum, and for NaN and infinities, whose only other trace
        would be logits without a cause.
        """
        expert = expert_of(name)
        weight = self._read_dense(name) if expert is None else self._read_expert(*expert)
        if not self.codec(name).is_finite(weight):
            file = DENSE_FILE if expert is None else expert_file(expert[0])
            raise CheckpointError(
                f"{self.folder / file}: tensor {shown(name)} holds NaN or infinity; the file is damaged, "
                f"{_REMEDY}"
            )
        return weight

    def read_record(self, layer: int, expert: int) -> npt.NDArray[np.uint8]:
        """The bytes of one expert, at an address that vectors can be read from.

        Raises CheckpointError when they fail their checksum.
        """
        name = expert_file(layer)
        record: npt.NDArray[np.uint8] = self._by_name[name].read_slice(EXPERTS_TENSOR, expert)
        # Faster than a disk, and needed: a flipped bit of an integer is a number too, so nothing else tells.
        if zlib.crc32(record.data) != self.manifest.files[name].crc32[expert]:
            raise CheckpointError(
                f"{self.folder / name}: the record of layer {layer}, expert {expert}, fails its checksum; "
                f"{_REMEDY}"
            )
        return record

    def read_tensor(self, name: str) -> npt.NDArray[Any]:
        """One tensor of `dense.safetensors`, by its name there.

        Raises CheckpointError when it fails its checksum.
        """
        file = self._by_name[DENSE_FILE]
        array, expected = file.read(name), self._crc32.get(name)
        if expected is not None and zlib.crc32(array.data) != expected:
            raise CheckpointError(f"{file.path}: tensor {shown(name)} fails its checksum; {_REMEDY}")
        return array

    def _read_expert(self, layer: int, expert: int, matrix: str) -> Weight:
        if self._last is None or self._last[:2] != (layer, expert):
            self._last = layer, expert, self.read_record(layer, expert)
        return self.record.weight(self._last[2], matrix)

    def _read_dense(self, name: str) -> Weight:
        stored, shape = self.codec(name), self._shapes[name]
        weight: Weight = stored.assemble(
            [self.read_tensor(name + part.suffix) for part in stored.parts(shape)], shape
        )
        return weight

    # ------------------------------------------------------------------ checking

    def _check(self, config: ModelConfig) -> None:
        if not self.holds_mtp(config):
            config = replace(config, num_nextn_predict_layers=0)
        expected = store_files(config, self.manifest.codecs, self.block)
        for name in {**expected, **self._by_name}:
            if name not in self._by_name:
                raise self._failure(f"{name} is missing; config.json calls for it")
            if name not in expected:
                raise self._failure(f"{name} is one too many; config.json does not call for it")
            self._check_file(name, expected[name])

    def _check_file(self, name: str, expected: Tensors) -> None:
        file, stored = self._by_name[name], self.manifest.files[name]
        if file.size_bytes != stored.bytes:
            raise CheckpointError(
                f"{file.path}: has {file.size_bytes:,} bytes, {MANIFEST_NAME} says {stored.bytes:,}; the "
                f"file is incomplete or of another store, {_REMEDY}"
            )
        found: Tensors = {tensor: (entry.dtype, entry.shape) for tensor, entry in file.items()}
        for tensor in {**expected, **found}:
            if found.get(tensor) != expected.get(tensor):
                raise CheckpointError(
                    f"{file.path}: tensor {shown(tensor)} is {_described(found.get(tensor))}; expected "
                    f"{_described(expected.get(tensor))} by config.json and the codecs in {MANIFEST_NAME}"
                )
        if name == DENSE_FILE:
            if len(stored.crc32) not in (0, len(file)):
                raise self._failure(f"{name} has {len(stored.crc32)} checksums; expected {len(file)}")
            return
        entry = file[EXPERTS_TENSOR]
        if entry.begin % RECORD_ALIGNMENT:
            raise CheckpointError(
                f"{file.path}: records begin at byte {entry.begin:,}; expected a multiple of "
                f"{RECORD_ALIGNMENT:,}"
            )
        if len(stored.crc32) != entry.shape[0]:
            raise self._failure(f"{name} has {len(stored.crc32)} checksums; expected {entry.shape[0]}")

    def _failure(self, found: str) -> CheckpointError:
        return CheckpointError(f"{self.folder / MANIFEST_NAME}: {found}; {_REMEDY}")


def _described(tensor: tuple[str, tuple[int, ...]] | None) -> str:
    return "missing" if tensor is None else f"{tensor[0]} {list(tensor[1])}"
