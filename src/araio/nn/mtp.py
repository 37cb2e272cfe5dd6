"""`MTPModule`: multi-token prediction (DeepSeek-V3 report, section 2.2), a layer that looks further ahead.

From the main model's state at position i and the token at i + 1 it predicts the token at i + 2. Embedding
and output matrix are the main model's; what checkpoints store of them again is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from araio.kernels.ops import IntArray, Matrix, Ops
from araio.nn.batch import Batch, Routes, Segment
from araio.nn.block import Block
from araio.nn.kv_cache import CacheType, LatentCache, LatentPool
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

    def new_cache(self, cache_type: CacheType = "bfloat16") -> LatentCache:
        """A new sequence for the module's own layer, in a pool to itself."""
        config = self.block.self_attn.config
        return LatentCache(LatentPool(config.latent_dim, config.max_position_embeddings, cache_type))

    def forward(
        self, next_ids: IntArray, hidden: Float32Array, cache: LatentCache, *, absorbed: bool = False
    ) -> Float32Array:
        """States whose logits, by `Model.logits`, predict the token after `next_ids` (equations 21 to 23).

        next_ids  (T,) the token that follows each position
        hidden    (T, D) of `Model.forward` at each position, or of this method when drafting further
        cache     from `new_cache`, holding the positions before
        absorbed  as in `Model.forward`
        returns   (T, D) normalised
        """
        states = self.step([Segment(next_ids, cache, absorbed)], hidden)
        cache.advance(len(next_ids))
        return states

    def step(
        self, segments: Sequence[Segment], hidden: Float32Array, routes: Routes | None = None
    ) -> Float32Array:
        """The same for several sequences, which the caller advances; hidden (T, D) in their order.

        routes  as in `Model.step`
        """
        batch = Batch(segments, self.rotary, routes)
        embedded = self.ops.embed(batch.ids, self.embed_tokens)
        # The report writes the hidden state first; the published weights expect the embedding first.
        x = self.eh_proj(np.concatenate([self.enorm(embedded), self.hnorm(hidden)], axis=1))
        return self.shared_head_norm(self.block(x, batch))
