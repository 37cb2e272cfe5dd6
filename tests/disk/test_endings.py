"""How a reader ends: closed, collected, with its process, with Ctrl-C, in the child of a fork."""

import gc
import signal
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest

from araio.disk.reader import Piece

from .conftest import KINDS, aligned

SIZE = 2 << 20
MANY = 60  # reads, which take some hundredths of a second


def test_closing_drops_what_waits_and_writes_no_more(make_reader, file):
    reader = make_reader(threads=2)
    reader.add(file)
    slots = [aligned(SIZE) for _ in range(MANY)]
    for tag, slot in enumerate(slots):
        reader.submit(tag, slot, [Piece(0, 0, SIZE, 0)])
    while reader.counters.bytes == 0:
        time.sleep(0.001)
    reader.close()
    reader.close()
    for slot in slots:
        slot[:] = 0xAA
    time.sleep(0.05)
    assert all((slot == 0xAA).all() for slot in slots)
    assert reader.counters.bytes > 0
    for call in (
        lambda: reader.submit(99, slots[0], [Piece(0, 0, SIZE, 0)]),
        lambda: reader.wait(),
        lambda: reader.cancel(0),
        lambda: reader.promote(0),
        lambda: reader.drain(),
        lambda: reader.add(file),
    ):
        with pytest.raises(ValueError, match="the reader is closed"):
            call()


def test_a_reader_that_is_collected_ends_its_threads(kind, file):
    reader = KINDS[kind](threads=2)
    reader.add(file)
    slots = [aligned(SIZE) for _ in range(MANY)]
    for tag, slot in enumerate(slots):
        reader.submit(tag, slot, [Piece(0, 0, SIZE, 0)])
    gone = weakref.ref(reader)
    del reader
    gc.collect()
    assert gone() is None
    for slot in slots:
        slot[:] = 0xAA
    time.sleep(0.05)
    assert all((slot == 0xAA).all() for slot in slots)


def test_a_slot_lives_as_long_as_its_read(make_reader, file, content):
    class Memory(np.ndarray):
        pass

    reader = make_reader(threads=1)
    reader.add(file)
    reader.submit(0, aligned(SIZE), [Piece(0, 0, SIZE, 0)] * 100, urgent=True)
    slot = aligned(4096).view(Memory)
    alive = weakref.ref(slot)
    reader.submit(1, slot, [Piece(0, 0, 4096, 0)])
    del slot
    gc.collect()
    assert alive() is not None
    reader.drain()
    assert alive().tobytes() == content[:4096]
    assert len(reader.wait()) == 2
    gc.collect()
    assert alive() is None


PROGRAM = """
import os, sys, time
import numpy as np
from functools import partial
from araio.disk.native_reader import NativeReader
from araio.disk.python_reader import PythonReader
from araio.disk.reader import Piece

file, kind = sys.argv[1:]
reader = (PythonReader if kind == "python" else partial(NativeReader, engine=kind))(threads=1)
reader.add(file)
slots = [np.empty(2 << 20, np.uint8) for _ in range(4)]
for tag, slot in enumerate(slots):
    reader.submit(tag, slot, [Piece(0, 0, 2 << 20, 0)] * 20000)
"""


def start(kind, file, more):
    command = [sys.executable, "-c", PROGRAM + more, str(file), kind]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "os._exit(0)", "del slots, slot", "del reader"])
def test_the_process_may_end_while_reads_are_in_flight(kind, file, ending):
    process = start(kind, file, ending)
    out, errors = process.communicate(timeout=120)
    assert (process.returncode, out, errors) == (0, "", "")


@pytest.mark.parametrize("call", ["reader.wait()", "reader.wait(1000)", "reader.drain()"])
def test_ctrl_c_comes_through(kind, file, call):
    program = f"""
print("waiting", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    process = start(kind, file, program)
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=120)
    assert (process.returncode, out, errors) == (0, "interrupted\n", "")


def test_the_child_of_a_fork_is_told_and_ends(kind, file):
    program = """
child = os.fork()
if child == 0:
    try:
        reader.wait()
    except RuntimeError as error:
        print(error, flush=True)
        sys.exit(3)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), reader.cancel(3))
"""
    process = start(kind, file, program)
    out, errors = process.communicate(timeout=120)
    told = "a reader has no threads in the child of a fork; open another one there"
    assert (process.returncode, out, errors) == (0, f"{told}\n3 True\n", "")
