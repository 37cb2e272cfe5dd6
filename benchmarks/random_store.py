"""Stores of weights that are made as they are written: any size, a few hundred MB of memory.

    write_store(RoutedWeights(config, texts), folder)

The files are those of `araio convert`, checksums included, so everything that reads a store reads these. A
folder appears under its name when it is whole. With `same_experts` the experts of one layer are written once,
and the files of all other layers are links to it: a model takes a fraction of its size on the disk, while
every read of it is as real as before. Read `routed_weights.py` for the weights.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from routed_weights import CODECS, RoutedWeights

from araio.atomic import flush_folder, write_text
from araio.codecs import codec
from araio.errors import AraioError
from araio.formats.digest import sha256_of
from araio.formats.layout import EXPERT_MATRICES
from araio.formats.manifest import MANIFEST_NAME, Manifest, StoredFile
from araio.formats.safetensors import tensor_bytes
from araio.formats.store_layout import (
    DENSE_FILE,
    EXPERTS_TENSOR,
    RECORD_ALIGNMENT,
    ExpertRecord,
    Tensors,
    dense_tensors,
    expert_layer,
    store_files,
)
from araio.formats.tensor_file import TensorFileWriter

__all__ = ["FOLDER", "kept_store", "write_store"]

FOLDER = Path.home() / ".cache" / "araio" / "bench"
BLOCK = (128, 128)  # of FP8, which these stores have none of


def kept_store(source: RoutedWeights, folder: Path, same_experts: bool = False) -> Path:
    """The store of a source, written if it is not there yet.

    Raises AraioError where the folder holds other weights, or the disk has too little room.
    """
    if not folder.exists():
        write_store(source, folder, same_experts)
    elif Manifest.read(folder / MANIFEST_NAME).source != source.fingerprint:
        raise AraioError(
            f"{folder} holds other weights than are wanted now; delete it, and it is written anew"
        )
    return folder


def write_store(source: RoutedWeights, folder: Path, same_experts: bool = False) -> None:
    """Write every weight of a source; see `kept_store`."""
    files = store_files(source.config, CODECS, BLOCK)
    written = {name: tensors for name, tensors in files.items() if not same_experts or _is_first(name, files)}
    unfinished = folder.with_name(folder.name + ".writing")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    _refuse_a_full_disk(unfinished, written)
    stored: dict[str, StoredFile] = {}
    first = ""
    for name, tensors in files.items():
        if name in written:
            stored[name] = _write_file(source, unfinished / name, tensors)
            first = name
        else:
            os.link(unfinished / first, unfinished / name)
            stored[name] = stored[first]
    source.config.save(unfinished / "config.json")
    write_text(unfinished / MANIFEST_NAME, Manifest(CODECS, source.fingerprint, 0, stored).text())
    flush_folder(unfinished)
    unfinished.rename(folder)


def _is_first(name: str, files: Mapping[str, Tensors]) -> bool:
    """Whether a file is written even if all layers have the same experts."""
    return name == DENSE_FILE or name == next(other for other in files if other != DENSE_FILE)


def _refuse_a_full_disk(folder: Path, files: Mapping[str, Tensors]) -> None:
    needed = sum(tensor_bytes(*tensor) for tensors in files.values() for tensor in tensors.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        folder.rmdir()
        raise AraioError(
            f"{folder.with_suffix('')} needs {needed / 1e9:.1f} GB, and its disk has {free / 1e9:.1f} GB "
            "left; make room, or give another folder"
        )


def _write_file(source: RoutedWeights, path: Path, tensors: Tensors) -> StoredFile:
    with TensorFileWriter(path, tensors, alignment=RECORD_ALIGNMENT) as file:
        if path.name == DENSE_FILE:
            checksums = _write_dense(source, file)
        else:
            checksums = _write_experts(source, file, expert_layer(path.name))
    return StoredFile(path.stat().st_size, sha256_of(path), checksums)


def _write_dense(source: RoutedWeights, file: TensorFileWriter) -> tuple[int, ...]:
    checksums = dict.fromkeys(file.names, 0)
    for name, shape in dense_tensors(source.config):
        parts = CODECS.of(name, shape, BLOCK).parts(shape)
        for piece in source.pieces(name):
            for part, array in zip(parts, piece, strict=True):
                tensor = name + part.suffix
                file.append(tensor, array)
                checksums[tensor] = zlib.crc32(np.ascontiguousarray(array).data, checksums[tensor])
    return tuple(checksums.values())


def _write_experts(source: RoutedWeights, file: TensorFileWriter, layer: int) -> tuple[int, ...]:
    layout = ExpertRecord(source.config, codec(CODECS.experts))
    checksums = []
    for expert in range(source.config.n_routed_experts):
        record = _record(source, layout, layer, expert)
        file.append(EXPERTS_TENSOR, record)
        checksums.append(zlib.crc32(record.data))
    return tuple(checksums)


def _record(source: RoutedWeights, layout: ExpertRecord, layer: int, expert: int) -> NDArray[np.uint8]:
    record = np.zeros(layout.bytes, np.uint8)
    for matrix in EXPERT_MATRICES:
        weight = source.read_weight(f"model.layers.{layer}.mlp.experts.{expert}.{matrix}.weight")
        for place, array in zip(layout.arrays(record, matrix), layout.codec.arrays(weight), strict=True):
            place[...] = array
    return record
