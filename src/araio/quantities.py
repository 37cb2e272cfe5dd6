"""Quantities as people write them on a command line, with their units: `64GiB`, `7GB/s`, `32k`.

GB are 10^9 bytes and GiB are 2^30; Gb are bits, and refused; a size without a unit is refused, since
nobody knows which was meant. `k` after a number of tokens is 1,024, as context lengths are named: `32k` are
32,768 tokens.
"""

from __future__ import annotations

import re

from araio.errors import RequestError

__all__ = ["parse_bytes", "parse_bytes_per_s", "parse_tokens"]

_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([KMGT]i?B|[kmgt]i?b)(/s)?")
_TOKENS = re.compile(r"([0-9]{1,9})(k|M)?", re.IGNORECASE)
_TOKEN_UNITS = {"": 1, "k": 1024, "m": 1024 * 1024}


def parse_bytes(option: str, text: str) -> int:
    """`64GiB` in bytes; raises RequestError for anything else, zero included."""
    return _size(option, text, "", "a size such as 64GiB or 48GB")


def parse_bytes_per_s(option: str, text: str) -> int:
    """`7GB/s` in bytes per second; raises RequestError for anything else, zero included."""
    return _size(option, text, "/s", "a speed such as 7GB/s")


def parse_tokens(option: str, text: str) -> int:
    """`32768` or `32k` in tokens; raises RequestError for anything else, zero included."""
    match = _TOKENS.fullmatch(text.strip())
    tokens = int(match[1]) * _TOKEN_UNITS[(match[2] or "").lower()] if match else 0
    if tokens < 1:
        raise RequestError(f"{option} is {text!r}; expected a number of tokens such as 4096 or 32k (32,768)")
    return tokens


def _size(option: str, text: str, per: str, expected: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].upper()) if match else None
    size = 0
    if match and unit and (match[3] or "").lower() == per:
        size = int(float(match[1]) * unit)
    if size < 1:
        raise RequestError(f"{option} is {text!r}; expected {expected}")
    return size
