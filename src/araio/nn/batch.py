"""`Batch`: the tokens of one step, of one sequence or of several, side by side.

Everything but attention treats all tokens alike, in one product; attention goes segment by segment. Nothing a
token computes depends on the other segments. Read `attention.py` next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from araio.kernels.ops import Int32Array, IntArray
from araio.nn.kv_cache import LatentCache
from araio.nn.mask import ExpertMask, masks_of
from araio.nn.rope import RotaryEmbedding
from araio.tensors import Float32Array

__all__ = ["Batch", "Routes", "Segment", "Span"]


class Segment(NamedTuple):
    """The next tokens of one sequence.

    ids       (T,)
    cache     the sequence; the tokens continue it
    absorbed  attend in the absorbed form. It differs from the expanded one in the last bits, so what a token
              is must decide, not how many there are: a prompt is expanded, what follows it is absorbed
    mask      the experts that its tokens may use; None for all
    """

    ids: IntArray
    cache: LatentCache
    absorbed: bool
    mask: ExpertMask | None = None


class Routes:
    """What the routers of a step chose: ids (T, K) and weights (T, K), an entry for each routed layer."""

    def __init__(self) -> None:
        self.ids: list[Int32Array] = []
        self.weights: list[Float32Array] = []

    def add(self, ids: Int32Array, weights: Float32Array) -> None:
        """The choice of the next layer."""
        self.ids.append(ids)
        self.weights.append(weights)


class Span(NamedTuple):
    """One segment's rows among those of the step, and the positions that its last row sees."""

    rows: slice
    cache: LatentCache
    length: int
    absorbed: bool


class Batch:
    """What the layers need to know of a step's segments, which all live in one pool.

    ids       (T,) of all segments
    rotation  of each token, by its position
    slots     (T,) where each token's latents go
    routes    gets what each routed layer chooses, if given
    is_decoded  (T,) bool: not of a prompt, but behind it
    masks     rows by the experts that they may use
    """

    def __init__(
        self, segments: Sequence[Segment], rotary: RotaryEmbedding, routes: Routes | None = None
    ) -> None:
        self.routes = routes
        self.pool = segments[0].cache.pool
        self.spans: list[Span] = []
        positions, slots, start = [], [], 0
        for ids, cache, absorbed, _ in segments:
            assert cache.pool is self.pool
            cache.reserve(len(ids))
            stop, length = start + len(ids), cache.length + len(ids)
            at = np.arange(cache.length, length)
            positions.append(at)
            slots.append(cache.slots(at))
            self.spans.append(Span(slice(start, stop), cache, length, absorbed))
            start = stop
        one = len(segments) == 1
        sizes = [len(segment.ids) for segment in segments]
        self.is_decoded = np.repeat([segment.absorbed for segment in segments], sizes)
        self.masks = masks_of([segment.mask for segment in segments], sizes)
        self.ids = segments[0].ids if one else np.concatenate([segment.ids for segment in segments])
        self.rotation = rotary(positions[0] if one else np.concatenate(positions))
        self.slots = slots[0] if one else np.concatenate(slots)
