"""`Margins`: how far the last expert that a token chose was ahead of the first that it did not choose.

A small margin is a choice that other kernels, other bits or another batch may make differently. It needs the
scores of all experts, which a step does not give; so it is noted at the routers, and only while a recording
asks for it. Read `tracing.py` for who does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from araio.nn.mask import HIDDEN, Masks
from araio.nn.model import Model
from araio.nn.router import OnScores
from araio.tensors import Float32Array

__all__ = ["Margins"]

BoolArray: TypeAlias = npt.NDArray[np.bool_]


class Margins:
    """Of the main model's routers.

    It stands in front of what is told of scores already, which is told as before. `attach` and `detach` need
    the engine's lock.
    """

    def __init__(self, model: Model) -> None:
        config = model.config
        self._ops = model.ops
        self._routers = [router for router in model.routers if router.layer in config.moe_layers]
        self._earlier: list[OnScores | None] = []
        self._scores: dict[int, Float32Array] = {}
        reached = config.n_routed_experts
        if config.topk_method != "greedy":
            reached = config.topk_group * (config.n_routed_experts // config.n_group)
        # The model's own rule, asked for one expert more and for scores as they are.
        self._top_k = config.num_experts_per_tok
        self._has_runner_up = reached > self._top_k
        self._rule = replace(
            config,
            num_experts_per_tok=min(self._top_k + 1, reached),
            norm_topk_prob=False,
            routed_scaling_factor=1.0,
        )

    def attach(self) -> None:
        """Note scores from now on."""
        self._earlier = [router.on_scores for router in self._routers]
        for router, earlier in zip(self._routers, self._earlier, strict=True):
            router.on_scores = self._noting(earlier)

    def detach(self) -> None:
        """Leave the routers as they were."""
        for router, earlier in zip(self._routers, self._earlier, strict=True):
            router.on_scores = earlier
        self._scores.clear()

    def latest(self) -> list[Float32Array]:
        """Scores (T, E) of each router in the step that is just over."""
        return [self._scores[router.layer] for router in self._routers]

    def of(self, place: int, scores: Float32Array, masks: Masks = ()) -> Float32Array:
        """Margins (T,) of one router's scores (T, E): of what it chooses by, the bias included.

        place  of the router, among those of the main model
        masks  rows by the experts that they might choose, as in `nn.mask`
        """
        if not masks:
            return self._among(None, place, scores)
        margins = np.empty(len(scores), np.float32)
        layer = self._routers[place].layer
        for mask, rows in masks:
            kept = None if mask is None else mask.kept(layer)
            margins[rows] = self._among(kept, place, scores[rows])
        return margins

    def _among(self, kept: BoolArray | None, place: int, scores: Float32Array) -> Float32Array:
        if not self._has_runner_up:
            return np.full(len(scores), np.inf, np.float32)
        bias = self._routers[place].e_score_correction_bias
        if kept is not None and bias is None:
            scores = np.where(kept, scores, HIDDEN)
        elif kept is not None and bias is not None:
            bias = np.where(kept, bias, HIDDEN)
        ids, chosen_by = self._ops.route(scores, bias, self._rule)
        if bias is not None:
            chosen_by = chosen_by + bias[ids]
        margins: Float32Array = chosen_by[:, self._top_k - 1] - chosen_by[:, self._top_k]
        if kept is not None:  # where no other expert was left, nothing else could have been chosen
            margins = np.where(kept[ids[:, self._top_k]], margins, np.float32(np.inf))
        return np.maximum(margins, 0)

    def _noting(self, earlier: OnScores | None) -> OnScores:
        def note(layer: int, scores: Float32Array) -> None:
            self._scores[layer] = scores
            if earlier is not None:
                earlier(layer, scores)

        return note
