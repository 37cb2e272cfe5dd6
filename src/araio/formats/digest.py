"""Checksums of files, and a fingerprint of a whole checkpoint that need not read all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from araio.formats.safetensors import SafetensorsFile

__all__ = ["fingerprint", "sha256_of"]

_CHUNK_BYTES = 4 << 20
_SAMPLE_BYTES = 64 << 10


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal; raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as handle:
        while chunk := handle.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(config: Path, files: Iterable[SafetensorsFile]) -> str:
    """What tells two states of a checkpoint apart in a second: a SHA-256, in hexadecimal.

    It covers `config.json` and of each file its name, its size, the time it was last written, and 64 KiB at
    its beginning (where the names and shapes are), in its middle and at its end. Samples alone miss an edit
    of a few tensors, so the time counts: a copy that does not keep it is another checkpoint. Raises OSError.
    """
    digest = hashlib.sha256(config.read_bytes())
    for file in sorted(files, key=lambda file: file.path.name):
        written = file.path.stat().st_mtime_ns
        digest.update(f"\0{file.path.name}\0{file.size_bytes}\0{written}\0".encode())
        with file.path.open("rb", buffering=0) as handle:
            for offset in (0, file.size_bytes // 2, max(0, file.size_bytes - _SAMPLE_BYTES)):
                handle.seek(offset)
                digest.update(handle.read(_SAMPLE_BYTES))
    return digest.hexdigest()
