"""Who comes first, and who comes not at all: urgency, promotion, cancelling, waiting, and a crowd."""

import random
import threading
import time

import pytest

from araio.disk.reader import Piece

from .conftest import aligned

SMALL = [Piece(0, 0, 4096, 0)]
LONG = [Piece(0, 0, 2 << 20, 0)] * 150  # a tenth of a second, in which the test can submit the others


@pytest.fixture
def lone(make_reader, file):
    """A reader with one thread, which serves one read after the other."""
    reader = make_reader(threads=1)
    reader.add(file)
    return reader


def all_tags(reader, count):
    tags = []
    while len(tags) < count:
        reported = reader.wait()
        assert reported
        assert all(done.error is None for done in reported)
        tags += [done.tag for done in reported]
    return tags


def test_urgent_reads_go_first_and_promoted_ones_behind_them(lone):
    slot = aligned(2 << 20)
    lone.submit(0, slot, LONG, urgent=True)
    for tag in (1, 2, 3, 4):
        lone.submit(tag, aligned(4096), SMALL)
    for tag in (5, 6):
        lone.submit(tag, aligned(4096), SMALL, urgent=True)
    lone.promote(3)
    lone.submit(7, aligned(4096), SMALL, urgent=True)
    lone.promote(5)  # urgent already: keeps its place
    assert lone.cancel(2)
    assert lone.cancel(6)
    assert all_tags(lone, 6) == [0, 5, 3, 7, 1, 4]


def test_a_cancelled_read_leaves_its_slot_alone_and_its_tag_free(lone):
    slot, other = aligned(4096), aligned(4096)
    slot[:] = 0xAA
    lone.submit(0, aligned(2 << 20), LONG, urgent=True)
    lone.submit(1, slot, SMALL)
    assert lone.cancel(1)
    assert not lone.cancel(1)
    lone.submit(1, other, SMALL)
    assert all_tags(lone, 2) == [0, 1]
    assert (slot == 0xAA).all()
    assert (other != 0).any()
    assert lone.counters.reads == 2


def test_what_has_begun_or_is_over_cannot_be_cancelled(lone):
    lone.submit(0, aligned(2 << 20), LONG)
    while lone.counters.bytes == 0:
        time.sleep(0.001)
    assert not lone.cancel(0)
    assert all_tags(lone, 1) == [0]
    assert not lone.cancel(0)
    lone.promote(0)
    assert not lone.cancel(99)


@pytest.mark.native
def test_the_rest_of_a_long_speculative_read_lets_urgent_ones_pass_until_it_is_promoted(kind, lone):
    if kind == "python":
        pytest.skip("the plain reader serves a read as a whole")
    for tag, is_promoted in ((0, False), (2, True)):
        lone.submit(tag, aligned(2 << 20), LONG)
        while lone.cancel(tag):  # until it has begun
            lone.submit(tag, aligned(2 << 20), LONG)
            time.sleep(0.001)
        if is_promoted:
            lone.promote(tag)
        lone.submit(tag + 1, aligned(4096), SMALL, urgent=True)
        assert all_tags(lone, 2) == ([tag, tag + 1] if is_promoted else [tag + 1, tag])


def test_a_tag_is_in_flight_once(lone):
    lone.submit(0, aligned(2 << 20), LONG)
    with pytest.raises(ValueError, match="tag 0 is in flight already"):
        lone.submit(0, aligned(4096), SMALL)
    lone.drain()
    with pytest.raises(ValueError, match="tag 0 is in flight already"):  # not reported yet
        lone.submit(0, aligned(4096), SMALL)
    assert all_tags(lone, 1) == [0]
    lone.submit(0, aligned(4096), SMALL)
    assert all_tags(lone, 1) == [0]


def test_waiting_ends_with_the_time_and_at_once_when_there_is_nothing_to_wait_for(lone):
    assert lone.wait() == []
    lone.submit(0, aligned(2 << 20), LONG)
    assert lone.wait(0) == []
    started = time.monotonic()
    assert lone.wait(0.01) == []
    assert time.monotonic() - started >= 0.01
    assert all_tags(lone, 1) == [0]
    assert lone.wait(10) == []


def test_submitting_does_not_wait_for_the_disk(lone):
    slot = aligned(2 << 20)
    lone.submit(0, slot, LONG)
    for tag in range(1, 500):
        lone.submit(tag, slot, SMALL)
    assert lone.wait(0) == []  # the first still runs
    assert sorted(all_tags(lone, 500)) == list(range(500))


@pytest.mark.parametrize("threads", [1, 4])
def test_a_crowd_of_callers_gets_every_read_once_and_whole(make_reader, file, content, threads):
    reader = make_reader(threads=threads)
    reader.add(file)
    ended = time.monotonic() + 0.7
    expected, taken, problems = {}, {}, []
    count = [0]
    lock = threading.Lock()

    def submit(seed):
        rng = random.Random(seed)
        while time.monotonic() < ended:
            offset, size = rng.randrange(2_000_000), rng.choice([0, 1, 4096, 100_000, 1_000_000])
            offset = offset // 4096 * 4096 if rng.random() < 0.5 else offset
            slot = aligned(size)
            with lock:
                tag = count[0]
                count[0] += 1
                expected[tag] = slot, offset
            reader.submit(tag, slot, [Piece(0, offset, size, 0)], urgent=rng.random() < 0.3)
            for other in rng.choices(range(tag + 1), k=2):
                reader.promote(other)
            if rng.random() < 0.2 and reader.cancel(tag):
                with lock:
                    del expected[tag]
            while tag - len(taken) > 200 and time.monotonic() < ended:
                time.sleep(0.001)

    def take():
        while time.monotonic() < ended or len(taken) < len(expected):
            for done in reader.wait(0.01):
                slot, offset = expected[done.tag]
                with lock:
                    is_new = taken.setdefault(done.tag, threading.get_ident()) == threading.get_ident()
                if done.error or not is_new or slot.tobytes() != content[offset : offset + len(slot)]:
                    problems.append(done)

    callers = [threading.Thread(target=submit, args=(seed,)) for seed in range(3)]
    callers += [threading.Thread(target=take) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not any(caller.is_alive() for caller in callers)
    assert not problems
    assert taken.keys() == expected.keys()
    assert reader.counters.reads == len(expected)
