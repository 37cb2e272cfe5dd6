"""`Router`: the one place that decides which experts a token uses, and the one hook that sees it decide.

The rule itself is `Ops.route`; what may narrow it is in `mask.py`, and what may replace its choice in
`approximations.py`, if somebody asks for either. Tracing, balance counts and prefetching hang on `on_route`.
Read `moe.py` next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from araio.config import ModelConfig
from araio.kernels.ops import Int32Array, Matrix, Ops
from araio.nn.approximations import Approximation, Decision
from araio.nn.mask import ExpertMask, Masks, route_among
from araio.tensors import Float32Array

__all__ = ["OnRoute", "OnScores", "Router"]

OnRoute: TypeAlias = Callable[[int, Int32Array, Float32Array], None]
"""Called with the layer, expert ids (T, K) and weights (T, K); it may keep both and changes neither."""

OnScores: TypeAlias = Callable[[int, Float32Array], None]
"""Called with the layer and the scores (T, E) of all experts, as the weight alone gives them; as above."""


class Router:
    """The gate of one layer (named `gate` in checkpoints).

    weight                   (E, D), float32 whatever the checkpoint's other weights are
    e_score_correction_bias  (E,) float32, None for the softmax family
    on_route                 called after every decision, if set
    on_scores                called before every decision, if set
    approximation            replaces every decision, if set
    """

    def __init__(
        self,
        config: ModelConfig,
        layer: int,
        weight: Matrix,
        e_score_correction_bias: Float32Array | None,
        ops: Ops,
    ) -> None:
        self.config = config
        self.layer = layer
        self.weight = weight
        self.e_score_correction_bias = e_score_correction_bias
        self.ops = ops
        self.on_route: OnRoute | None = None
        self.on_scores: OnScores | None = None
        self.approximation: Approximation | None = None

    def __call__(
        self, x: Float32Array, is_decoded: npt.NDArray[np.bool_], masks: Masks = ()
    ) -> tuple[Int32Array, Float32Array]:
        """Choose experts for x (T, D): ids (T, K) int32 and weights (T, K) float32; see `ops.Route`.

        is_decoded, masks  (T,) as in `Batch`
        """
        logits = self.ops.linear(x, self.weight)
        if self.on_scores is not None:
            self.on_scores(self.layer, logits)
        ids, weights = self._decide(logits, is_decoded, masks)
        if self.on_route is not None:
            self.on_route(self.layer, ids, weights)
        return ids, weights

    def choose(
        self, x: Float32Array, is_decoded: npt.NDArray[np.bool_], masks: Masks = ()
    ) -> tuple[Int32Array, Float32Array]:
        """The same choice for what need not be this layer's input, without telling anyone of it."""
        return self._decide(self.ops.linear(x, self.weight), is_decoded, masks)

    def _decide(
        self, logits: Float32Array, is_decoded: npt.NDArray[np.bool_], masks: Masks
    ) -> tuple[Int32Array, Float32Array]:
        if masks:
            assert self.approximation is None, "an approximation would choose what a mask hides"
            return self._decide_by_mask(logits, masks)
        bias = self.e_score_correction_bias
        ids, weights = self.ops.route(logits, bias, self.config)
        if self.approximation is None:
            return ids, weights
        return self.approximation(Decision(self.layer, logits, bias, ids, weights, is_decoded))

    def _decide_by_mask(self, logits: Float32Array, masks: Masks) -> tuple[Int32Array, Float32Array]:
        """One decision for the rows of each mask."""
        shape = len(logits), self.config.num_experts_per_tok
        ids, weights = np.empty(shape, np.int32), np.empty(shape, np.float32)
        for mask, rows in masks:
            ids[rows], weights[rows] = self._decide_among(logits[rows], mask)
        return ids, weights

    def _decide_among(self, logits: Float32Array, mask: ExpertMask | None) -> tuple[Int32Array, Float32Array]:
        kept = None if mask is None else mask.kept(self.layer)
        bias = self.e_score_correction_bias
        if kept is None:
            return self.ops.route(logits, bias, self.config)
        return route_among(kept, self.ops.route, logits, bias, self.config)
