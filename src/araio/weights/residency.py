"""`StreamedExperts`: an `ExpertSource` with fewer places in memory than experts; the rest is on disk.

    request   what a layer needs: what is in memory is given at once, reads begin for the rest
    arrivals  gives what is there while the rest arrives; once it is used, its place may go to another
    give_up   nobody waits any more: reads that have not begun are cancelled
    expect    what the next layer may need: read in the time that is left, behind what is needed for certain

All bookkeeping is done by the thread that runs the model; the reader's threads only fill places that nobody
looks at. Who lies where is in `places.py`, who leaves when room is needed is the choice of `policies.py`, how
much is worth reading ahead is that of `foresight.py`. Whatever happens here changes when an expert is there,
never what it is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import numpy.typing as npt

from araio.disk.reader import Done, Reader
from araio.errors import CheckpointError
from araio.kernels.ops import Int32Array
from araio.nn.experts import ExpertWeights
from araio.tensors import Float32Array
from araio.traces import CacheEvent
from araio.weights.cache_events import CacheEventLog
from araio.weights.counters import StreamCounters
from araio.weights.expert_files import ExpertFiles
from araio.weights.foresight import Foresight
from araio.weights.guesses import Guesses, Kind
from araio.weights.places import FORESEEN, NEEDED, NOBODY, Keys, Places
from araio.weights.policies import Policy, uses_of
from araio.weights.pressure import Pressure
from araio.weights.slots import Slots
from araio.weights.tickets import AtHand, Awaited

__all__ = ["StreamedExperts"]

# More reads than this at a time do not make a disk faster, and each takes a place that could hold an expert.
MOST_IN_FLIGHT = 16

# Experts that are given together. Their places can be read into when all of them are used, and between two
# groups a layer may be stopped; many make better use of threads.
MOST_AT_ONCE = 16


class StreamedExperts:
    """The experts of all layers.

    files     where they lie; `reader` has opened `files.paths` in their order
    slots     memory for some of them; two places are enough
    layers    with routed experts, in the order in which a step asks for them; each has so many `experts`
    pins      experts by layer that never leave once they are there
    prefers   experts by layer that leave only for what is clearly more likely to be used soon
    pressure  says when memory is to be given back; never if None

    foresight  what guesses have been worth
    asked      (layers,) experts that each has asked for
    missed     (layers,) those of them for which it had to begin a read
    events     told of what becomes of which expert, while somebody records it
    """

    def __init__(
        self,
        files: ExpertFiles,
        reader: Reader,
        slots: Slots,
        policy: Policy,
        layers: Sequence[int],
        experts: int,
        pins: Mapping[int, Collection[int]] | None = None,
        prefers: Mapping[int, Collection[int]] | None = None,
        pressure: Pressure | None = None,
    ) -> None:
        self._files, self._reader, self._slots, self.policy = files, reader, slots, policy
        self.layers = list(layers)
        self._base = {layer: place * experts for place, layer in enumerate(layers)}
        self._experts = experts
        keys = len(self.layers) * experts
        self.places = Places(keys, slots.count, self._keys_of(pins), self._keys_of(prefers))
        self._is_checked = np.zeros(keys, np.bool_)
        self._pressure = pressure
        self._in_flight: set[int] = set()
        self._is_sound = True
        self._place = NOBODY  # of the layer that runs
        self._scores: tuple[int, Float32Array] | None = None
        self._counts = StreamCounters()
        self.asked = np.zeros(len(self.layers), np.int64)
        self.missed = np.zeros(len(self.layers), np.int64)
        self.foresight = Foresight()
        self._guesses = Guesses(self.foresight)
        self._timed = reader.counters
        self.events: CacheEventLog | None = None

    def _keys_of(self, by_layer: Mapping[int, Collection[int]] | None) -> list[int]:
        return [self._base[layer] + expert for layer, ids in (by_layer or {}).items() for expert in ids]

    def record_events(self) -> CacheEventLog:
        """Note from now on what becomes of which expert, and where; with the engine's lock held."""
        self.events = CacheEventLog(self.layers, self._experts, self.record_bytes)
        self.places.on_leave = partial(self.events.add, CacheEvent.EVICT)
        return self.events

    def forget_events(self) -> None:
        """Note no more; with the engine's lock held."""
        self.events = self.places.on_leave = None

    @property
    def expert_bytes(self) -> int:
        """That computing with one expert reads."""
        record = self._files.record
        return sum(record.codec.bytes(shape) for shape in record.shapes.values())

    @property
    def record_bytes(self) -> int:
        """That reading one expert reads."""
        return self._files.record.bytes

    @property
    def count(self) -> int:
        """Experts in all."""
        return len(self.places.slot_of)

    @property
    def held(self) -> int:
        """Places for experts, without those whose memory others need."""
        return self.places.count - self.places.lent

    @property
    def lent(self) -> int:
        """Places that are out of use, for others need their memory."""
        return self.places.lent

    @property
    def in_memory(self) -> list[int]:
        """Keys of what is in memory or on its way there."""
        keys: list[int] = np.flatnonzero(self.places.slot_of != NOBODY).tolist()
        return keys

    def is_in_memory(self, layer: int) -> npt.NDArray[np.bool_]:
        """For each expert (E,) of a layer, whether no read would have to begin for it."""
        base = self._base[layer]
        is_here: npt.NDArray[np.bool_] = self.places.slot_of[base : base + self._experts] != NOBODY
        return is_here

    @property
    def reading(self) -> str:
        """How the others are read, in a few words."""
        size = self._files.record.bytes
        how = "past the page cache" if set(self._reader.modes) == {"direct"} else "through the page cache"
        return f"the others read from {self._files.paths[0].parent} {how}, {size / 1e6:.1f} MB each"

    @property
    def counters(self) -> StreamCounters:
        """What has happened so far."""
        read = self._reader.counters
        self._counts.reads, self._counts.read_bytes = read.reads, read.bytes
        self._counts.busy_s = read.busy_seconds
        self._counts.unused_bytes = self.places.unused * self.record_bytes
        return self._counts.copy()

    # ------------------------------------------------------------------ what a layer needs

    def note_scores(self, layer: int, scores: Float32Array) -> None:
        """What the router of a layer thinks (T, E) of its experts, just before it asks for some of them."""
        self._scores = layer, scores

    def request(self, layer: int, expert_ids: Int32Array) -> AtHand | Awaited:
        """Begin reading what is not in memory; see `nn.experts.ExpertSource`."""
        with self._consistent():
            keys = self._begin_layer(layer, expert_ids)
            self._collect(0.0, keys)
            slots = self.places.slot_of[keys]
            is_here = slots != NOBODY
            self.asked[self._place] += len(keys)
            self._count_hits(keys[is_here], slots[is_here])
            self.places.keep(keys, NEEDED)
            if self.events is not None:
                self.events.add(CacheEvent.HIT, keys[is_here & self.places.is_ready[slots]])
            if is_here.all() and self.places.is_ready[slots].all():
                return AtHand(self._experts_of(keys))
            for key in self._in_flight.intersection(keys.tolist()):
                self._reader.promote(key)
            missing = keys[~is_here].tolist()
            self._counts.missed += len(missing)
            self.missed[self._place] += len(missing)
            awaited = Awaited(self, keys.tolist(), missing)
            self._read_more(awaited)
            return awaited

    def arrivals(self, awaited: Awaited) -> Iterator[ExpertWeights]:
        """What a layer needs, as it arrives; see `nn.experts.Ticket`."""
        with self._consistent():
            left = set(awaited.keys)
            ready = [key for key in awaited.keys if self.places.is_here(key)]
            while left:
                if ready:
                    group, ready = ready[:MOST_AT_ONCE], ready[MOST_AT_ONCE:]
                    left.difference_update(group)
                    slots = self.places.slot_of[group]
                    yield self._experts_of(np.array(group))
                    self.places.release(slots)
                    self._read_more(awaited)
                    arrived = self._collect(0.0, left)
                else:
                    assert self._in_flight, "what is waited for is not being read"
                    began_s = time.perf_counter()
                    arrived = self._collect(None, left)
                    self._counts.wait_s += time.perf_counter() - began_s
                    self._read_more(awaited)  # wrong guesses may have had all the room until they were read
                came = [key for key in arrived if key in left]
                ready += came
                if self.events is not None:
                    self.events.add_arrivals(awaited, came)

    def give_up(self) -> None:
        """Nobody wants what a layer waits for; see `nn.experts.Ticket`. What is being read stays."""
        with self._consistent():
            self._guesses.clear()
            self._drop(list(self._in_flight))
            self.places.let_go()

    def _experts_of(self, keys: Keys) -> ExpertWeights:
        """Experts of one layer that are ready, by id."""
        slots = self.places.slot_of[keys].tolist()
        ids = (keys % self._experts).tolist()
        return {expert: self._slots.expert(slot) for expert, slot in zip(ids, slots, strict=True)}

    def _begin_layer(self, layer: int, expert_ids: Int32Array) -> Keys:
        """Let go of what the layer before held, and note what this one uses: distinct keys."""
        place = self._base[layer] // self._experts
        if place <= self._place:  # another step, whether the one before came to its end or not
            self._guesses.clear()
            if self._pressure is not None:
                self._adapt(self._pressure.excess())
        self._place = place
        noted, self._scores = self._scores, None
        ids, weight = uses_of(expert_ids)
        keys: Keys = ids.astype(np.int64) + self._base[layer]
        chosen = set(keys.tolist())
        self._guesses.judge(place, chosen)
        self._drop(self._in_flight - chosen.union(self._guesses.keys()))
        self._time_reads()
        self.places.let_go()
        self.places.keep(self._guesses.keys(), FORESEEN)
        scores = noted[1].mean(axis=0) if noted is not None and noted[0] == layer else None
        self.policy.use(keys, weight, scores)
        return keys

    def _count_hits(self, keys: Keys, slots: Keys) -> None:
        is_unproven = self.places.is_unproven[slots]
        prefetched = int(np.count_nonzero(is_unproven))
        is_kept = self.places.is_pinned[keys] | self.places.is_preferred[keys]
        pinned = int(np.count_nonzero(is_kept & ~is_unproven))
        self._counts.prefetched += prefetched
        self._counts.pinned += pinned
        self._counts.cached += len(keys) - prefetched - pinned
        self.places.is_unproven[slots] = False

    # ------------------------------------------------------------------ reading

    def _read_more(self, awaited: Awaited) -> None:
        """Begin as many of a layer's reads as there is room for."""
        wanted = min(len(awaited.to_read), MOST_IN_FLIGHT - len(self._in_flight))
        if wanted > 0:
            for slot in self.places.make_room(wanted, NEEDED, self.policy):
                self._begin_read(awaited.to_read.popleft(), slot, NEEDED)

    def _begin_read(self, key: int, slot: int, guard: int) -> None:
        source = self._files.find(*self._name(key))
        self.places.settle(key, slot, guard)
        self._in_flight.add(key)
        crc32 = None if self._is_checked[key] else source.crc32
        self._reader.submit(key, self._slots.memory(slot), source.pieces, crc32, urgent=guard == NEEDED)

    def _collect(self, timeout_s: float | None, needed: Collection[int] | Keys) -> list[int]:
        """Note what has arrived and give its keys; blocks until something has, if there is no time limit.

        Raises CheckpointError for a read that failed, if it is of a key that is needed.
        """
        if not self._in_flight:
            return []
        arrived: list[int] = []
        failures: list[Done] = []
        for done in self._reader.wait(timeout_s):
            self._in_flight.discard(done.tag)
            if done.error is None:
                self.places.arrive(done.tag)
                self._is_checked[done.tag] = True
                arrived.append(done.tag)
            else:
                self.places.vacate(done.tag)
                failures.append(done)
        for done in failures:
            # A guess that failed is read again if it is needed, and fails again.
            if done.tag in needed:
                layer, expert = self._name(done.tag)
                what = f"expert {expert} of layer {layer} could not be read: {done.error}"
                raise CheckpointError(what) from done.error
        return arrived

    def _name(self, key: int) -> tuple[int, int]:
        place, expert = divmod(key, self._experts)
        return self.layers[place], expert

    @contextmanager
    def _consistent(self) -> Iterator[None]:
        """Whatever interrupts the bookkeeping, Ctrl-C among them, leaves only what is known to be true."""
        if not self._is_sound:  # starting over was itself interrupted
            self._start_over()
        try:
            yield
        except GeneratorExit:
            # Between two groups all is in order, and whoever holds the traceback of an error that was not
            # ours may let go of us at any time, even while another layer waits.
            raise
        except BaseException:
            self._start_over()
            raise

    def _start_over(self) -> None:
        """Forget every read that is under way, once none is, and keep what is ready."""
        self._is_sound = False
        for key in list(self._in_flight):
            self._reader.cancel(key)
        self._reader.drain()
        self._reader.wait(0.0)
        self._in_flight.clear()
        self._guesses.clear()
        self.places.rebuild()
        self._is_sound = True

    def warm_up(self) -> None:
        """Fill the places with what was worth most when this model last ran."""
        with self._consistent():
            worth = self.policy.lasting()
            best = np.argsort(-worth, kind="stable")[: min(np.count_nonzero(worth), self.places.free)]
            waiting = deque(best.tolist())
            while waiting or self._in_flight:
                for slot in self.places.make_room(
                    min(len(waiting), MOST_IN_FLIGHT - len(self._in_flight)), FORESEEN, self.policy
                ):
                    self._begin_read(waiting.popleft(), slot, NEEDED)
                self._collect(None, ())

    def _adapt(self, excess: int) -> None:
        """Give so many bytes back to the system, or, below zero, take up to so many again."""
        if excess > 0:
            # What is pinned will not leave, and what runs needs room beside it.
            most = max(0, self.held - int(np.count_nonzero(self.places.is_pinned)) - 2 * MOST_IN_FLIGHT)
            wanted = min(-(-excess // self.record_bytes), most)
            for slot in self.places.make_room(wanted, FORESEEN, self.policy):
                self._slots.give_back(slot)
                self.places.lend(slot)
        else:
            self.places.take_back(-excess // self.record_bytes)

    # ------------------------------------------------------------------ what may be needed next

    def is_curious(self, layer: int) -> bool:
        """Whether the layer has experts on disk; see `nn.lookahead.Foreseeing`."""
        return not bool(self.is_in_memory(layer).all())

    def expect(self, layer: int, distance: int, expert_ids: Int32Array, weights: Float32Array) -> bool:
        """Read ahead what is worth it; see `nn.lookahead.Foreseeing`."""
        with self._consistent():
            keys = self._ranked(layer, expert_ids, weights)
            place = self._base[layer] // self._experts
            kind = self._guesses.add(place, len(expert_ids) == 1, distance, keys)
            if kind.is_correction:
                unforeseen = self._in_flight.difference(self._guesses.keys())
                self._drop([key for key in unforeseen if not self.places.is_needed(key)])
            # What is here already must not leave for what is read ahead.
            self.places.keep(keys, FORESEEN)
            wanted = self._worth_reading(kind, keys)
            room = self.places.make_room(len(wanted), FORESEEN, self.policy)
            for key, slot in zip(wanted, room, strict=False):
                self._begin_read(key, slot, FORESEEN)
            if self.events is not None:
                self.events.add(CacheEvent.PREFETCH, np.array(wanted[: len(room)], np.int64))
            return not self._in_flight

    def _ranked(self, layer: int, expert_ids: Int32Array, weights: Float32Array) -> list[int]:
        """Keys of a guess, each once, by the weight that all its tokens together give them."""
        if len(expert_ids) == 1:
            ids: npt.NDArray[np.integer] = expert_ids[0]
        else:
            total = np.bincount(expert_ids.ravel(), weights.ravel(), self._experts)
            ids = np.argsort(-total, kind="stable")[: np.count_nonzero(total)]
        keys: list[int] = (ids.astype(np.int64) + self._base[layer]).tolist()
        return keys

    def _worth_reading(self, kind: Kind, keys: Sequence[int]) -> list[int]:
        """Of a guess, what is on disk and worth it; half of all places at most."""
        under_way = len(self._in_flight)
        most = min(self.places.count // 2, MOST_IN_FLIGHT) - under_way
        wanted: list[int] = []
        for rank, key in enumerate(keys):
            if len(wanted) >= most:
                break
            is_on_disk = self.places.slot_of[key] == NOBODY
            if is_on_disk and self.foresight.is_worth(kind, rank, under_way + len(wanted)):
                wanted.append(key)
        return wanted

    def _drop(self, keys: Collection[int]) -> None:
        """Cancel those reads that have not begun."""
        for key in keys:
            if self._reader.cancel(key):
                self._in_flight.discard(key)
                self.places.vacate(key)

    def _time_reads(self) -> None:
        """How long a read takes, from what has been read since the last time."""
        read, before = self._reader.counters, self._timed
        if read.bytes > before.bytes:
            share = self._files.record.bytes / (read.bytes - before.bytes)
            self.foresight.note_read(share * (read.busy_seconds - before.busy_seconds))
            self._timed = read
