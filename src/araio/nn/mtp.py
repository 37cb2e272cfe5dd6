"""`MTPModule`: multi-token prediction (DeepSeek-V3 report, section 2.2), a layer that looks further ahead.

From the main model's state at position i and the token at i + 1 it predicts the token at i + 2. Embedding
and output matrix are the main model's; what checkpoints store of them again is not read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from araio.kernels.ops import IntArray, Matrix, Ops
from araio.nn.block import Block
from araio.nn.kv_cache import LatentCache
from araio.nn.linear import Linear
from araio.nn.norm import RMSNorm
from araio.nn.rope import RotaryEmbedding
from araio.tensors import Float32Array

__all__ = ["MTPModule"]


@dataclass(frozen=True)
class MTPModule:
    """The module at layer `num_hidden_layers` of a checkpoint.

    embed_tokens      (W, D), the main model's
    enorm, hnorm      on the embedding and on the hidden state
    eh_proj           (T, 2 D) -> (T, D)
    shared_head_norm  in front of the main model's output matrix
    """

    embed_tokens: Matrix
    rotary: RotaryEmbedding
    enorm: RMSNorm
    hnorm: RMSNorm
    eh_proj: Linear
    block: Block
    shared_head_norm: RMSNorm
    ops: Ops

    def new_cache(self) -> LatentCache:
        """An empty cache of the module's own layer; the main model's has no room for it."""
        return LatentCache(self.block.self_attn.config.latent_dim)

    def forward(self, next_ids: IntArray, hidden: Float32Array, cache: LatentCache) -> Float32Array:
        """States whose logits, by `Model.logits`, predict the token after `next_ids` (equations 21 to 23).

        next_ids  (T,) the token that follows each position
        hidden    (T, D) of `Model.forward` at each position, or of this method when drafting further
        cache     from `new_cache`, holding the positions before
        returns   (T, D) normalised
        """
        embedded = self.ops.embed(next_ids, self.embed_tokens)
        # The report writes the hidden state first; the published weights expect the embedding first.
        x = self.eh_proj(np.concatenate([self.enorm(embedded), self.hnorm(hidden)], axis=1))
        rotation = self.rotary(cache.length, len(next_ids))
        x = self.block(x, rotation, cache)
        cache.advance(len(next_ids))
        return self.shared_head_norm(x)
