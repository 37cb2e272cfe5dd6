"""A reader that fails on purpose does so where it was told to, and nowhere else."""

import time
import zlib

import numpy as np
import pytest

from araio.disk.python_reader import PythonReader
from araio.disk.reader import Check, Piece
from araio.testing.faulty_reader import Broken, FaultyReader, Flipped, Late, Short

CONTENT = bytes(range(64)) * 128


@pytest.fixture
def read_all(tmp_path):
    """Reads the same 8192 bytes `count` times; what is reported, the slots, and the path."""
    path = tmp_path / "content"
    path.write_bytes(CONTENT)

    def run(faults, count=3, **request):
        reader = FaultyReader(PythonReader(threads=1), faults)
        try:
            number, check = reader.add(path), request.pop("check", Check.NONE)
            slots = [np.zeros(8192, np.uint8) for _ in range(count)]
            for tag, slot in enumerate(slots):
                reader.submit(tag, slot, [Piece(number, 0, 8192, 0, check)], **request)
            done = []
            while reported := reader.wait():
                done += reported
            return done, slots, path
        finally:
            reader.close()

    return run


def test_without_faults_nothing_changes(read_all):
    done, slots, _ = read_all({})
    assert [(one.tag, one.error) for one in done] == [(0, None), (1, None), (2, None)]
    assert all(slot.tobytes() == CONTENT for slot in slots)


def test_each_fault_strikes_its_own_read(read_all):
    done, _, path = read_all({0: Broken(), 2: Short(100)})
    errors = {one.tag: one.error for one in done}
    assert str(errors[0]).startswith(f"{path}: bytes 0 to 8192 cannot be read (Input/output error)")
    assert errors[1] is None
    assert str(errors[2]).startswith(f"{path}: ends inside bytes 0 to 8192, after 100 of them")


def test_a_flipped_byte_is_seen_by_whoever_looks(read_all):
    done, slots, _ = read_all({1: Flipped(5000, bit=7)})
    assert [one.error for one in done] == [None] * 3
    assert slots[1][5000] == CONTENT[5000] ^ 0x80
    done, _, _ = read_all({1: Flipped(5000, bit=7)}, crc32=zlib.crc32(CONTENT))
    assert "have the checksum" in str(done[1].error)
    done, _, _ = read_all({1: Flipped(63, bit=6)}, check=Check.FP8)
    assert "hold a FP8 that is NaN or infinite, at byte 63" in str(done[1].error)


def test_a_late_read_lets_the_others_pass(read_all):
    started = time.monotonic()
    done, _, _ = read_all({0: Late(0.05)})
    assert [one.tag for one in done] == [1, 2, 0]
    assert time.monotonic() - started >= 0.05


def test_waiting_for_a_late_read_ends_with_the_time(tmp_path):
    (tmp_path / "content").write_bytes(CONTENT)
    reader = FaultyReader(PythonReader(threads=1), {0: Late(0.2), 1: Broken()})
    reader.submit(7, np.zeros(64, np.uint8), [Piece(reader.add(tmp_path / "content"), 0, 64, 0)])
    assert reader.wait(0.05) == []
    assert [one.tag for one in reader.wait()] == [7]
    assert reader.counters.reads == 1
    assert not reader.cancel(7)
    reader.close()
