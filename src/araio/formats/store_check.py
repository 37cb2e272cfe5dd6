"""`check_store`: every byte of a store against its checksums, down to the expert that is damaged."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from araio.errors import CheckpointError
from araio.formats.digest import sha256_of
from araio.formats.store import Store
from araio.formats.store_layout import DENSE_FILE, EXPERTS_TENSOR, expert_layer

__all__ = ["check_store"]


def check_store(store: Store, on_file: Callable[[str], None] = lambda _: None) -> None:
    """Read every file; raises CheckpointError that names the first damaged one, and in it the expert.

    on_file  called with the name of each file before it is read
    """
    for file in store.files:
        name = file.path.name
        on_file(name)
        if sha256_of(file.path) != store.manifest.files[name].sha256:
            raise CheckpointError(
                f"{file.path}: {_damage(store, name)} fails its checksum; convert the model again"
            )


def _damage(store: Store, name: str) -> str:
    if name == DENSE_FILE:
        return "the file"
    layer = expert_layer(name)
    for expert, checksum in enumerate(store.manifest.files[name].crc32):
        if zlib.crc32(store.read_record(layer, expert).data) != checksum:
            return f"the record of layer {layer}, expert {expert},"
    return f"the header before tensor {EXPERTS_TENSOR!r}"
