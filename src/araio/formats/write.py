"""Writes a checkpoint: shards and their index under Hugging Face's names, all of it or none of it.

Shards are written into a hidden folder beside their destination and flushed to the disk, then moved to names
that no file has yet; renaming the index over the old one is the single step that replaces a checkpoint. Until
then the old one stands untouched, whatever happens: a full disk, an exception in the source, a pulled plug.
One writer at a time per folder. Read `checkpoint.py` for the way back.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from araio.atomic import flush_folder, write_text
from araio.codecs import codec_of
from araio.errors import CheckpointError
from araio.formats.shards import INDEX_NAME, SINGLE_NAME, read_index
from araio.formats.tensor_file import TensorFileWriter
from araio.tensors import Quantized, Weight

__all__ = ["write_checkpoint"]

_STAGING_PREFIX = ".incoming-"

Piece: TypeAlias = tuple[str, str, npt.NDArray[Any]]
"""Name, safetensors type and numbers of one array of a weight."""


@dataclass(frozen=True)
class _Shard:
    """A shard on the disk, not yet under its final name."""

    path: Path
    names: tuple[str, ...]
    tensor_bytes: int


def write_checkpoint(
    folder: Path, tensors: Iterable[tuple[str, Weight]], max_shard_bytes: int = 2 << 30
) -> None:
    """Write tensors in the order given and replace the checkpoint in `folder`, if there is one.

    tensors          float32 arrays, BFloat16, or BlockFP8 (which adds its scales as `NAME_scale_inv`)
    max_shard_bytes  a shard closes before it would exceed this; one shard's tensors are held in memory

    Raises CheckpointError when the disk is full or the folder cannot be written; nothing has changed then.
    """
    with _storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        index = folder / INDEX_NAME
        taken = _names_in_use(index)
        for leftover in folder.glob(_STAGING_PREFIX + "*"):
            shutil.rmtree(leftover)  # of a writer that was killed
        staging = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=folder))
        try:
            shards = [
                _write_shard(staging / str(number), pieces)
                for number, pieces in enumerate(_split(tensors, max_shard_bytes))
            ]
            names = _publish(folder, staging, shards, taken)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    _remove_replaced(folder, names)


def _names_in_use(index: Path) -> frozenset[str]:
    """The shards of the checkpoint to be replaced; a damaged index is none that could still be read."""
    try:
        return frozenset(read_index(index).values())
    except CheckpointError:
        return frozenset()


@contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{folder}: the checkpoint could not be written ({error.strerror}); what was there before is "
            "unchanged; make room or choose another folder"
        ) from error


def _split(tensors: Iterable[tuple[str, Weight]], max_shard_bytes: int) -> Iterator[list[Piece]]:
    pieces: list[Piece] = []
    seen: set[str] = set()
    held_bytes = 0
    for name, weight in tensors:
        added = _pieces(name, weight)
        assert seen.isdisjoint(stored for stored, _, _ in added), f"tensor {name} is given twice"
        seen.update(stored for stored, _, _ in added)
        added_bytes = sum(array.nbytes for _, _, array in added)
        if pieces and held_bytes + added_bytes > max_shard_bytes:
            yield pieces
            pieces.clear()  # the caller's reference too: two shards in memory would be one too many
            held_bytes = 0
        pieces += added
        held_bytes += added_bytes
    assert pieces, "a checkpoint needs at least one tensor"
    yield pieces


def _pieces(name: str, weight: Weight) -> list[Piece]:
    assert not isinstance(weight, Quantized), f"tensor {name} is quantised in a way that only a store holds"
    codec = codec_of(weight)
    stored = zip(codec.parts(weight.shape), codec.arrays(weight), strict=True)
    return [(name + part.suffix, part.stored_as, array) for part, array in stored]


def _write_shard(path: Path, pieces: list[Piece]) -> _Shard:
    tensors = {name: (stored_as, array.shape) for name, stored_as, array in pieces}
    # transformers refuses files whose metadata do not name a format.
    with TensorFileWriter(path, tensors, metadata={"format": "pt"}) as writer:
        for name, _, array in pieces:
            writer.append(name, array)
    return _Shard(path, tuple(tensors), sum(array.nbytes for _, _, array in pieces))


def _publish(folder: Path, staging: Path, shards: list[_Shard], taken: frozenset[str]) -> list[str]:
    names = _free_names(len(shards), taken)
    weight_map = {name: file for shard, file in zip(shards, names, strict=True) for name in shard.names}
    index = {"metadata": {"total_size": sum(s.tensor_bytes for s in shards)}, "weight_map": weight_map}
    write_text(staging / INDEX_NAME, json.dumps(index, indent=2))
    for shard, name in zip(shards, names, strict=True):
        shard.path.rename(folder / name)
    flush_folder(folder)
    (staging / INDEX_NAME).rename(folder / INDEX_NAME)
    return names


def _remove_replaced(folder: Path, names: list[str]) -> None:
    """Delete the shards of the checkpoint that stood here before; the new one is complete already."""
    try:
        flush_folder(folder)
        for stale in {*folder.glob("model-*-of-*.safetensors"), folder / SINGLE_NAME}:
            if stale.name not in names:
                stale.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{folder}: the new checkpoint is in place, but clearing away the old one failed "
            f"({error.strerror}: {error.filename or folder}); delete the old files by hand"
        ) from error


def _free_names(count: int, taken: frozenset[str]) -> list[str]:
    """Names that the checkpoint to be replaced does not use: one more zero in the count if need be."""
    numbered = (
        [f"model-{i:05d}-of-{count:0{width}d}.safetensors" for i in range(1, count + 1)]
        for width in itertools.count(5)
    )
    return next(names for names in numbered if taken.isdisjoint(names))
