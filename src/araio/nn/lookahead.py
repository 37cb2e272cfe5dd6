"""`Lookahead`: what the next layer will probably ask for, told to the source of experts before it asks.

The next layer's own norm and router are applied to what this layer gives, as if the attention between them
added nothing (Fate, arXiv 2502.12224, does so with this layer's input). That needs no training and no data,
and the whole routing rule, groups included, is the model's own. Read `weights/residency.py` for what is made
of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from araio.kernels.ops import Int32Array
from araio.nn.block import Block
from araio.nn.moe import MoE
from araio.nn.norm import RMSNorm
from araio.nn.router import Router
from araio.tensors import Float32Array

__all__ = ["Foreseeing", "Lookahead"]


class Foreseeing(Protocol):
    """A source of experts that can use a guess."""

    def is_curious(self, layer: int) -> bool:
        """Whether a guess for the layer could change anything."""

    def expect(self, layer: int, expert_ids: Int32Array, weights: Float32Array) -> None:
        """Take a guess: ids and weights (T, K) that the layer's router may choose, best first."""


class Lookahead:
    """Called behind each layer with what it gives."""

    def __init__(self, layers: Sequence[Block], source: Foreseeing) -> None:
        self._source = source
        self._next: list[tuple[RMSNorm, Router] | None] = [
            (block.post_attention_layernorm, block.mlp.gate) if isinstance(block.mlp, MoE) else None
            for block in layers[1:]
        ]
        self._next.append(None)

    def __call__(self, layer: int, x: Float32Array) -> None:
        """Guess for the layer behind `layer` from x (T, D), which that layer is about to take."""
        following = self._next[layer]
        if following is None:
            return
        norm, router = following
        if self._source.is_curious(router.layer):
            self._source.expect(router.layer, *router.choose(norm(x)))
