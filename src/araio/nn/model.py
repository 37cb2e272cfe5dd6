"""`Model`: embedding, layers, final norm and output matrix of a DeepSeek-V2/V3-class language model.

It holds no state but its weights and what is set on its routers: a sequence lives in a `LatentCache`.
`forward` runs the next tokens of one sequence, `step` those of several together. `weights/load.py` builds a
model from a checkpoint; `block.py` is one layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from araio.config import ModelConfig
from araio.costs.work import HeldBytes
from araio.kernels.ops import IntArray, Matrix, Ops
from araio.nn.approximations import Approximation
from araio.nn.batch import Batch, Routes, Segment, Unwanted
from araio.nn.block import Block
from araio.nn.kv_cache import CacheType, LatentCache, LatentPool
from araio.nn.linear import Linear
from araio.nn.lookahead import Lookahead
from araio.nn.mask import ExpertMask
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
    held          bytes of the weights above, as they lie in memory
    lookahead     asks for experts ahead of their layer; None where all are in memory
    """

    config: ModelConfig
    embed_tokens: Matrix
    rotary: RotaryEmbedding
    layers: Sequence[Block]
    norm: RMSNorm
    lm_head: Linear
    mtp: MTPModule | None
    held: HeldBytes
    ops: Ops
    lookahead: Lookahead | None = None

    def new_pool(self, tokens: int, cache_type: CacheType = "bfloat16") -> LatentPool:
        """Room for sequences of so many tokens in all."""
        return LatentPool(self.config.latent_dim, tokens, cache_type)

    def new_cache(self, cache_type: CacheType = "bfloat16") -> LatentCache:
        """A new sequence that has a pool to itself, with room for the whole context."""
        return LatentCache(self.new_pool(self.config.max_position_embeddings, cache_type))

    def forward(
        self,
        ids: IntArray,
        cache: LatentCache,
        *,
        absorbed: bool = False,
        mask: ExpertMask | None = None,
    ) -> Float32Array:
        """Run the next tokens of a sequence through every layer.

        ids       (T,) token ids in [0, W); they continue the `cache.length` tokens before
        cache     gets T positions longer
        absorbed  the form of attention, see `batch.Segment`: False for a prompt, True for what follows it
        mask      the experts that the tokens may use, the same for all of a sequence; None for all
        returns   (T, D) after the final norm, for `logits` and for `mtp`

        Raises:
            CacheFullError: the cache's pool has no room for the tokens.
        """
        hidden = self.step([Segment(ids, cache, absorbed, mask)])
        cache.advance(len(ids))
        return hidden

    def step(
        self,
        segments: Sequence[Segment],
        routes: Routes | None = None,
        is_unwanted: Callable[[], bool] | None = None,
    ) -> Float32Array:
        """Run the next tokens of several sequences, which the caller advances if it wants to keep them.

        segments  one or more, each of another sequence, all in one pool
        routes    gets what each routed layer chose, if given
        is_unwanted  asked before each layer, in a long step between its parts, and between experts that are
                     waited for; the step stops where it says so
        returns   (T, D) for the tokens of all segments in their order, as `forward`

        Raises:
            Unwanted: the step was stopped; no sequence has changed.
            CacheFullError: as `forward`; no sequence has changed.
        """
        batch = Batch(segments, self.rotary, routes, is_unwanted)
        x = self.ops.embed(batch.ids, self.embed_tokens)
        for index, layer in enumerate(self.layers):
            if batch.is_unwanted():
                raise Unwanted
            x = layer(x, batch)
            if self.lookahead is not None:
                self.lookahead(index, x, batch.is_decoded, batch.masks)
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

    @property
    def approximation(self) -> Approximation | None:
        """What replaces the choice of every router; None if the model is exact."""
        return next((router.approximation for router in self.routers), None)

    @approximation.setter
    def approximation(self, approximation: Approximation | None) -> None:
        for router in self.routers:
            router.approximation = approximation
