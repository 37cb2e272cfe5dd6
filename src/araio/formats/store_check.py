"""`check_store`: all of a store against its checksums; it names the tensor or the expert that fails."""

from __future__ import annotations

from collections.abc import Callable

from araio.errors import CheckpointError
from araio.formats.digest import sha256_of
from araio.formats.safetensors import SafetensorsFile
from araio.formats.store import Store
from araio.formats.store_layout import DENSE_FILE, expert_layer

__all__ = ["check_store"]


def check_store(store: Store, on_file: Callable[[int], None] = lambda _: None) -> None:
    """Read every file; raises CheckpointError that names the first damaged one, and what in it is damaged.

    on_file  called with the bytes of each file that is whole
    """
    for file in store.files:
        name = file.path.name
        if sha256_of(file.path) != store.manifest.files[name].sha256:
            raise CheckpointError(
                f"{file.path}: {_damage(store, file)} fails its checksum; convert the model again"
            )
        on_file(file.size_bytes)


def _damage(store: Store, file: SafetensorsFile) -> str:
    """What of a file is damaged; a tensor or a record that is raises by itself."""
    name, checksums = file.path.name, store.manifest.files[file.path.name].crc32
    if not checksums:
        return "the file"
    if name == DENSE_FILE:
        for tensor in file:
            store.read_tensor(tensor)
    else:
        for expert in range(len(checksums)):
            store.read_record(expert_layer(name), expert)
    return "the header"
