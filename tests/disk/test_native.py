"""The compiled parts by themselves: the checksum, and the choice of a reader."""

import zlib

import numpy as np
import pytest

from araio.disk import native_reader, select
from araio.disk.python_reader import PythonReader
from araio.errors import DiskError


@pytest.fixture(scope="module")
def compiled():
    return pytest.importorskip("araio.disk._native")


@pytest.mark.native
@pytest.mark.parametrize("by_tables", [False, True])
def test_the_checksum_is_that_of_zlib(compiled, by_tables):
    content = np.random.default_rng(1).integers(0, 256, 70_000, np.uint8)
    for size in [*range(200), 255, 256, 257, 4095, 4096, 65_537]:
        for begin in (0, 1, 7):
            part = content[begin : begin + size]
            assert compiled.crc32(part, by_tables=by_tables) == zlib.crc32(part)
            assert compiled.crc32(part, 0xDEADBEEF, by_tables) == zlib.crc32(part, 0xDEADBEEF)
    for plain in (0, 255):
        constant = np.full(1000, plain, np.uint8)
        assert compiled.crc32(constant, by_tables=by_tables) == zlib.crc32(constant)


@pytest.mark.native
def test_the_compiled_reader_serves_where_there_is_one(compiled):
    reader = select.open_reader("buffered", threads=2)
    reader.close()
    assert isinstance(reader, native_reader.NativeReader)
    assert select.serving().startswith("compiled")


@pytest.mark.native
def test_an_engine_that_does_not_exist_is_refused(compiled):
    with pytest.raises(DiskError, match="engine is 'steam'; expected one of threads, uring"):
        native_reader.NativeReader(engine="steam")


def test_without_it_the_plain_one_serves_and_the_reason_is_told(monkeypatch):
    def missing():
        raise ImportError("No module named 'araio.disk._native'")

    monkeypatch.setattr(native_reader, "compiled", missing)
    monkeypatch.setattr(select, "compiled", missing)
    reader = select.open_reader()
    reader.close()
    assert isinstance(reader, PythonReader)
    assert select.serving().startswith("Python threads (the compiled reader is missing: No module")
