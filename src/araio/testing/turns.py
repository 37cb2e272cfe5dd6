"""Engines in turns: the same work timed again and again, one engine after the other, memory between them.

A busy neighbour or a change of the clock then hits all alike, and a ratio means more than its two figures. A
speed is the median of the rounds. It measures any `Engine`: `timer.ModelTimer`, or another program behind the
same three methods. Read `machine.py` for the speed of reading memory, which is the limit here.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from araio.meters.energy import Energy
from araio.testing.machine import read_bandwidth

__all__ = ["Case", "Engine", "OnTurn", "Row", "measure", "thread_count"]

OnTurn = Callable[[str, int, int], None]
"""Called before each turn: what is measured, the turns that are done, and how many there are."""

LastEnergy = Callable[[], Energy | None]
"""Gives the energy of the latest run, if somebody metered it."""

READS = 3  # of memory at every turn; the median over all turns counts


class Engine(Protocol):
    """What is timed. Every method gives seconds."""

    threads: int

    def prefill(self, tokens: int) -> float:
        """A prompt of `tokens`, up to the logits of its last."""

    def decode(self, tokens: int, context: int = 0) -> float:
        """`tokens` tokens, one by one, with logits each, after `context` cached ones."""

    def decode_together(self, sequences: int, tokens: int) -> float:
        """`tokens` steps in each of which `sequences` sequences are given a token."""


@dataclass(frozen=True)
class Case:
    """Something to time.

    tokens       that one run makes or reads
    run          one run, in seconds
    token_bytes  of memory that every token reads anew; None where reading memory is no limit
    """

    name: str
    tokens: int
    run: Callable[[Engine], float]
    token_bytes: int | None = None


@dataclass(frozen=True)
class Row:
    """One speed, the median of the rounds.

    low, high             the slowest and the fastest round
    peer                  the other engine's speed in the same rounds; `ratio` is value over peer, between
                          `ratio_low` and `ratio_high` in single rounds
    limit                 what the speed of reading memory allows
    joules_per_token      the median of the rounds, by `joules_method`; None where nobody metered
    joules_low            the lowest bound of any round, per token; `joules_high` the highest
    idle_joules           per token, what the machine would have drawn doing nothing
    grams_co2e            per token, by the grid that a report states
    """

    name: str
    value: float
    unit: str
    low: float
    high: float
    peer: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    limit: float | None = None
    fraction_of_limit: float | None = None
    joules_per_token: float | None = None
    joules_low: float | None = None
    joules_high: float | None = None
    idle_joules: float | None = None
    joules_method: str | None = None
    grams_co2e: float | None = None


def measure(
    engine: Engine,
    cases: Sequence[Case],
    threads: Sequence[int],
    rounds: int,
    peer: Engine | None = None,
    on_turn: OnTurn | None = None,
    last_energy: LastEnergy = lambda: None,
) -> list[Row]:
    """Every case with every number of threads, and the speed of reading memory with as many.

    cases        the first should be the longest prompt: no memory is new to those behind it
    last_energy  of `engine`, asked behind each of its runs
    """
    progress = _Progress(len(threads) * len(cases) * (rounds + 1), on_turn)
    rows = []
    for count in threads:
        for one in (engine, peer):
            if one is not None:
                one.threads = count
        suffix = f", {thread_count(count)}"
        all_bandwidth: list[float] = []
        of_cases = []
        for case in cases:
            name = case.name + suffix
            turns = _take_turns(engine, peer, case, count, rounds, partial(progress.step, name), last_energy)
            all_bandwidth += turns.bandwidth
            of_cases.append(_row(name, case, turns))
        slow, fast = min(all_bandwidth), max(all_bandwidth)
        rows.append(Row(f"reading memory{suffix}", statistics.median(all_bandwidth), "bytes/s", slow, fast))
        rows += of_cases
    return rows


def thread_count(threads: int) -> str:
    """`1 thread`, `2 threads`."""
    return f"{threads} thread{'s' if threads > 1 else ''}"


class _Progress:
    def __init__(self, total: int, on_turn: OnTurn | None) -> None:
        self._done, self._total, self._on_turn = 0, total, on_turn

    def step(self, name: str) -> None:
        if self._on_turn is not None:
            self._on_turn(name, self._done, self._total)
        self._done += 1


@dataclass(frozen=True)
class _Turns:
    """Seconds of both engines and bytes per second of memory, round after round."""

    ours: list[float]
    theirs: list[float]
    bandwidth: list[float]
    energy: list[Energy]


def _take_turns(
    engine: Engine,
    peer: Engine | None,
    case: Case,
    threads: int,
    rounds: int,
    before: Callable[[], None],
    last_energy: LastEnergy,
) -> _Turns:
    """One more round than is kept: the first only warms up."""
    turns = _Turns([], [], [], [])
    for turn in range(rounds + 1):
        before()
        own = case.run(engine)
        energy = last_energy()
        other = case.run(peer) if peer is not None else None
        if turn == 0:
            continue
        turns.ours.append(own)
        if energy is not None:
            turns.energy.append(energy)
        turns.bandwidth.append(read_bandwidth(threads, READS))
        if other is not None:
            turns.theirs.append(other)
    return turns


def _row(name: str, case: Case, turns: _Turns) -> Row:
    ours, theirs = turns.ours, turns.theirs
    speed = case.tokens / statistics.median(ours)
    ratios = [other / own for own, other in zip(ours, theirs, strict=False)]  # none without a peer
    limit = statistics.median(turns.bandwidth) / case.token_bytes if case.token_bytes else None
    return Row(
        name=name,
        value=speed,
        unit="tok/s",
        low=case.tokens / max(ours),
        high=case.tokens / min(ours),
        peer=case.tokens / statistics.median(theirs) if theirs else None,
        ratio=statistics.median(theirs) / statistics.median(ours) if theirs else None,
        ratio_low=min(ratios, default=None),
        ratio_high=max(ratios, default=None),
        limit=limit,
        fraction_of_limit=speed / limit if limit else None,
        **_per_token(turns.energy, case.tokens),
    )


def _per_token(energies: Sequence[Energy], tokens: int) -> dict[str, Any]:
    """The fields of a row that say what a token took."""
    if not energies:
        return {}
    idle = [energy.idle_joules for energy in energies if energy.idle_joules is not None]
    return {
        "joules_per_token": statistics.median(energy.joules for energy in energies) / tokens,
        "joules_low": min(energy.low for energy in energies) / tokens,
        "joules_high": max(energy.high for energy in energies) / tokens,
        "idle_joules": statistics.median(idle) / tokens if idle else None,
        "joules_method": energies[0].method,
    }
