"""Sizes, speeds and tokens on the command line: units are read strictly."""

from __future__ import annotations

import pytest

from araio.errors import RequestError
from araio.quantities import parse_bytes, parse_bytes_per_s, parse_tokens


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64GiB", 64 * 2**30),
        ("64 gib", 64 * 2**30),
        ("48GB", 48 * 10**9),
        ("0.5TB", 5 * 10**11),
        ("7MB", 7 * 10**6),
    ],
)
def test_sizes(text, size):
    assert parse_bytes("--ram", text) == size
    assert parse_bytes_per_s("--disk", f"{text}/s") == size


@pytest.mark.parametrize(("text", "tokens"), [("4096", 4096), ("32k", 32_768), ("1M", 2**20), (" 8K ", 8192)])
def test_tokens(text, tokens):
    assert parse_tokens("--context", text) == tokens


@pytest.mark.parametrize(
    "text", ["", "64", "GB", "-1GB", "1e3GB", "64Gb/s", "0GB", "64 G", "inf GB", "٣GB/s", "9" * 99]
)
def test_what_is_no_size(text):
    with pytest.raises(RequestError, match=r"--ram is .*; expected a size such as 64GiB"):
        parse_bytes("--ram", text)
    with pytest.raises(RequestError, match="expected a speed such as 7GB/s"):
        parse_bytes_per_s("--disk", text if not text.endswith("Gb/s") else "64GB")


def test_bits_are_no_bytes():
    with pytest.raises(RequestError, match="expected a speed such as 7GB/s"):
        parse_bytes_per_s("--disk", "7Gb/s")


@pytest.mark.parametrize("text", ["", "0", "0k", "1.5k", "-3", "32kk", "k", "9" * 20])
def test_what_is_no_number_of_tokens(text):
    with pytest.raises(RequestError, match="expected a number of tokens"):
        parse_tokens("--context", text)
