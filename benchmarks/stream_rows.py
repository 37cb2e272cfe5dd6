"""The rows of `stream.py` from what was measured: medians of the rounds, and how near they are to limits."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stream_turns import Measured, Turn

from araio.testing.turns import Row, spread_of

__all__ = ["Round", "best_speed", "rows_of"]


@dataclass(frozen=True)
class Round:
    """What the engines did one after the other under one limit.

    turns    by engine: `araio`, and perhaps `peer`
    ceiling  bytes per second of records at random, before and after araio's turn
    slots    experts that had room in araio's memory
    """

    turns: Mapping[str, Turn]
    ceiling: float
    slots: int


def rows_of(
    rounds: Mapping[float, Sequence[Round]],
    computed: Mapping[str, float],
    misses: Mapping[tuple[float, str], float],
    record_bytes: int,
) -> list[Row]:
    """Every row of every share of memory.

    computed  tokens per second of each text, with all weights in memory
    misses    reads a token that are the least possible, of each share and text
    """
    rows = []
    for share, some in rounds.items():
        ceilings = [one.ceiling for one in some]
        rows.append(_row(f"{share:.0%}: reading records", "bytes/s", ceilings, None, []))
        for name in some[0].turns["araio"].decoded:
            ours = [one.turns["araio"].decoded[name] for one in some]
            theirs = [one.turns["peer"].decoded[name] for one in some if "peer" in one.turns]
            limits = [best_speed(computed[name], misses[share, name] * record_bytes, one) for one in ceilings]
            at = f"{share:.0%}: {name}, "
            rows.append(_speeds(at + "decode", ours, theirs, limits))
            read = [one.bytes / one.seconds for one in ours]
            rows.append(_row(at + "disk", "bytes/s", read, None, ceilings))
            rows.append(_reads(at + "read a token", ours, theirs))
        ours = [one.turns["araio"].prompt for one in some]
        theirs = [one.turns["peer"].prompt for one in some if "peer" in one.turns]
        rows.append(_speeds(f"{share:.0%}: prefill {ours[0].tokens}", ours, theirs, []))
    return rows


def best_speed(computed: float, token_bytes: float, ceiling: float) -> float:
    """Tokens per second at most: of computing alone and reading alone, the slower."""
    return min(computed, ceiling / token_bytes) if token_bytes else computed


def _speeds(name: str, ours: Sequence[Measured], theirs: Sequence[Measured], limits: Sequence[float]) -> Row:
    speeds = [one.speed for one in ours]
    return _row(name, "tok/s", speeds, [one.speed for one in theirs] or None, limits)


def _reads(name: str, ours: Sequence[Measured], theirs: Sequence[Measured]) -> Row:
    """Bytes of the disk for a token."""
    values = [one.bytes / one.tokens for one in ours]
    peers = [one.bytes / one.tokens for one in theirs]
    return _row(name, "bytes", values, peers or None, [])


def _row(
    name: str, unit: str, values: Sequence[float], peers: Sequence[float] | None, limits: Sequence[float]
) -> Row:
    value = statistics.median(values)
    peer = statistics.median(peers) if peers else None
    # Fewer bytes are better, more of everything else.
    pairs = list(zip(values, peers or [], strict=False))
    ratios = [other / one if unit == "bytes" else one / other for one, other in pairs if one and other]
    limit = statistics.median(limits) if limits else None
    shares = [one / most for one, most in zip(values, limits, strict=False)]
    return Row(
        name=name,
        value=value,
        unit=unit,
        low=min(values),
        high=max(values),
        spread=spread_of(values) if min(values) else 1.0,
        peer=peer,
        ratio=statistics.median(ratios) if ratios else None,
        ratio_low=min(ratios, default=None),
        ratio_high=max(ratios, default=None),
        limit=limit,
        fraction_of_limit=statistics.median(shares) if shares else None,
    )
