"""What the system keeps of a file after it was read: nothing, in both modes."""

import ctypes
import mmap
import os

import pytest

from araio.disk.reader import Piece

from .conftest import aligned, write

PAGE = mmap.PAGESIZE


def resident_pages(path):
    """Pages of a file that the page cache holds, by mincore(2)."""
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, flags=mmap.MAP_PRIVATE) as pages:
        pinned = ctypes.c_char.from_buffer(pages)
        marks = (ctypes.c_ubyte * -(-len(pages) // PAGE))()
        libc = ctypes.CDLL(None, use_errno=True)
        assert (
            libc.mincore(ctypes.c_void_p(ctypes.addressof(pinned)), ctypes.c_size_t(len(pages)), marks) == 0
        )
        del pinned
        return sum(mark & 1 for mark in marks)


@pytest.fixture
def cold(tmp_path, content):
    """A file of which the page cache holds nothing; skips where that cannot be had, as in memory."""
    path = tmp_path / "cold"
    write(path, content)
    with path.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if resident_pages(path) > 0:
        pytest.skip("this file system does not let go of cached pages")
    return path


@pytest.mark.parametrize("io", ["direct", "buffered"])
@pytest.mark.parametrize("offset", [0, 4096, 5001])
def test_nothing_of_what_was_read_stays_in_the_page_cache(make_reader, cold, content, io, offset):
    reader, size = make_reader(io), 600_000
    for tag, begin in enumerate((offset, offset + 700_000, offset + 1_400_000)):
        reader.submit(tag, aligned(size), [Piece(reader.add(cold), begin, size, 0)])
    reader.drain()
    assert [done.error for done in reader.wait()] == [None] * 3
    assert resident_pages(cold) == 0


def test_a_plain_read_would_have_stayed(cold):
    cold.read_bytes()
    assert resident_pages(cold) > 0
