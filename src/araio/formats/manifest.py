"""`Manifest`: the `araio.json` of a store, which says how its weights are stored and what its files must be.

A folder with this file is a store, and a complete one: it is written last. Refused are versions that came
after this program, unknown codecs, and names of files that could lead elsewhere. Read `store.py` next.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from araio.errors import AraioError, CheckpointError
from araio.formats.store_layout import PART_ALIGNMENT, RECORD_ALIGNMENT, StoreCodecs
from araio.json_reader import ObjectReader, read_object
from araio.tensors import BLOCK_COLUMNS, TILE_ROWS

__all__ = ["JOURNAL_NAME", "MANIFEST_NAME", "PARTIAL_SUFFIX", "VERSION", "Manifest", "StoredFile"]

MANIFEST_NAME = "araio.json"
# While a store is being written: the file's name, and what its folder has behind the name.
JOURNAL_NAME = "unfinished.json"
PARTIAL_SUFFIX = ".partial"
VERSION = 1

_FORMAT = "araio store"
# Numbers that the version fixes, written down for readers that are not this one.
_LAYOUT = {
    "tile_rows": TILE_ROWS,
    "block_columns": BLOCK_COLUMNS,
    "part_alignment": PART_ALIGNMENT,
    "record_alignment": RECORD_ALIGNMENT,
}
_MAX_BYTES = 64 << 20  # room for the checksums of seven million experts
_MAX_FILE_BYTES = 1 << 62
_FILE_NAME = re.compile(r"\w[\w.\-]*\.safetensors", re.ASCII)
_CODEC = re.compile(r"\w+", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CRC32S = re.compile(r"[0-9a-f]{8}( [0-9a-f]{8})*")


@dataclass(frozen=True)
class StoredFile:
    """What a file of weights must be.

    crc32  as zlib has it, of each record in a file of experts, of each tensor in the file of the others, in
           the order in which they lie; stores of early versions have none of the latter
    """

    bytes: int
    sha256: str
    crc32: tuple[int, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """The content of `araio.json`.

    source        fingerprint of what was converted
    source_bytes  of its safetensors files
    files         by name
    """

    codecs: StoreCodecs
    source: str
    source_bytes: int
    files: Mapping[str, StoredFile] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a file; raises CheckpointError when it is malformed, or of a version that came later."""
        try:
            return _manifest(ObjectReader(read_object(path, _MAX_BYTES)))
        except (AraioError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from None

    def text(self) -> str:
        """The file's text."""
        document = {
            "format": _FORMAT,
            "version": VERSION,
            "codecs": asdict(self.codecs),
            "layout": _LAYOUT,
            "source": {"fingerprint": self.source, "bytes": self.source_bytes},
            "files": {name: _described(file) for name, file in self.files.items()},
        }
        return json.dumps(document, indent=2) + "\n"


def _manifest(reader: ObjectReader) -> Manifest:
    reader.choice("format", [_FORMAT])
    version = reader.integer("version", 1, 1 << 31)
    if version > VERSION:
        raise ValueError(f"is of version {version}, this araio reads up to {VERSION}; install a newer araio")
    codecs, layout = _table(reader, "codecs"), _table(reader, "layout")
    source, files = _table(reader, "source"), _table(reader, "files")
    for name, size in _LAYOUT.items():
        layout.integer(name, size, size)
    manifest = Manifest(
        codecs=StoreCodecs(*(_matching(codecs, part.name, _CODEC) for part in fields(StoreCodecs))),
        source=_matching(source, "fingerprint", _SHA256),
        source_bytes=source.integer("bytes", 0, _MAX_FILE_BYTES),
        files={name: _stored_file(files, name) for name in files.document},
    )
    for table in (reader, codecs, layout, source):
        table.refuse_the_rest()
    return manifest


def _stored_file(files: ObjectReader, name: str) -> StoredFile:
    if not _FILE_NAME.fullmatch(name):
        raise files.failure(name, "names of .safetensors files in the same folder")
    entry = _table(files, name)
    checksums = _matching(entry, "crc32", _CRC32S).split() if entry.has("crc32") else []
    return StoredFile(
        bytes=entry.integer("bytes", 0, _MAX_FILE_BYTES),
        sha256=_matching(entry, "sha256", _SHA256),
        crc32=tuple(int(checksum, 16) for checksum in checksums),
    )


def _described(file: StoredFile) -> dict[str, Any]:
    described: dict[str, Any] = {"bytes": file.bytes, "sha256": file.sha256}
    if file.crc32:
        described["crc32"] = " ".join(f"{checksum:08x}" for checksum in file.crc32)
    return described


def _table(reader: ObjectReader, key: str) -> ObjectReader:
    table = reader.table(key)
    if table is None:
        raise reader.failure(key, "an object")
    return table


def _matching(reader: ObjectReader, key: str, pattern: re.Pattern[str]) -> str:
    value = reader.document.get(key) if reader.has(key) else None
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise reader.failure(key, f"text like {pattern.pattern}")
    return value
