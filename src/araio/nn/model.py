"""`Model`: embedding, layers, final norm and output matrix of a DeepSeek-V2/V3-class language model.

It computes on one sequence at a time and holds no state but its weights and the routers' hook: the
sequence lives in a `LatentCache`. `weights/load.py` builds it from a checkpoint; `block.py` is one layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from araio.config import ModelConfig
from araio.kernels.ops import IntArray, Matrix, Ops
from araio.nn.block import Block
from araio.nn.kv_cache import LatentCache
from araio.nn.linear import Linear
from araio.nn.moe import MoE
from araio.nn.mtp import MTPModule
from araio.nn.norm import RMSNorm
from araio.nn.rope import RotaryEmbedding
from araio.nn.router import OnRoute, Router
from araio.tensors import Float32Array

__all__ = ["Model"]


@dataclass(eq=False)
class Model:
    """The whole network.

    embed_tokens  (W, D)
    lm_head       (T, D) -> (T, W); shares the embedding's matrix if `tie_word_embeddings`
    mtp           the first multi-token-prediction module, None if the config has none
    """

    config: ModelConfig
    embed_tokens: Matrix
    rotary: RotaryEmbedding
    layers: Sequence[Block]
    norm: RMSNorm
    lm_head: Linear
    mtp: MTPModule | None
    ops: Ops

    def new_cache(self) -> LatentCache:
        """An empty cache for a new sequence."""
        return LatentCache(self.config.latent_dim)

    def forward(self, ids: IntArray, cache: LatentCache) -> Float32Array:
        """Run the next tokens of a sequence through every layer.

        ids      (T,) token ids in [0, W); they continue the `cache.length` tokens before
        cache    gets T positions longer
        returns  (T, D) after the final norm, for `logits` and for `mtp`
        """
        x = self.ops.embed(ids, self.embed_tokens)
        rotation = self.rotary(cache.length, len(ids))
        for layer in self.layers:
            x = layer(x, rotation, cache)
        cache.advance(len(ids))
        return self.norm(x)

    def logits(self, hidden: Float32Array) -> Float32Array:
        """Scores (T, W) float32 of every token as the next one, from hidden (T, D)."""
        return self.lm_head(hidden)

    @property
    def routers(self) -> list[Router]:
        """Every router from the first layer to the last, the MTP module's behind them."""
        blocks = [*self.layers, *([self.mtp.block] if self.mtp else [])]
        return [block.mlp.gate for block in blocks if isinstance(block.mlp, MoE)]

    @property
    def on_route(self) -> OnRoute | None:
        """The hook on every router; None if there is none, or no router."""
        return next((router.on_route for router in self.routers), None)

    @on_route.setter
    def on_route(self, hook: OnRoute | None) -> None:
        for router in self.routers:
            router.on_route = hook
