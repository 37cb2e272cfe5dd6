"""`timeline_of`: what became of the experts of a streamed model over time, from the events of a trace.

Time is cut into few pieces, so that a report of a long trace is no longer than that of a short one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from araio.traces.columns import CacheEvent
from araio.traces.trace import Trace

__all__ = ["timeline_of"]

MOST_PIECES = 200


def timeline_of(trace: Trace) -> dict[str, Any] | None:
    """Hits, misses and bytes read by layer and piece of time; None without events.

    starts        (P,) token, in the order in which they ran, with which each piece begins
    hits, misses  (L, P); read (P,) bytes, prefetched ones too
    running       (P,) hit rate from the beginning to the end of the piece; null before the first choice
    """
    events = trace.cache_events
    if events is None or not len(events.t):
        return None
    layers, row = np.unique(events.layer, return_inverse=True)
    step = max(1, -(-trace.tokens // MOST_PIECES))
    pieces = -(-trace.tokens // step)
    place = np.minimum(events.t // step, pieces - 1)

    def counted(kind: CacheEvent) -> npt.NDArray[np.int64]:
        chosen = events.kind == kind
        flat = np.bincount(row[chosen] * pieces + place[chosen], minlength=len(layers) * pieces)
        return flat.reshape(len(layers), pieces)

    hits, misses = counted(CacheEvent.HIT), counted(CacheEvent.MISS)
    is_read = np.isin(events.kind, [CacheEvent.MISS, CacheEvent.PREFETCH])
    read = np.bincount(place[is_read], events.bytes[is_read], minlength=pieces).astype(np.int64)
    found, all_asked = np.cumsum(hits.sum(0)), np.cumsum((hits + misses).sum(0))
    running = [
        None if not asked else round(int(hit) / int(asked), 4)
        for hit, asked in zip(found, all_asked, strict=True)
    ]
    return {
        "tokens": trace.tokens,
        "step": step,
        "layers": layers.tolist(),
        "starts": (np.arange(pieces) * step).tolist(),
        "hits": hits.tolist(),
        "misses": misses.tolist(),
        "read": read.tolist(),
        "running": running,
        "hit_rate": running[-1],
        "bytes": int(read.sum()),
    }
