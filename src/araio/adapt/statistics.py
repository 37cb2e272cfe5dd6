"""`ExpertStatistics`: what each expert did for some text, in sums from which every score can be made.

`observe` runs a token sequence once, with `nn.moe.MoE.observer` set, and adds up over the tokens that each
expert was chosen for, and no others: running every expert on every token, as some tools do, is not possible
for a large model. Sums are float64. The multi-token-prediction module, whose experts are its own, is a layer
like the others. Read `scores.py` for what is made of the sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from araio.api import Model
from araio.engine.request import check_ids
from araio.kernels.ops import Int32Array
from araio.nn.kv_cache import LatentCache
from araio.nn.moe import MoE
from araio.nn.router import OnScores
from araio.tensors import Float32Array

__all__ = ["SUMS", "ExpertStatistics", "RecordedRoutes", "observe"]

Float64Array: TypeAlias = npt.NDArray[np.float64]

OPENING = 2
"""Positions that attention sinks are made of: those in front of a sequence."""

TINY = 1e-30


@dataclass(frozen=True, eq=False)
class ExpertStatistics:
    """Sums by layer and expert, each (L, E) float64, over the tokens that the expert was chosen for.

    With g the weight that the router gave expert and token, f the expert's answer, and c how much a layer's
    routed experts turned the token's residual x: `max(0, 1 - cos(x, x + routed))`.

    layers     numbers of the L layers, that of the multi-token-prediction module last, if there is one
    sequences  that were run
    tokens     that were run
    chosen     how often
    gate       g
    norm       |f|
    gated      g |f|
    turned     c g |f| (EASY-EP, arXiv 2504.06792)
    opening    how often it was chosen at one of the first two positions
    largest    not a sum: the largest absolute number in any f
    """

    layers: tuple[int, ...]
    sequences: int
    tokens: int
    chosen: Float64Array
    gate: Float64Array
    norm: Float64Array
    gated: Float64Array
    turned: Float64Array
    opening: Float64Array
    largest: Float64Array

    @classmethod
    def empty(cls, layers: Sequence[int], experts: int) -> ExpertStatistics:
        """Nothing seen yet."""
        sums = {name: np.zeros((len(layers), experts)) for name in SUMS}
        return cls(tuple(layers), 0, 0, **sums)

    def __add__(self, other: ExpertStatistics) -> ExpertStatistics:
        """What was seen in both; they must be of one model."""
        assert self.layers == other.layers
        sums = {name: getattr(self, name) + getattr(other, name) for name in SUMS}
        sums["largest"] = np.maximum(self.largest, other.largest)
        sequences, tokens = self.sequences + other.sequences, self.tokens + other.tokens
        return ExpertStatistics(self.layers, sequences, tokens, **sums)

    def rows(self, layers: Sequence[int]) -> ExpertStatistics:
        """The same of some of the layers, in the order given."""
        places = [self.layers.index(layer) for layer in layers]
        sums = {name: getattr(self, name)[places] for name in SUMS}
        return ExpertStatistics(tuple(layers), self.sequences, self.tokens, **sums)


SUMS = tuple(field.name for field in fields(ExpertStatistics) if field.type == "Float64Array")
"""The fields that are arrays."""


class RecordedRoutes:
    """What the main model's layers chose for one sequence, and what their routers thought of all experts.

    wants_scores  keep the latter, too
    """

    def __init__(self, layers: Sequence[int], *, wants_scores: bool) -> None:
        self._ids: dict[int, list[Int32Array]] = {layer: [] for layer in layers}
        self._scores: dict[int, list[Float32Array]] = {layer: [] for layer in layers}
        self._wants_scores = wants_scores

    def note(self, layer: int, ids: Int32Array) -> None:
        """A step's choice (T, K); of layers that were not named, nothing is kept."""
        if layer in self._ids:
            self._ids[layer].append(ids)

    def note_scores(self, layer: int, scores: Float32Array) -> None:
        """A step's scores (T, E)."""
        if self._wants_scores and layer in self._scores:
            self._scores[layer].append(scores)

    @property
    def ids(self) -> Int32Array:
        """Of all tokens (T, L, K)."""
        return np.stack([np.concatenate(steps) for steps in self._ids.values()], axis=1)

    @property
    def scores(self) -> Float32Array | None:
        """Of all tokens (T, L, E); None where they are not wanted."""
        if not self._wants_scores:
            return None
        return np.stack([np.concatenate(steps) for steps in self._scores.values()], axis=1)


class _Adder:
    """The observer of all layers: adds what it sees.

    start   position of the step's first token in its sequence
    seen    what it has added to
    routes  told of every choice
    """

    def __init__(self, statistics: ExpertStatistics, routes: RecordedRoutes | None) -> None:
        self.seen = statistics
        self.routes = routes
        self._places = {layer: place for place, layer in enumerate(statistics.layers)}
        self.start = 0

    def __call__(
        self,
        layer: int,
        ids: Int32Array,
        weights: Float32Array,
        answers: Float32Array,
        residual: Float32Array,
        added: Float32Array,
    ) -> None:
        """As `nn.moe.Observer`."""
        if self.routes is not None:
            self.routes.note(layer, ids)
        sums, place = self.seen, self._places[layer]
        gate = weights.astype(np.float64)
        norm = np.sqrt(np.square(answers, dtype=np.float64).sum(axis=2))
        turned = turn(residual, added)[:, None] * gate * norm
        chosen = np.ones(ids.shape)
        for total, terms in (
            (sums.chosen, chosen),
            (sums.gate, gate),
            (sums.norm, norm),
            (sums.gated, gate * norm),
            (sums.turned, turned),
        ):
            total[place] += _by_expert(ids, terms, total.shape[1])
        np.maximum.at(sums.largest[place], ids, np.abs(answers).max(axis=2))
        opening = max(0, OPENING - self.start)
        sums.opening[place] += _by_expert(ids[:opening], chosen[:opening], sums.opening.shape[1])


def _by_expert(ids: Int32Array, terms: Float64Array, experts: int) -> Float64Array:
    """Sums (E,) of terms (T, K) by expert."""
    sums: Float64Array = np.bincount(ids.ravel(), weights=terms.ravel(), minlength=experts).astype(np.float64)
    return sums


def turn(residual: Float32Array, added: Float32Array) -> Float64Array:
    """How much the routed experts turn each token: `max(0, 1 - cos(x, x + added))`, (T,) from (T, D)."""
    before = residual.astype(np.float64)
    after = before + added
    lengths = np.sqrt(np.square(before).sum(1) * np.square(after).sum(1))
    cosines: Float64Array = (before * after).sum(1) / (lengths + TINY)
    return np.maximum(0.0, 1.0 - cosines)


def observe(
    model: Model, sequence: Sequence[int] | npt.NDArray[np.int64], routes: RecordedRoutes | None = None
) -> ExpertStatistics:
    """What each expert does for one sequence of token ids, whose last token, not having run, does not count.

    routes  filled with what was chosen

    Raises:
        RequestError: fewer than two ids, an id outside the vocabulary, or more ids than the context holds.
    """
    check_ids(model.config, [int(token) for token in sequence[:-1]])
    network = model.network
    blocks = [*network.layers, *([network.mtp.block] if network.mtp else [])]
    parts = [block.mlp for block in blocks if isinstance(block.mlp, MoE)]
    layers = [part.gate.layer for part in parts]
    adder = _Adder(ExpertStatistics.empty(layers, model.config.n_routed_experts), routes)
    ids = np.asarray(sequence, np.int64)
    with model.engine.lock, _observed(parts, adder):
        _run(model, ids, adder)
    seen = adder.seen
    return ExpertStatistics(seen.layers, 1, len(ids) - 1, **{name: getattr(seen, name) for name in SUMS})


def _run(model: Model, ids: npt.NDArray[np.int64], adder: _Adder) -> None:
    network = model.network
    # Pools of their own, no longer than the text: a context of 128k tokens may not fit beside the model.
    cache, mtp_cache = (LatentCache(network.new_pool(len(ids))) for _ in range(2))
    for start in range(0, len(ids) - 1, model.chunk):
        stop = min(start + model.chunk, len(ids) - 1)
        adder.start = start
        hidden = network.forward(ids[start:stop], cache)
        if network.mtp is not None:
            network.mtp.forward(ids[start + 1 : stop + 1], hidden, mtp_cache)


@contextmanager
def _observed(parts: Sequence[MoE], adder: _Adder) -> Iterator[None]:
    told = [part.gate.on_scores for part in parts]
    try:
        for part, before in zip(parts, told, strict=True):
            part.observer = adder
            if adder.routes is not None:
                part.gate.on_scores = _both(before, adder.routes.note_scores)
        yield
    finally:
        for part, before in zip(parts, told, strict=True):
            part.observer, part.gate.on_scores = None, before


def _both(first: OnScores | None, second: OnScores) -> OnScores:
    """Tell two; a model whose experts are on disk listens already."""
    if first is None:
        return second

    def tell(layer: int, scores: Float32Array) -> None:
        first(layer, scores)
        second(layer, scores)

    return tell
