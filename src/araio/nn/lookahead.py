"""`Lookahead`: what the next layers will probably ask for, told to the source of experts before they ask.

The next layer's own norm and router are applied to what this layer gives, as if the attention between them
added nothing (Fate, arXiv 2502.12224, does so with this layer's input). That needs no training and no data,
and the whole routing rule, groups included, is the model's own. It is done before a layer's experts are
computed, so that the disk has something to go on with, and corrected by what the whole layer gives. Read
`moe.py` and `model.py` for the callers, `weights/residency.py` for what is made of it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from araio.kernels.ops import Int32Array
from araio.nn.mask import Masks
from araio.nn.norm import RMSNorm
from araio.nn.router import Router
from araio.tensors import Float32Array

__all__ = ["Foreseeing", "Lookahead"]

# Layers. A guess for the second is less often right, and only asked for where the first needs nothing.
FARTHEST = 2


class Foreseeing(Protocol):
    """A source of experts that can use a guess."""

    def is_curious(self, layer: int) -> bool:
        """Whether a guess for the layer could change anything."""

    def expect(self, layer: int, distance: int, expert_ids: Int32Array, weights: Float32Array) -> bool:
        """Take a guess: ids and weights (T, K) that the layer's router may choose, best first.

        distance  from the layer that runs; a later guess for the same layer is the better one
        returns   whether a guess for the layer behind could be used as well
        """


class Lookahead:
    """Called with a layer's index and what it gives (T, D), or will give as far as that is known.

    Approximations and masks choose for a guess as they will choose for the layer itself.
    """

    def __init__(self, source: Foreseeing) -> None:
        self._source = source
        self._routers: dict[int, tuple[RMSNorm, Router]] = {}

    def add(self, norm: RMSNorm, router: Router) -> None:
        """Look ahead to this router, which has this norm before it."""
        self._routers[router.layer] = norm, router

    def __call__(
        self, layer: int, x: Float32Array, is_decoded: npt.NDArray[np.bool_], masks: Masks = ()
    ) -> None:
        """Guess for the layers behind, the first of which is about to take x, as far as that helps.

        is_decoded, masks  (T,) as in `Batch`
        """
        for distance in range(1, FARTHEST + 1):
            if layer + distance not in self._routers:
                return
            norm, router = self._routers[layer + distance]
            if not self._source.is_curious(router.layer):
                continue
            guess = router.choose(norm(x), is_decoded, masks)
            if not self._source.expect(router.layer, distance, *guess):
                return
