"""Arrays in a profile's JSON: what the cache of experts learned while the profile was fitted.

    {"rates": {"shape": [5, 32], "float32": "AACAPw..."}, ...}

Numbers are little-endian float32 in base64. What they mean is for `weights/policies.py` to say.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from araio.errors import ConfigError
from araio.json_reader import ObjectReader
from araio.tensors import Float32Array

__all__ = ["pack_habits", "read_habits"]

MAX_SIZE = 1 << 28


def pack_habits(habits: Mapping[str, Float32Array]) -> dict[str, Any]:
    """Arrays as JSON holds them."""
    return {
        name: {
            "shape": list(array.shape),
            "float32": base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode("ascii"),
        }
        for name, array in habits.items()
    }


def read_habits(reader: ObjectReader, key: str) -> dict[str, Float32Array] | None:
    """The arrays under a key, None where it is not there; raises ConfigError, naming what is wrong."""
    table = reader.table(key)
    if table is None:
        return None
    return {name: _read_array(table, f"{key}.{name}", name) for name in table.document}


def _read_array(table: ObjectReader, where: str, name: str) -> Float32Array:
    entry = table.table(name)
    text = None if entry is None else entry.document.get("float32")
    if entry is None or not isinstance(text, str):
        raise ConfigError(f"{where} is no array; expected its shape, and its numbers under float32")
    shape = entry.integers("shape", 0, MAX_SIZE, most=8)
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"{where}.float32 is no base64") from None
    if len(content) != 4 * math.prod(shape):
        raise ConfigError(f"{where} has {len(content)} bytes; expected 4 for each number of {list(shape)}")
    array = np.frombuffer(content, "<f4").astype(np.float32).reshape(shape)
    if not np.isfinite(array).all():
        raise ConfigError(f"{where} holds what is no number")
    return array
