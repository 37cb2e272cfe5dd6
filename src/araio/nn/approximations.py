"""Approximations: other choices of experts than the model's own, for whoever asks for one by its name.

    top-N    fewer experts for each token: less to compute, less to read
    cached   experts that are in memory in place of others that are nearly as good: less to read

Nothing here is on by itself: an answer is exact unless somebody names one of these. What one costs is
measured by `eval/approximation.py`. Read `router.py` for where it is applied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from araio.config import ModelConfig
from araio.errors import RequestError
from araio.kernels.ops import Int32Array, Ops
from araio.tensors import Float32Array

__all__ = ["Approximation", "Cached", "Decision", "InMemory", "TopN", "approximation"]

# Of `cached`: so many of a token's best experts are never replaced, and so many times K may replace the rest.
SACRED, REACH = 2, 2

# What is added to a sum of weights, as by the routing rule itself.
TINY = np.float32(1e-20)


class Decision(NamedTuple):
    """A router's own choice for the tokens of a step.

    logits      (T, E)
    bias        (E,), None for the softmax family
    ids         (T, K) int32, best first; `weights` (T, K) float32
    is_decoded  (T,) bool, False for the tokens of a prompt
    """

    layer: int
    logits: Float32Array
    bias: Float32Array | None
    ids: Int32Array
    weights: Float32Array
    is_decoded: npt.NDArray[np.bool_]


class Approximation(Protocol):
    """Replaces what a router has chosen."""

    @property
    def name(self) -> str:
        """As users ask for it."""

    def __call__(self, decision: Decision) -> tuple[Int32Array, Float32Array]:
        """Ids (T, N) int32, distinct within a row and best first, and weights (T, N) float32, N <= K."""


class InMemory(Protocol):
    """A source of experts that knows which of them a read would have to begin for."""

    def is_in_memory(self, layer: int) -> npt.NDArray[np.bool_]:
        """For each expert (E,) of a layer, whether it is in memory or on its way there."""


def approximation(
    name: str | None, config: ModelConfig, ops: Ops, experts: InMemory | None
) -> Approximation | None:
    """The approximation of that name; None for no name, and for `cached` where it would change nothing.

    experts  where they come from if not all are in memory

    Raises RequestError for a name that this model has no approximation of.
    """
    if name is None:
        return None
    chosen = config.num_experts_per_tok if config.moe_layers else 0
    if (match := re.fullmatch(r"top-([0-9]{1,4})", name)) and 1 <= int(match[1]) < chosen:
        return TopN(int(match[1]))
    if name == "cached" and chosen > SACRED:
        return None if experts is None else Cached(config, ops, experts)
    known = " and ".join(_known(chosen)) or "none"
    raise RequestError(
        f"no approximation {name!r}; this model has {known} at {chosen} experts a token, and is exact without"
    )


def _known(chosen: int) -> Iterable[str]:
    if chosen > 1:
        yield "top-1" if chosen == 2 else f"top-1 to top-{chosen - 1}"
    if chosen > SACRED:
        yield "cached"


@dataclass(frozen=True)
class TopN:
    """The best `count` of the experts that the model has chosen, with the weights that it gave them.

    They are not raised to the sum of all K, which is what a smaller `num_experts_per_tok` in the config would
    do to a model that divides by their sum. On `pocket` that costs 1.5 times as much at 3 of 4 experts, and
    2.5 times at 1; weights that keep the root of the sum of their squares lie between. What the dropped
    experts would have added is nearly at right angles to what is kept (cosines of 0.1 to 0.2), so that no
    factor brings the kept part much nearer to the whole.
    """

    count: int

    @property
    def name(self) -> str:
        """`top-4`."""
        return f"top-{self.count}"

    def __call__(self, decision: Decision) -> tuple[Int32Array, Float32Array]:
        """The first of each row."""
        ids, weights = decision.ids[:, : self.count], decision.weights[:, : self.count]
        return np.ascontiguousarray(ids), np.ascontiguousarray(weights)


class Cached:
    """Experts in memory before others, among those that are nearly as good ("Max-Rank" of arXiv 2412.00099).

    The two best of a token keep their places. The other K - 2 go to the best of the next that are in memory,
    down to rank 2 K; where these are too few, to the best that are not. The groups of the model's rule hold,
    and so does its rule of weights: they come from the model's own scores, and where the rule divides by
    their sum, theirs is the same.

    Only for decoded tokens. A prompt of any length needs nearly every expert, in memory or not. What a token
    gets depends on what is in memory, and so on all that the model has done before, drafts and other requests
    among it.
    """

    name = "cached"

    def __init__(self, config: ModelConfig, ops: Ops, experts: InMemory) -> None:
        reached = config.n_routed_experts
        if config.topk_method != "greedy":
            reached = config.topk_group * (config.n_routed_experts // config.n_group)
        candidates = min(REACH * config.num_experts_per_tok, reached)
        self._ops, self._experts = ops, experts
        self._keeps_sum = config.norm_topk_prob
        # The model's rule, asked for more experts and for their scores as they are.
        self._candidates = replace(
            config, num_experts_per_tok=candidates, norm_topk_prob=False, routed_scaling_factor=1.0
        )
        self._factor = np.float32(1.0 if config.norm_topk_prob else config.routed_scaling_factor)

    def __call__(self, decision: Decision) -> tuple[Int32Array, Float32Array]:
        """Other experts for those tokens that have one to read."""
        is_here = self._experts.is_in_memory(decision.layer)
        rows = np.flatnonzero(decision.is_decoded & ~is_here[decision.ids].all(axis=1))
        if not len(rows):
            return decision.ids, decision.weights
        candidates, scores = self._ops.route(decision.logits[rows], decision.bias, self._candidates)
        places = _best_places(is_here[candidates], decision.ids.shape[1])
        weights = np.take_along_axis(scores, places, 1) * self._factor
        if self._keeps_sum:
            weights *= decision.weights[rows].sum(1, keepdims=True) / (weights.sum(1, keepdims=True) + TINY)
        all_ids, all_weights = decision.ids.copy(), decision.weights.copy()
        all_ids[rows] = np.take_along_axis(candidates, places, 1)
        all_weights[rows] = weights
        return all_ids, all_weights


def _best_places(is_here: npt.NDArray[np.bool_], count: int) -> npt.NDArray[np.int64]:
    """Of candidates (T, C), best first, the places (T, count) of those to take, ascending."""
    is_last = ~is_here
    is_last[:, :SACRED] = False
    # Stable: what is here comes first, and each kind in the order of its scores.
    order = np.argsort(is_last, axis=1, kind="stable")[:, :count]
    return np.sort(order, axis=1)
