"""JSON responses and the arrays in them, from files nobody vouches for; errors name the file and the line."""

from __future__ import annotations

import base64
import binascii
import io
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from araio.errors import TraceError
from araio.json_reader import parse_object, shown

__all__ = ["base64_bytes", "documents", "first_document", "id_array", "npy_array", "whole_number"]

Array = npt.NDArray[Any]

_NPY_MAGIC = b"\x93NUMPY"
_MAX_NPY_HEADER = 10_000


def documents(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each JSON object of a file is, and the object: one for the file, or in .jsonl one a line.

    Raises TraceError.
    """
    try:
        if path.suffix != ".jsonl":
            yield str(path), _parsed(str(path), path.read_bytes())
            return
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{path}:{number}", _parsed(f"{path}:{number}", line)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror})") from None


def first_document(path: Path) -> dict[str, Any]:
    """The first JSON object of a file; raises TraceError when it has none."""
    for _, document in documents(path):
        return document
    raise TraceError(f"{path}: is empty; expected JSON objects, one a line")


def _parsed(where: str, content: bytes) -> dict[str, Any]:
    try:
        return parse_object(content)
    except ValueError as error:
        raise TraceError(f"{where}: {error}") from None


def whole_number(document: object, key: str, where: str) -> int | None:
    """A number of tokens under a key, or None; raises TraceError for what is none."""
    value = document.get(key) if isinstance(document, dict) else None
    if value is not None and (type(value) is not int or not 0 <= value < 1 << 31):
        raise TraceError(f"{where}: {key} is {shown(value)}; expected a number of tokens")
    return value


def id_array(value: object, where: str) -> Array:
    """Routes (T, L, K) as a response gives them: base64 of a .npy file, or lists; raises TraceError."""
    if isinstance(value, str):
        return _routes(npy_array(base64_bytes(value, where), where), where)
    try:
        return _routes(np.array(value), where)
    except ValueError:
        raise TraceError(f"{where}: is {shown(value)}; expected base64 of a .npy file, or lists") from None


def base64_bytes(text: object, where: str) -> bytes:
    """What base64 stands for; raises TraceError."""
    try:
        return base64.b64decode(text if isinstance(text, str) else "?", validate=True)
    except (binascii.Error, ValueError):
        raise TraceError(f"{where}: is {shown(text)}; expected base64") from None


def npy_array(content: bytes, where: str) -> Array:
    """The array of a .npy file, as large as the file warrants and without objects; raises TraceError."""
    stream = io.BytesIO(content)
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a header that Python 2 may have written
            shape, is_fortran, dtype = read(stream, max_header_size=_MAX_NPY_HEADER)
    # What NumPy lets through of the tokenizer and the parser that it reads the header with.
    except (ValueError, TypeError, EOFError, SyntaxError, TokenError, RecursionError) as error:
        raise TraceError(f"{where}: is no .npy file ({error})") from None
    body = content[stream.tell() :]
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(body):
        raise TraceError(
            f"{where}: says that it holds {shape} of {dtype}, but has {len(body):,} bytes of them"
        )
    return np.frombuffer(body, dtype).reshape(shape, order="F" if is_fortran else "C")


def _routes(values: Array, where: str) -> Array:
    if values.ndim != 3 or values.dtype.kind not in "iu" or 0 in values.shape[1:]:
        raise TraceError(
            f"{where}: holds {values.dtype} of the shape {values.shape}; expected whole numbers, "
            "(tokens, layers, experts)"
        )
    return values
