"""What goes wrong with a read: real errors of files and of the system, and what is said of them."""

import errno
import os
import zlib

import numpy as np
import pytest

from araio.disk.reader import Check, Piece
from araio.errors import DiskError

from .conftest import aligned, write

SEGMENT = 1 << 20


def error_of(reader, slot, pieces, crc32=None):
    reader.submit(1, slot, pieces, crc32)
    (done,) = reader.wait()
    assert done.tag == 1
    assert done.error is None or isinstance(done.error, DiskError)
    return None if done.error is None else str(done.error)


@pytest.mark.parametrize("io", ["auto", "buffered"])
@pytest.mark.parametrize("offset", [0, 3, 4096])
@pytest.mark.parametrize("left", [0, 100, 4096, 2 * SEGMENT + 77])
def test_a_file_that_shrinks_is_told_with_the_place(make_reader, tmp_path, content, io, offset, left):
    path = tmp_path / "shrinks"
    write(path, content)
    reader = make_reader(io)
    number = reader.add(path)
    os.truncate(path, offset + left)
    said = error_of(reader, aligned(len(content)), [Piece(number, offset, 5 * SEGMENT // 2, 0)])
    assert said == (
        f"{path}: ends inside bytes {offset} to {offset + 5 * SEGMENT // 2}, after {left} of them; "
        "the file has shrunk since it was opened"
    )


def test_a_read_that_the_system_fails_is_told_with_its_reason(reader):
    number = reader.add("/proc/self/mem")  # nothing lies at address 0, and reading it is EIO
    said = error_of(reader, aligned(8192), [Piece(number, 0, 8192, 0)])
    assert said.startswith(f"/proc/self/mem: bytes 0 to 8192 cannot be read ({os.strerror(errno.EIO)}); ")


def test_an_error_in_the_middle_of_a_long_record_ends_it(reader, file):
    good, bad = reader.add(file), reader.add("/proc/self/mem")
    pieces = [Piece(good, 0, SEGMENT, i * SEGMENT) for i in range(8)]
    pieces[3] = Piece(bad, 4096, SEGMENT, 3 * SEGMENT)
    said = error_of(reader, aligned(8 * SEGMENT), pieces)
    assert said.startswith("/proc/self/mem: bytes 4096 to 1052672 cannot be read (")
    assert error_of(reader, aligned(8 * SEGMENT), [pieces[0]]) is None


def test_a_flipped_bit_is_seen_by_the_checksum(reader, tmp_path, content):
    path, crc32 = tmp_path / "damaged", zlib.crc32(content)
    damaged = bytearray(content)
    damaged[2_345_678] ^= 4
    write(path, damaged)
    pieces = [Piece(reader.add(path), 0, len(content), 0)]
    said = error_of(reader, aligned(len(content)), pieces, crc32)
    assert said.startswith(
        f"{path}: bytes 0 to 3000001 have the checksum {zlib.crc32(damaged):08x}, expected {crc32:08x}; "
    )
    assert error_of(reader, aligned(len(content)), pieces) is None  # nobody asked


def test_a_checksum_covers_all_pieces_in_their_order(reader, file, content):
    number = reader.add(file)
    pieces = [Piece(number, 100, 50, 0), Piece(number, 0, 100, 50)]
    slot = aligned(150)
    assert error_of(reader, slot, pieces, zlib.crc32(content[100:150] + content[:100])) is None
    said = error_of(reader, slot, pieces, zlib.crc32(content[:150]))
    assert f"bytes 100 to 150 with bytes 0 to 100 of {file} have the checksum" in said


BAD = {
    Check.F32: (np.uint32, [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF]),
    Check.BF16: (np.uint16, [0x7F80, 0xFF80, 0x7FC0, 0x7F81, 0xFFFF]),
    Check.F16: (np.uint16, [0x7C00, 0xFC00, 0x7E00, 0x7C01, 0xFFFF]),
    Check.FP8: (np.uint8, [0x7F, 0xFF]),
    Check.SCALE: (np.uint32, [0x7F800000, 0x7FC00000, 0xFF800000, 0, 0x80000000, 0x80000001, 0xBF800000]),
}
GOOD = {
    Check.F32: [0x7F7FFFFF, 0xFF7FFFFF, 0, 0x80000000, 1, 0x80000001],
    Check.BF16: [0x7F7F, 0xFF7F, 0, 0x8000, 1],
    Check.F16: [0x7BFF, 0xFBFF, 0, 0x8000, 1],
    Check.FP8: [0x7E, 0xFE, 0, 0x80, 1],
    Check.SCALE: [0x7F7FFFFF, 1, 0x3F800000],
}


@pytest.mark.parametrize("check", BAD)
def test_numbers_that_no_weight_can_be_are_told_with_their_place(reader, tmp_path, check):
    dtype, bad = BAD[check]
    good = np.resize(np.array(GOOD[check], dtype), 300_001)
    write(tmp_path / "good", good.tobytes())
    slot = aligned(good.nbytes + 4099)
    fine = [Piece(reader.add(tmp_path / "good"), 0, good.nbytes, 4099, check)]
    assert error_of(reader, slot, fine) is None
    for index, bits in zip([0, 1, 4095, 4096, 150_000, 262_144, 300_000], bad * 4, strict=False):
        damaged = good.copy()
        damaged[[index, -1]] = bits
        path = tmp_path / f"bad-{index}"
        write(path, damaged.tobytes())
        said = error_of(reader, slot, [Piece(reader.add(path), 0, good.nbytes, 4099, check)])
        assert said.startswith(f"{path}: bytes 0 to {good.nbytes} hold a ")
        assert f", at byte {index * good.itemsize}; " in said


def test_every_bit_pattern_is_judged_as_numpy_judges_it(reader, tmp_path):
    halves = np.arange(1 << 16, dtype=np.uint16)
    as_numbers = {
        Check.F16: halves.view(np.float16).astype(np.float32),
        Check.BF16: (halves.astype(np.uint32) << 16).view(np.float32),
    }
    write(tmp_path / "halves", halves.tobytes())
    number, slot = reader.add(tmp_path / "halves"), aligned(2)
    for check, values in as_numbers.items():
        finite = np.isfinite(values)
        # Around every change from good to bad, and a sample of the rest.
        edges = np.flatnonzero(np.diff(finite)) + 1
        for at in {*edges.tolist(), *(edges - 1).tolist(), *range(0, 1 << 16, 4099)}:
            said = error_of(reader, slot, [Piece(number, 2 * at, 2, 0, check)])
            assert (said is None) == finite[at]


def test_only_pieces_with_a_check_are_looked_at(reader, tmp_path):
    write(tmp_path / "mixed", b"\xff" * 64 + b"\x01" * 64)
    number = reader.add(tmp_path / "mixed")
    pieces = [Piece(number, 0, 64, 0), Piece(number, 64, 64, 64, Check.F32)]
    assert error_of(reader, aligned(128), pieces) is None
    both = [pieces[0]._replace(check=Check.BF16), pieces[1]]
    assert "hold a BF16 that is NaN or infinite, at byte 0;" in error_of(reader, aligned(128), both)
