"""The rows of `serve.py` from what clients saw: medians of the rounds, and how often as good as the peer."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from serve_clients import Answered

from araio.testing.turns import Row, spread_of

__all__ = ["Figures", "figures_of", "rows_of"]

Figures = Mapping[str, float]
"""What one engine gave in one turn, by name; those in `ms` are better when they are lower."""

UNITS = {
    "total tokens": "tok/s",
    "output tokens": "tok/s",
    "TTFT": "ms",
    "TTFT, 95 of 100": "ms",
    "ITL": "ms",
    "ITL, 95 of 100": "ms",
    "TPOT": "ms",
}


def figures_of(answers: Sequence[Answered]) -> Figures:
    """Throughput of all that was asked at a time, from the first request to the last token, and latencies."""
    seconds = max(one.arrivals[-1] for one in answers) - min(one.begun for one in answers)
    output = sum(one.tokens for one in answers)
    ttft = [one.ttft for one in answers]
    itl = [gap for one in answers for gap in one.itl]
    return {
        "total tokens": (output + sum(one.prompt_tokens for one in answers)) / seconds,
        "output tokens": output / seconds,
        "TTFT": 1e3 * statistics.median(ttft),
        "TTFT, 95 of 100": 1e3 * float(np.percentile(ttft, 95)),
        "ITL": 1e3 * statistics.median(itl),
        "ITL, 95 of 100": 1e3 * float(np.percentile(itl, 95)),
        "TPOT": 1e3 * statistics.median(one.tpot for one in answers),
    }


def rows_of(clients: int, ours: Sequence[Figures], theirs: Sequence[Figures]) -> list[Row]:
    """A row for each figure; `theirs` is empty where nobody was compared with."""
    who = f"{clients} client{'s' if clients > 1 else ''}"
    return [_row(f"{who}: {name}", name, ours, theirs) for name in UNITS]


def _row(title: str, name: str, ours: Sequence[Figures], theirs: Sequence[Figures]) -> Row:
    values, peers = [one[name] for one in ours], [one[name] for one in theirs]
    unit = UNITS[name]
    # Of two waits the shorter is better, of two speeds the higher; a ratio above 1 is better in both.
    ratios = [other / own if unit == "ms" else own / other for own, other in zip(values, peers, strict=False)]
    return Row(
        name=f"{title}, {unit}",
        value=statistics.median(values),
        unit=unit,
        low=min(values),
        high=max(values),
        spread=spread_of(values),
        peer=statistics.median(peers) if peers else None,
        ratio=statistics.median(ratios) if ratios else None,
        ratio_low=min(ratios, default=None),
        ratio_high=max(ratios, default=None),
    )
