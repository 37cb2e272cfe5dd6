"""The keys of those who may ask: where they come from, and how one is recognised.

A key comes from a file or from `ARAIO_API_KEYS`, never from the command line, which every user of a machine
can read. The server keeps only digests, and compares a key with all of them whatever it finds, so that the
time it takes says nothing. Read `guard.py` for where keys are asked for.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from araio import env
from araio.errors import RequestError

__all__ = ["KeyRing", "file_warning", "presented_key", "read_keys", "secured"]

SHORTEST_KEY = 8
LONGEST_KEY = 512
MOST_KEYS = 1024
MOST_FILE_BYTES = 1 << 20


class KeyRing:
    """The digests of all keys. It is false where there are none, and then nobody needs one."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def find(self, key: bytes) -> str | None:
        """A name for the holder of a key, which does not give the key away; None if it is none of them."""
        digest, found = _digest(key), None
        for known in self._digests:
            if hmac.compare_digest(digest, known):
                found = known.hex()[:16]
        return found


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def presented_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key of a request: `Authorization: Bearer KEY`, as OpenAI has it, or Anthropic's `x-api-key: KEY`.

    headers  with names in lower case, as ASGI has them
    """
    found = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                return key.strip()
        elif name == b"x-api-key":
            found = value.strip()
    return found


def secured(document: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI document of routes that need a key, either of the two ways, but for `/health`."""
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    components = {**document.get("components", {}), "securitySchemes": schemes}
    health = {"get": {**document["paths"]["/health"]["get"], "security": []}}
    return {
        **document,
        "components": components,
        "security": [{name: []} for name in schemes],
        "paths": {**document["paths"], "/health": health},
    }


def read_keys(path: Path | None = None) -> tuple[str, ...]:
    """The keys of a file, one a line, with comments behind `#` at its beginning; else of `ARAIO_API_KEYS`.

    The variable holds several if they are separated by commas. A key given twice counts once.

    Raises:
        RequestError: a file that cannot be read or holds no key, or a key that is too short to be one, too
            long, or not of printable ASCII; the message never has the key itself.
    """
    if path is None:
        return _checked("ARAIO_API_KEYS", env.get("ARAIO_API_KEYS").split(","))
    try:
        with path.open("rb") as handle:
            content = handle.read(MOST_FILE_BYTES + 1)
    except OSError as error:
        raise RequestError(f"the key file {path} cannot be read: {error.strerror}") from None
    if len(content) > MOST_FILE_BYTES:
        raise RequestError(f"the key file {path} is larger than {MOST_FILE_BYTES:,} bytes, which none is")
    lines = content.decode("utf-8", errors="replace").splitlines()
    keys = _checked(str(path), (line for line in lines if not line.lstrip().startswith("#")))
    if not keys:
        raise RequestError(f"the key file {path} holds no key; write one a line")
    return keys


def file_warning(path: Path) -> str | None:
    """What is wrong with a key file that others than its owner can read; None if they cannot."""
    if os.name != "posix" or not path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return None
    return f"the key file {path} can be read by other users of this machine; run: chmod 600 {path}"


def _checked(source: str, entries: Iterable[str]) -> tuple[str, ...]:
    keys = list(dict.fromkeys(key for entry in entries if (key := entry.strip())))
    if len(keys) > MOST_KEYS:
        raise RequestError(f"{source} holds {len(keys):,} keys; expected at most {MOST_KEYS:,}")
    for number, key in enumerate(keys, start=1):
        if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
            raise RequestError(
                f"key {number} of {source} has {len(key)} characters; expected {SHORTEST_KEY} to "
                f"{LONGEST_KEY}. To make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise RequestError(
                f"key {number} of {source} has a character that headers cannot carry; expected printable "
                "ASCII without spaces"
            )
    return tuple(keys)
