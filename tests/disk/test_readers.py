"""What a read delivers, held against plain reads of the same files; both readers, every mode."""

import os
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from araio.disk.reader import Check, Piece
from araio.errors import DiskError

from .conftest import KINDS, aligned, write

MODES = ("direct", "buffered")


@pytest.fixture(scope="module", params=MODES)
def shared(kind, request, file):
    """A reader of `file` for many reads, one mode each; and the number of the file."""
    reader = KINDS[kind]("auto" if request.param == "direct" else "buffered", threads=3)
    number = reader.add(file)
    if reader.modes != (request.param,):
        reader.close()
        pytest.skip(f"{file} cannot be read past the page cache")
    yield reader, number
    reader.close()


EDGES = st.sampled_from([0, 4096, 8192, 1 << 20, 2 << 20, 2_998_272, 3_000_001])
OFFSETS = EDGES | st.integers(0, 3_000_001)
SIZES = st.sampled_from([0, 1, 4096, 8192, 1 << 20, 3_000_001]) | st.integers(0, 100_000)


@settings(max_examples=40)
@given(
    ranges=st.lists(st.tuples(OFFSETS, SIZES, st.integers(0, 5000)), min_size=1, max_size=4),
    shift=st.sampled_from([0, 1, 64, 4095]),
)
def test_any_pieces_arrive_where_they_should_and_nowhere_else(shared, content, ranges, shift):
    reader, number = shared
    expected, pieces = bytearray(), []
    for offset, size, gap in ranges:
        expected += b"\xaa" * gap
        size = min(size, len(content) - offset)
        pieces.append(Piece(number, offset, size, len(expected)))
        expected += content[offset : offset + size]
    expected += b"\xaa" * 100
    slot = aligned(len(expected) + shift)[shift:]
    slot[:] = 0xAA
    parts = b"".join(content[piece.offset : piece.offset + piece.size] for piece in pieces)
    reader.submit(1, slot, pieces, zlib.crc32(parts), urgent=True)
    (done,) = reader.wait()
    assert (done.tag, done.error) == (1, None)
    assert slot.tobytes() == bytes(expected)


def test_a_record_longer_than_a_segment_is_whole_when_it_is_reported(shared, content):
    reader, number = shared
    slots = [aligned(3_000_001) for _ in range(8)]
    for tag, slot in enumerate(slots):
        reader.submit(tag, slot, [Piece(number, 0, 3_000_001, 0)])
    seen = set()
    while len(seen) < len(slots):
        for done in reader.wait():
            assert done.error is None
            assert slots[done.tag].tobytes() == content
            seen.add(done.tag)


@pytest.mark.parametrize("io", ["auto", "buffered"])
def test_files_in_memory_are_read_too(make_reader, content, io):
    path = Path(f"/dev/shm/araio-test-{os.getpid()}")
    if not path.parent.is_dir():
        pytest.skip("there is no /dev/shm")
    try:
        path.write_bytes(content)
        reader, slot = make_reader(io), aligned(20_000)
        reader.submit(1, slot, [Piece(reader.add(path), 5, 20_000, 0)])
        assert reader.wait()[0].error is None
        assert slot.tobytes() == content[5:20_005]
    finally:
        path.unlink()


def test_a_file_system_without_direct_reads_is_refused_or_read_through_the_cache(make_reader):
    with pytest.raises(DiskError, match=r"/proc/version: .* no reads past the page cache .*auto or buffered"):
        make_reader("direct").add("/proc/version")
    reader = make_reader("auto")
    number, size = reader.add("/proc/version"), len(Path("/proc/version").read_bytes())
    assert reader.modes == ("buffered",)
    slot = aligned(size)
    reader.submit(1, slot, [Piece(number, 0, size, 0)])
    assert reader.wait()[0].error is None
    assert slot.tobytes() == Path("/proc/version").read_bytes()


def test_what_cannot_be_opened_says_so(make_reader, tmp_path):
    reader = make_reader()
    with pytest.raises(DiskError, match=r"missing: cannot be opened \(No such file or directory\)"):
        reader.add(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(DiskError, match="is not a regular file"):
            reader.add(path)
    with pytest.raises(DiskError, match="io is 'fast'; expected one of auto, direct, buffered"):
        make_reader("fast")
    assert reader.modes == ()


def test_a_deleted_file_can_be_read_to_the_end(reader, tmp_path, content):
    write(tmp_path / "gone", content)
    number, slot = reader.add(tmp_path / "gone"), aligned(len(content))
    (tmp_path / "gone").unlink()
    reader.submit(1, slot, [Piece(number, 0, len(content), 0)])
    assert reader.wait()[0].error is None
    assert slot.tobytes() == content


def test_pieces_of_several_files_make_one_record(reader, tmp_path, content):
    slot, pieces = aligned(30_000), []
    for at in range(3):
        write(tmp_path / str(at), content[at * 10_000 : (at + 1) * 10_000])
        pieces.append(Piece(reader.add(tmp_path / str(at)), 0, 10_000, at * 10_000))
    reader.submit(1, slot, pieces, zlib.crc32(content[:30_000]))
    assert reader.wait()[0].error is None
    assert slot.tobytes() == content[:30_000]


@pytest.mark.parametrize(
    "piece",
    [
        Piece(1, 0, 8, 0),
        Piece(-1, 0, 8, 0),
        Piece(0, -1, 8, 0),
        Piece(0, 0, -8, 0),
        Piece(0, (1 << 63) - 8, 8, 0),
        Piece(0, 0, 8, -1),
        Piece(0, 0, 8, 4089),
        Piece(0, 0, 4097, 0),
        Piece(0, 0, 2, 1 << 62),
        Piece(0, 0, 7, 0, Check.BF16),
        Piece(0, 0, 2, 0, Check.SCALE),
    ],
)
def test_a_piece_that_does_not_fit_is_refused_and_the_tag_stays_free(reader, file, piece):
    number, slot = reader.add(file), aligned(4096)
    with pytest.raises(ValueError, match=r"[Pp]iece"):
        reader.submit(1, slot, [piece])
    reader.submit(1, slot, [Piece(number, 0, 8, 0)])
    assert reader.wait()[0].error is None


def test_a_slot_must_be_writable_bytes(reader, file):
    number, slot = reader.add(file), aligned(4096)
    frozen = slot.view()
    frozen.flags.writeable = False
    for wrong in (frozen, slot[::2], slot.view(np.uint16), slot.reshape(2, 2048)):
        with pytest.raises((ValueError, TypeError)):
            reader.submit(1, wrong, [Piece(number, 0, 8, 0)])
    with pytest.raises(ValueError, match="at least one piece"):
        reader.submit(1, slot, [])


@pytest.mark.parametrize("threads", [0, -1, 5000])
def test_the_number_of_threads_is_checked(make_reader, threads):
    with pytest.raises(ValueError, match="expected a number from 1 to 1024"):
        make_reader(threads=threads)


def test_counters_count(reader, file):
    number = reader.add(file)
    for tag in range(5):
        reader.submit(tag, aligned(1 << 20), [Piece(number, 0, 1 << 20, 0)])
    reader.submit(5, aligned(0), [Piece(number, 0, 0, 0)])
    reader.drain()
    assert len(reader.wait()) == 6
    counted = reader.counters
    assert (counted.reads, counted.bytes) == (6, 5 << 20)
    assert counted.busy_seconds > 0
    assert reader.counters == counted  # the clock stands while nothing is read


def test_files_may_be_added_from_several_threads(reader, tmp_path, content):
    numbers = {}

    def add(name):
        write(tmp_path / name, name.encode())
        numbers[name] = reader.add(tmp_path / name)

    threads = [threading.Thread(target=add, args=(f"file-{i:02}",)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slot = aligned(7 * 16)
    for number in numbers.values():
        reader.submit(number, slot, [Piece(number, 0, 7, 7 * number)])
    reader.drain()
    assert all(done.error is None for done in reader.wait())
    assert all(slot[7 * n : 7 * n + 7].tobytes() == name.encode() for name, n in numbers.items())
