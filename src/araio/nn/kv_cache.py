"""`LatentCache`: what attention remembers of each position, compressed (DeepSeek-V2 report, section 2.1.2).

`kv_lora_rank + qk_rope_head_dim` numbers per token and layer, whatever the number of heads. It grows with the
sequence, so a long context costs nothing until it is used. Read `attention.py` next.
"""

from __future__ import annotations

import numpy as np

from araio.tensors import Float32Array

__all__ = ["LatentCache"]

# Positions of the first allocation of a layer; later ones double it.
FIRST_CAPACITY = 256


class LatentCache:
    """The latents of one sequence: for each layer an array (capacity, C + R), filled up to `length`.

    A step appends to every layer and then advances, so that a step that is interrupted leaves the
    cache as it was.
    """

    def __init__(self, latent_dim: int) -> None:
        self.length = 0
        self._latent_dim = latent_dim
        self._layers: dict[int, Float32Array] = {}

    def append(self, layer: int, c_kv: Float32Array, k_pe: Float32Array) -> Float32Array:
        """Write the latents of the step's tokens behind those of `length` positions.

        c_kv     (T, C) normalised
        k_pe     (T, R) rotated
        returns  (length + T, C + R), a view that later steps do not change
        """
        stop = self.length + len(c_kv)
        latent = self._with_room(layer, stop)
        latent[self.length : stop, : c_kv.shape[1]] = c_kv
        latent[self.length : stop, c_kv.shape[1] :] = k_pe
        return latent[:stop]

    def advance(self, tokens: int) -> None:
        """Keep what the step appended, once every layer has."""
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on."""
        assert 0 <= length <= self.length
        self.length = length

    def _with_room(self, layer: int, positions: int) -> Float32Array:
        latent = self._layers.get(layer)
        if latent is None or len(latent) < positions:
            # One layer at a time: the copy needs room for one layer more, not for the cache twice.
            grown = np.empty((max(positions, 2 * self.length, FIRST_CAPACITY), self._latent_dim), np.float32)
            if latent is not None:
                grown[: self.length] = latent[: self.length]
            latent = self._layers[layer] = grown
        return latent
