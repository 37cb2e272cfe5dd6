"""`Lookahead`: what the next layer will probably ask for, told to the source of experts before it asks.

The next layer's own norm and router are applied to what this layer gives, as if the attention between them
added nothing (Fate, arXiv 2502.12224, does so with this layer's input). That needs no training and no data,
and the whole routing rule, groups included, is the model's own. While a layer waits for experts it is done
without them, so that the disk has something to go on with; what the whole layer gives corrects it. Read
`moe.py` and `model.py` for the callers, `weights/residency.py` for what is made of it.
"""

from __future__ import annotations

from typing import Protocol

from araio.kernels.ops import Int32Array
from araio.nn.norm import RMSNorm
from araio.nn.router import Router
from araio.tensors import Float32Array

__all__ = ["Foreseeing", "Lookahead"]


class Foreseeing(Protocol):
    """A source of experts that can use a guess."""

    def is_curious(self, layer: int) -> bool:
        """Whether a guess for the layer could change anything."""

    def expect(self, layer: int, expert_ids: Int32Array, weights: Float32Array) -> None:
        """Take a guess: ids and weights (T, K) that the layer's router may choose, best first.

        A later guess for the same layer is the better one.
        """


class Lookahead:
    """Called with a layer's index and what it gives (T, D), or will give as far as that is known."""

    def __init__(self, source: Foreseeing) -> None:
        self._source = source
        self._routers: dict[int, tuple[RMSNorm, Router]] = {}

    def add(self, norm: RMSNorm, router: Router) -> None:
        """Look ahead to this router, which has this norm before it, from the layer in front."""
        self._routers[router.layer - 1] = norm, router

    def __call__(self, layer: int, x: Float32Array) -> None:
        """Guess for the layer behind, which is about to take x; nothing where that has no router."""
        if layer in self._routers:
            norm, router = self._routers[layer]
            if self._source.is_curious(router.layer):
                self._source.expect(router.layer, *router.choose(norm(x)))
