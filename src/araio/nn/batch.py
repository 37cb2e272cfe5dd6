"""`Batch`: the tokens of one step, of one sequence or of several, side by side.

Everything but attention treats all tokens alike, in one product; attention takes neighbours of one form
together, each of which sees its own sequence alone. Nothing a token computes depends on the other segments.
Read `attention.py` next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from araio.kernels.ops import Int32Array, Int64Array, IntArray, LatentPages, Latents
from araio.nn.kv_cache import LatentCache, pages_for
from araio.nn.mask import ExpertMask, masks_of
from araio.nn.rope import RotaryEmbedding
from araio.tensors import Float32Array

__all__ = ["Batch", "Routes", "Segment", "Span", "Unwanted"]

LONG = 64
"""Tokens of a step from which on a layer of a large model may take longer than who cancelled it waits."""


class Unwanted(Exception):  # noqa: N818 - nothing went wrong
    """A step was stopped because nobody wants what it would give."""


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
    """Neighbouring segments of one form: their rows of the step, and what their last rows see.

    tables, lengths, tokens  of each segment's sequence, as in `ops.Latents`
    """

    rows: slice
    absorbed: bool
    tables: Int64Array
    lengths: Int64Array
    tokens: Int64Array

    def latents(self, pages: LatentPages) -> Latents:
        """What one layer's pages hold of these sequences."""
        return Latents(pages, self.tables, self.lengths, self.tokens)


class Batch:
    """What the layers need to know of a step's segments, which all live in one pool.

    ids       (T,) of all segments
    spans     who attends together
    rotation  of each token, by its position
    slots     (T,) where each token's latents go
    routes    gets what each routed layer chooses, if given
    is_decoded  (T,) bool: not of a prompt, but behind it
    masks     rows by the experts that they may use
    is_unwanted  says that nobody wants the step any more; whoever asks then raises `Unwanted`
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        rotary: RotaryEmbedding,
        routes: Routes | None = None,
        is_unwanted: Callable[[], bool] | None = None,
    ) -> None:
        self.routes = routes
        self.is_unwanted = _is_wanted if is_unwanted is None else is_unwanted
        self.pool = segments[0].cache.pool
        positions, slots = [], []
        for ids, cache, _, _ in segments:
            assert cache.pool is self.pool
            cache.reserve(len(ids))
            at = np.arange(cache.length, cache.length + len(ids))
            positions.append(at)
            slots.append(cache.slots(at))
        self.spans = _spans(segments)
        one = len(segments) == 1
        sizes = [len(segment.ids) for segment in segments]
        self.is_decoded = np.repeat([segment.absorbed for segment in segments], sizes)
        self.masks = masks_of([segment.mask for segment in segments], sizes)
        self.ids = segments[0].ids if one else np.concatenate([segment.ids for segment in segments])
        self.rotation = rotary(positions[0] if one else np.concatenate(positions))
        self.slots = slots[0] if one else np.concatenate(slots)

    def pause(self) -> None:
        """Between the parts of a layer, which take long in a long step; a short one goes on to the next.

        Raises:
            Unwanted: nobody wants the step any more.
        """
        if len(self.ids) >= LONG and self.is_unwanted():
            raise Unwanted


def _is_wanted() -> bool:
    return False


def _spans(segments: Sequence[Segment]) -> list[Span]:
    """Runs of segments of one form, whose pages are reserved."""
    spans, stop = [], 0
    for absorbed, run in groupby(segments, attrgetter("absorbed")):
        some = list(run)
        tokens = [len(segment.ids) for segment in some]
        lengths = [segment.cache.length + count for segment, count in zip(some, tokens, strict=True)]
        used = pages_for(max(lengths))
        tables = np.stack([segment.cache.table[:used] for segment in some])
        start, stop = stop, stop + sum(tokens)
        spans.append(Span(slice(start, stop), absorbed, tables, np.array(lengths), np.array(tokens)))
    return spans
