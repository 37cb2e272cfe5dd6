"""The bookkeeping of streamed experts: consistent after every call, whatever interrupts it."""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from araio.disk import native_reader, python_reader
from araio.disk.python_reader import PythonReader
from araio.disk.reader import Counters, Done, Piece, Slot
from araio.errors import CheckpointError, DiskError
from araio.kernels import select
from araio.nn.batch import Segment, Unwanted
from araio.nn.kv_cache import LatentCache
from araio.nn.model import Model
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights import residency
from araio.weights.counters import StreamCounters
from araio.weights.foresight import Foresight
from araio.weights.guesses import Kind
from araio.weights.load import load_model
from araio.weights.policies import Forecast
from araio.weights.residency import NOBODY, StreamedExperts

from .streams import check, scores, streamed

IDS = np.random.default_rng(2).integers(0, 250, 12).tolist()


# ---------------------------------------------------------------------- a disk in the test's hands


class HandReader:
    """Reads end when the test says so, or when it waits without limit; every byte that arrives is the tag."""

    modes = ("direct",)

    def __init__(self) -> None:
        self.waiting: dict[int, Slot] = {}  # not begun
        self.begun: dict[int, Slot] = {}
        self.done: list[Done] = []
        self.urgent: list[int] = []
        self.reads = 0

    def submit(
        self, tag: int, slot: Slot, pieces: object, crc32: int | None = None, urgent: bool = False
    ) -> None:
        assert tag not in self.waiting
        assert tag not in self.begun
        assert all(done.tag != tag for done in self.done)
        self.waiting[tag] = slot
        if urgent:
            self.urgent.append(tag)

    def promote(self, tag: int) -> None:
        self.urgent.append(tag)

    def cancel(self, tag: int) -> bool:
        return self.waiting.pop(tag, None) is not None

    def begin(self) -> None:
        for tag in list(self.waiting):
            self.begun[tag] = self.waiting.pop(tag)

    def end(self, count: int, fails: bool = False) -> None:
        self.begin()
        for tag in list(self.begun)[:count]:
            slot = self.begun.pop(tag)
            slot[:] = tag
            self.reads += 1
            self.done.append(Done(tag, DiskError("the disk is on fire") if fails else None))

    def wait(self, timeout_s: float | None = None) -> list[Done]:
        if timeout_s is None and not self.done:
            assert self.waiting or self.begun, "waits for ever"
            self.end(1)
        done, self.done = self.done, []
        return done

    def drain(self) -> None:
        self.end(len(self.waiting) + len(self.begun))

    @property
    def counters(self) -> Counters:
        return Counters(self.reads, self.reads * 8, self.reads * 1e-3)


class BytePlaces:
    """Places of eight bytes, whose experts are what lies there."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.content = np.full((count, 8), 255, np.uint8)

    def memory(self, slot: int) -> Slot:
        return self.content[slot]

    def expert(self, slot: int) -> Slot:
        return self.content[slot]


LAYERS, EXPERTS, K = (1, 2, 4), 6, 2


def by_hand(
    count: int,
    pins: dict[int, Collection[int]] | None = None,
    prefers: dict[int, Collection[int]] | None = None,
) -> tuple[StreamedExperts, HandReader]:
    files = SimpleNamespace(
        record=SimpleNamespace(bytes=8),
        paths=[Path("experts")],
        remedy="",
        find=lambda layer, expert: SimpleNamespace(pieces=[Piece(0, 0, 8, 0)], crc32=1),
    )
    reader = HandReader()
    policy = Forecast(len(LAYERS) * EXPERTS, EXPERTS)
    return StreamedExperts(files, reader, BytePlaces(count), policy, LAYERS, EXPERTS, pins, prefers), reader


def key(layer: int, expert: int) -> int:
    return LAYERS.index(layer) * EXPERTS + expert


def use(source: StreamedExperts, layer: int, ids: Collection[int]) -> None:
    """Ask as `MoE` does, and see that each expert comes once and is the right one."""
    ticket = source.request(layer, np.array([list(ids)], np.int32))
    weights = ticket.at_hand()
    if weights is not None:
        groups = [dict(weights)]
        assert all((memory == key(layer, expert)).all() for expert, memory in weights.items())
    else:
        groups = []
        for group in ticket.arrivals():
            for expert, memory in group.items():
                assert (memory == key(layer, expert)).all(), (layer, expert)
            groups.append(dict(group))
    assert sorted(expert for group in groups for expert in group) == sorted(ids)


def expect(source: StreamedExperts, layer: int, ids: Collection[int]) -> None:
    """Tell of a guess whose reads are worth it."""
    for is_correction in (False, True):
        source.foresight._window_s[True, 1, is_correction] = 1.0
    source.foresight.read_s = 1e-3
    source.expect(layer, 1, np.array([list(ids)], np.int32), np.full((1, len(ids)), 0.5, np.float32))


def in_memory(source: StreamedExperts, layer: int) -> set[int]:
    return {expert for expert in range(EXPERTS) if source.places.slot_of[key(layer, expert)] != NOBODY}


CHOICES = st.lists(st.integers(0, EXPERTS - 1), min_size=K, max_size=K, unique=True)
PLACED = st.sampled_from(LAYERS)


class Bookkeeping(RuleBasedStateMachine):
    """Layers ask, guess and fail in any order, over any number of places, on a disk of any speed."""

    @initialize(count=st.integers(2, 18), pins=st.sets(st.integers(0, EXPERTS - 1), max_size=3))
    def open(self, count: int, pins: set[int]) -> None:
        # As `load` sees to it, beside what stays there is room for the experts of two layers.
        self.pins = pins if len(pins) + 2 * K <= count else set()
        self.source, self.reader = by_hand(count, {2: self.pins})
        self.uses = 0
        self.seen_pins: set[int] = set()

    @rule(layer=PLACED, ids=CHOICES)
    def ask(self, layer: int, ids: list[int]) -> None:
        use(self.source, layer, ids)
        self.uses += len(ids)
        if layer == 2:
            self.seen_pins |= self.pins.intersection(ids)

    @rule(layer=PLACED, ids=CHOICES)
    def guess(self, layer: int, ids: list[int]) -> None:
        expect(self.source, layer, ids)

    @rule(layer=PLACED, ids=CHOICES, guessed=CHOICES)
    def ask_and_guess_meanwhile(self, layer: int, ids: list[int], guessed: list[int]) -> None:
        ticket = self.source.request(layer, np.array([ids], np.int32))
        self.uses += len(ids)
        if ticket.at_hand() is None:
            expect(self.source, LAYERS[(LAYERS.index(layer) + 1) % len(LAYERS)], guessed)
            seen = [expert for group in ticket.arrivals() for expert in group]
            assert sorted(seen) == sorted(ids)
            if layer == 2:
                self.seen_pins |= self.pins.intersection(ids)

    @rule(layer=PLACED, ids=CHOICES)
    def ask_and_let_go(self, layer: int, ids: list[int]) -> None:
        ticket = self.source.request(layer, np.array([ids], np.int32))
        self.uses += len(ids)
        if ticket.at_hand() is None:
            arrivals = ticket.arrivals()
            next(arrivals)
            arrivals.close()

    @rule(count=st.integers(1, 4))
    def the_disk_goes_on(self, count: int) -> None:
        self.reader.end(count)

    @rule()
    def the_disk_begins(self) -> None:
        self.reader.begin()

    @rule(count=st.integers(1, 4))
    def the_disk_fails(self, count: int) -> None:
        """What it was asked to read ahead; who needs that must hear of it, or read it again."""
        self.reader.end(count, fails=True)
        lost = {done.tag for done in self.reader.done if done.error is not None}
        for layer in LAYERS:
            ids = [number % EXPERTS for number in lost if number // EXPERTS == LAYERS.index(layer)][:K]
            if ids:
                self.uses_that_fail(layer, ids)
                return

    def uses_that_fail(self, layer: int, ids: list[int]) -> None:
        before = self.source.counters.uses
        with pytest.raises(
            CheckpointError, match=rf"of layer {layer} could not be read: the disk is on fire"
        ):
            use(self.source, layer, ids)
        assert not self.source._in_flight
        self.uses += self.source.counters.uses - before

    @precondition(lambda self: hasattr(self, "source"))
    @invariant()
    def all_is_in_order(self) -> None:
        check(self.source)
        assert self.source.counters.uses == self.uses
        assert self.seen_pins <= in_memory(self.source, 2)


Bookkeeping.TestCase.settings = settings(max_examples=60, stateful_step_count=30, derandomize=True)
TestBookkeeping = Bookkeeping.TestCase


# ---------------------------------------------------------------------- what happens when


def test_what_is_there_is_given_at_once_and_what_is_not_in_order() -> None:
    source, _ = by_hand(4)
    use(source, 1, [0, 1])
    ticket = source.request(1, np.array([[0, 2]], np.int32))
    assert ticket.at_hand() is None
    first, second = ticket.arrivals()
    assert (list(first), list(second)) == ([0], [2])
    assert source.request(1, np.array([[0, 2]], np.int32)).at_hand() is not None
    counts = source.counters
    assert (counts.pinned, counts.cached, counts.prefetched, counts.missed) == (0, 3, 0, 3)
    assert source.missed.tolist() == [3, 0, 0]
    assert source.asked.tolist() == [6, 0, 0]


def test_wrong_guesses_that_fill_all_the_room_are_waited_for() -> None:
    source, reader = by_hand(8, {1: [0, 1, 2, 3]})
    use(source, 1, [0, 1])
    use(source, 1, [2, 3])
    expect(source, 2, [0, 1, 2, 3])
    reader.begin()  # too late to cancel them
    assert len(source._in_flight) == 4
    use(source, 2, [4, 5])
    check(source)


def test_a_right_guess_is_no_miss_and_is_urgent_once_it_is_needed() -> None:
    source, reader = by_hand(8)
    expect(source, 2, [3, 4])
    assert reader.urgent == []
    ticket = source.request(2, np.array([[3, 4]], np.int32))
    assert sorted(reader.urgent) == [key(2, 3), key(2, 4)]
    list(ticket.arrivals())
    counts = source.counters
    assert (counts.prefetched, counts.missed, counts.unused_bytes) == (2, 0, 0)


def test_a_wrong_guess_is_dropped_before_it_begins() -> None:
    source, reader = by_hand(8)
    expect(source, 2, [3, 4])
    use(source, 2, [0, 1])
    assert reader.reads == 2
    assert in_memory(source, 2) == {0, 1}


def test_a_wrong_guess_that_was_read_counts_as_unused_when_it_leaves() -> None:
    source, reader = by_hand(4)
    expect(source, 2, [3, 4])
    reader.end(2)
    for ids in ([0, 1], [2, 5], [0, 1]):
        use(source, 2, ids)
        use(source, 4, ids)
    assert source.counters.unused_bytes == 16
    assert source.counters.prefetched == 0


def test_a_second_guess_drops_what_only_the_first_one_asked_for() -> None:
    source, reader = by_hand(8)
    expect(source, 2, [3, 4])
    expect(source, 2, [4, 5])
    assert set(reader.waiting) == {key(2, 4), key(2, 5)}
    use(source, 2, [4, 5])
    assert reader.reads == 2
    assert in_memory(source, 2) == {4, 5}


def test_a_guess_that_fails_hurts_nobody_who_does_not_need_it() -> None:
    source, reader = by_hand(8)
    expect(source, 2, [3, 4])
    reader.end(2, fails=True)
    use(source, 2, [0, 1])
    check(source)
    use(source, 2, [3, 4])  # it is read again


def test_pins_never_leave_once_they_are_there() -> None:
    source, _ = by_hand(6, {1: [0, 5]})
    use(source, 1, [0, 5])
    for _ in range(4):
        for layer in LAYERS:
            for ids in ([1, 2], [3, 4]):
                use(source, layer, ids)
                assert in_memory(source, 1) >= {0, 5}
    before = source.counters
    use(source, 1, [0, 5])
    assert source.counters.since(before).pinned == 2


def test_what_is_preferred_stays_before_its_equals_and_leaves_for_what_is_used_again_and_again() -> None:
    for preferred in (0, 1):
        source, _ = by_hand(6, prefers={1: [preferred]})
        use(source, 1, [0, 1])
        use(source, 2, [3, 4])
        use(source, 4, [1, 2])
        use(source, 1, [2])
        assert in_memory(source, 1) == {preferred, 2}
        before = source.counters
        use(source, 1, [preferred])
        assert source.counters.since(before).pinned == 1
        for _ in range(40):
            for layer in LAYERS:
                for ids in ([2, 3], [4, 5]):
                    use(source, layer, ids)
        assert preferred not in in_memory(source, 1)


def test_half_of_the_places_at_most_are_read_ahead_into() -> None:
    for places in (2, 3, 4, 6):
        source, reader = by_hand(places)
        expect(source, 2, range(EXPERTS))
        assert len(reader.waiting) == places // 2


def test_prompts_leave_what_decoding_uses() -> None:
    """As many places as decoding needs and some for what passes through; the prompt uses everything."""
    rng = np.random.default_rng(3)
    source, _ = by_hand(3 * K + EXPERTS - K)
    working_set = {layer: [0, 1] for layer in LAYERS}
    for _ in range(20):
        for layer, ids in working_set.items():
            use(source, layer, ids)
    for layer in LAYERS:  # a prompt of 256 tokens, which touches every expert of every layer
        ids = np.stack([rng.choice(EXPERTS, K, replace=False) for _ in range(256)]).astype(np.int32)
        seen = [e for group in source.request(layer, ids).arrivals() for e in group]
        assert sorted(seen) == list(range(EXPERTS))
    before = source.counters
    for layer, ids in working_set.items():
        use(source, layer, ids)
    assert source.counters.since(before).missed == 0


def test_a_prompt_of_all_experts_reads_each_once_through_few_places() -> None:
    source, reader = by_hand(2)
    ids = np.array([[e, (e + 1) % EXPERTS] for e in range(EXPERTS)] * 10, np.int32)
    assert sorted(e for g in source.request(1, ids).arrivals() for e in g) == list(range(EXPERTS))
    assert reader.reads == EXPERTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("residency") / "v3"
    write_tiny_checkpoint(home, "v3")
    return home


@pytest.fixture(scope="module")
def expected(folder: Path) -> np.ndarray:
    return scores(load_model(folder), IDS, 4, 8)


# ---------------------------------------------------------------------- what is read ahead


RECORD = 3 * 4096


def decoded(model: Model, source: StreamedExperts) -> StreamCounters:
    """What becomes of experts over many decoded tokens, when speeds are known."""
    cache, rng = model.new_cache(), np.random.default_rng(8)
    before = source.counters
    for number in range(40):
        if number == 10:
            before = source.counters
        model.forward(rng.integers(0, 250, 1), cache, absorbed=True)
        check(source)
    return source.counters.since(before)


class KnownSpeeds(Foresight):
    """Believes what the test says of the disk and the layers, whatever else the machine does meanwhile."""

    def __init__(self, layer_s: float, read_s: float) -> None:
        super().__init__()
        self.layer_s = layer_s
        self.read_s = read_s

    def window_s(self, kind: Hashable) -> float:
        return self.layer_s

    def note_read(self, seconds: float) -> None:
        assert seconds >= 0


def test_where_a_read_takes_longer_than_a_layer_nothing_is_read_ahead(folder: Path) -> None:
    model, source = streamed(folder, 12)
    source.foresight = KnownSpeeds(layer_s=1e-4, read_s=2e-3)
    counts = decoded(model, source)
    assert counts.missed > 20
    assert (counts.prefetched, counts.unused_bytes) == (0, 0)


def test_where_a_layer_takes_longer_than_a_read_much_is_read_ahead(folder: Path) -> None:
    model, source = streamed(folder, 12)
    source.foresight = KnownSpeeds(layer_s=2e-3, read_s=1e-4)
    counts = decoded(model, source)
    assert counts.prefetched > counts.missed / 4


def test_speeds_are_measured_as_it_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower bounds only: a busy machine makes all of it slower, never faster."""
    fetch = python_reader._fetch

    def slow_read(*arguments: Any) -> int:
        time.sleep(2e-3)
        return fetch(*arguments)

    def slow_layer(x: Any, residual: Any, *rest: Any) -> Any:
        time.sleep(3e-3)
        return attention(x, residual, *rest)

    monkeypatch.setattr(python_reader, "_fetch", slow_read)
    ops = select.select().ops
    attention = ops.mla_decode
    model, source = streamed(
        folder, 12, wrap=lambda _: PythonReader(threads=1), ops=replace(ops, mla_decode=slow_layer)
    )
    decoded(model, source)
    assert source.foresight.read_s > 2e-3
    windows = [source.foresight.window_s(Kind(True, distance, False)) for distance in (1, 2)]
    assert windows[0] > 2.5e-3
    assert windows[1] == 0 or windows[1] > 2.5e-3


# ---------------------------------------------------------------------- nobody wants it any more


class Cancelled:
    """Operations that compute some groups of experts, and then nobody wants the step."""

    def __init__(self, groups: int) -> None:
        self.groups, self.computed, self.experts = groups, 0, 0
        self.operations = select.select().ops
        self.ops = replace(self.operations, expert_answers=self.expert_answers)

    def is_unwanted(self) -> bool:
        return self.computed >= self.groups

    def expert_answers(self, x: Any, ids: Any, experts: Any, answers: Any) -> None:
        self.computed += 1
        self.experts += len(experts)
        self.operations.expert_answers(x, ids, experts, answers)


def stopped(model: Model, cancelled: Cancelled) -> LatentCache:
    """Begins a prompt that is given up; the sequence that it was to be."""
    cache = model.new_cache()
    segment = Segment(np.array(IDS), cache, absorbed=False)
    with pytest.raises(Unwanted):
        model.step([segment], is_unwanted=cancelled.is_unwanted)
    return cache


@pytest.mark.parametrize("slots", [2, 5])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_a_layer_that_nobody_wants_stops_between_two_groups(
    folder: Path, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch, slots: int, groups: int
) -> None:
    fetch = python_reader._fetch

    def slow_read(*arguments: Any) -> int:
        time.sleep(2e-3)
        return fetch(*arguments)

    monkeypatch.setattr(python_reader, "_fetch", slow_read)
    cancelled = Cancelled(groups)
    reader = PythonReader(threads=1)
    model, source = streamed(folder, slots, wrap=lambda _: reader, ops=cancelled.ops)
    cache = stopped(model, cancelled)
    assert cancelled.computed == groups
    assert cache.length == 0
    check(source)
    assert not any(source.places.is_needed(key) for key in source.in_memory)
    reader.drain()
    # Nothing was read that had not had a place when the layer was given up.
    assert source.counters.reads <= cancelled.experts + slots
    cancelled.groups = sys.maxsize
    np.testing.assert_array_equal(scores(model, IDS, 4, 8), expected)
    check(source)


def test_reads_that_have_not_begun_are_cancelled_with_their_layer() -> None:
    source, reader = by_hand(4)
    arrivals = (ticket := source.request(1, np.array([[0, 1, 2, 3, 4]], np.int32))).arrivals()
    next(arrivals)  # one has been read, three are on their way, one waits for room
    begun = set(reader.begun)
    ticket.give_up()
    assert set(source._in_flight) == begun
    assert not reader.waiting
    use(source, 1, [5, 4])
    use(source, 2, [0, 1])
    arrivals.close()
    check(source)
    use(source, 1, [3, 2])


def test_experts_in_memory_are_given_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residency, "MOST_AT_ONCE", 2)
    source, _ = by_hand(6)
    use(source, 1, [0, 1, 2, 3, 4])
    groups = [list(group) for group in source.request(1, np.arange(6, dtype=np.int32)[None]).arrivals()]
    assert [len(group) for group in groups] == [2, 2, 1, 1]  # the last was on disk
    assert sorted(expert for group in groups for expert in group) == list(range(6))


# ---------------------------------------------------------------------- Ctrl-C, anywhere

Line: TypeAlias = tuple[str, int]


class Interruption:
    """Raises KeyboardInterrupt as Ctrl-C would: when a line of some modules is to run for the n-th time."""

    def __init__(self, modules: Collection[str], line: Line = ("", 0), time: int = 0) -> None:
        self.modules, self.line, self.time = modules, line, time
        self.seen: Counter[Line] = Counter()

    def __enter__(self) -> Interruption:
        self.before = sys.gettrace()
        sys.settrace(self.call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self.before)

    def call(self, frame: FrameType, event: str, argument: object) -> Callable[..., object] | None:
        return self.step if frame.f_code.co_filename in self.modules else None

    def step(self, frame: FrameType, event: str, argument: object) -> Callable[..., object] | None:
        if event == "line":
            line = Path(frame.f_code.co_filename).name, frame.f_lineno
            self.seen[line] += 1
            if line == self.line and self.seen[line] == self.time:
                raise KeyboardInterrupt
        return self.step


@pytest.mark.parametrize("slots", [3, 20])
@pytest.mark.parametrize("module", [residency, native_reader])
def test_interrupted_at_any_line_it_goes_on(
    folder: Path, expected: np.ndarray, module: ModuleType, slots: int
) -> None:
    model, source = streamed(folder, slots)
    with Interruption({module.__file__}) as whole:
        scores(model, IDS, 4, 8)
    for number, (line, times) in enumerate(sorted(whole.seen.items())):
        with Interruption({module.__file__}, line, 1 + number % times), suppress(KeyboardInterrupt):
            scores(model, IDS, 4, 8)
        check(source)
        found = scores(model, IDS[:4], 4, 4)
        np.testing.assert_array_equal(found, expected[:4], err_msg=f"after {line}")
        check(source)
    np.testing.assert_array_equal(scores(model, IDS, 4, 8), expected)


def test_interrupted_while_it_gives_up_it_goes_on(folder: Path, expected: np.ndarray) -> None:
    cancelled = Cancelled(1)
    model, source = streamed(folder, 5, ops=cancelled.ops)
    begin = StreamedExperts.give_up.__code__.co_firstlineno
    own = range(begin + 1, max(line for *_, line in StreamedExperts.give_up.__code__.co_lines() if line) + 1)
    with Interruption({residency.__file__}) as whole:
        stopped(model, cancelled)
    lines = [line for line in sorted(whole.seen) if line[1] in own]
    assert len(lines) == 4
    for line in lines:
        cancelled.computed, cancelled.groups = 0, 1
        with Interruption({residency.__file__}, line, 1), pytest.raises(KeyboardInterrupt):
            stopped(model, cancelled)
        cancelled.groups = sys.maxsize
        check(source)
        np.testing.assert_array_equal(scores(model, IDS, 4, 8), expected, err_msg=f"after {line}")
        check(source)


@pytest.mark.parametrize("after", range(0, 12, 3))
def test_an_error_while_an_expert_computes_is_nobody_elses(
    folder: Path, expected: np.ndarray, after: int
) -> None:
    """The error may be kept, and with it the step that it ended, while other steps run."""
    calls = count()

    def fails(x, ids, experts, answers):
        if next(calls) == after:
            raise MemoryError("no room for answers")
        ops.expert_answers(x, ids, experts, answers)

    ops = select.select().ops
    model, source = streamed(folder, 5, ops=replace(ops, expert_answers=fails))
    with pytest.raises(MemoryError) as kept:
        scores(model, IDS, 4, 8)
    ticket = source.request(1, np.arange(8, dtype=np.int32).reshape(2, 4))
    arrivals = ticket.arrivals()
    first = next(arrivals)
    del kept  # and with it the step
    gc.collect()
    seen = [*first, *(expert for group in arrivals for expert in group)]
    assert sorted(seen) == list(range(8))
    check(source)
    np.testing.assert_array_equal(scores(model, IDS, 4, 8), expected)


def test_a_second_ctrl_c_while_starting_over_leaves_it_to_the_next_request(
    folder: Path, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, source = streamed(folder, 20)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(source, "_collect", interrupted)
        patched.setattr(source._reader, "drain", interrupted)
        with pytest.raises(KeyboardInterrupt):
            scores(model, IDS, 4, 8)
    np.testing.assert_array_equal(scores(model, IDS, 4, 8), expected)
    check(source)
