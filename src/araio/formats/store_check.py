"""`check_store`: every byte of a store against its checksums, down to the expert that is damaged."""

from __future__ import annotations

from collections.abc import Callable

from araio.errors import CheckpointError
from araio.formats.digest import sha256_of
from araio.formats.store import Store
from araio.formats.store_layout import DENSE_FILE, EXPERTS_TENSOR, expert_layer

__all__ = ["check_store"]


def check_store(store: Store, on_file: Callable[[int], None] = lambda _: None) -> None:
    """Read every file; raises CheckpointError that names the first damaged one, and in it the expert.

    on_file  called with the bytes of each file that is whole
    """
    for file in store.files:
        name = file.path.name
        if sha256_of(file.path) != store.manifest.files[name].sha256:
            raise CheckpointError(
                f"{file.path}: {_damage(store, name)} fails its checksum; convert the model again"
            )
        on_file(file.size_bytes)


def _damage(store: Store, name: str) -> str:
    """What of a file is damaged; a record that is raises by itself."""
    if name == DENSE_FILE:
        return "the file"
    for expert in range(len(store.manifest.files[name].crc32)):
        store.read_record(expert_layer(name), expert)
    return f"the header before tensor {EXPERTS_TENSOR!r}"
