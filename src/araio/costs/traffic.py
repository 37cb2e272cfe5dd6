"""Bytes that one decoding step reads: weights that every token needs, the experts it touches, the cache.

A step of several sequences reads the dense weights once for all of them, and an expert once however many of
its tokens chose it. With more sequences it touches more experts, until it reads nearly all of them: sparsity
saves operations at every batch, bytes only at small ones. Read `flops.py` for the operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from araio.config import ModelConfig
from araio.costs.checks import require_at_least, require_experts
from araio.costs.parameters import cache_bytes_per_token, count_parameters
from araio.costs.storage import Storage
from araio.errors import CostError
from araio.json_reader import shown

__all__ = [
    "StepBytes",
    "decode_bytes",
    "embedding_row_bytes",
    "expected_experts",
    "experts_in_routes",
]


@dataclass(frozen=True)
class StepBytes:
    """What one decoding step reads.

    dense    weights that do not depend on the routes, and one row of the embedding for each sequence
    experts  the routed experts that it touches, each once
    cache    latents of all positions of all sequences
    """

    dense: int
    experts: int
    cache: int

    @property
    def total(self) -> int:
        return self.dense + self.experts + self.cache


def decode_bytes(
    config: ModelConfig,
    batch: int,
    context: int,
    storage: Storage | None = None,
    experts: float | None = None,
) -> StepBytes:
    """Bytes that a step of `batch` sequences reads, one token each.

    context  positions that each attends to, its own token included
    storage  how the weights are stored; as the config publishes them unless given
    experts  distinct routed experts in a layer, on average; uniform routing unless given; of real routes,
             `experts_in_routes` tells

    Raises CostError for a batch or context of none, for experts that a batch cannot touch, and for experts of
    a model that has none.
    """
    require_at_least(1, batch=batch, context=context)
    storage = storage or Storage.published(config)
    counted = count_parameters(config, storage)
    routed_bytes = 0.0
    if config.moe_layers or experts is not None:
        touched = _experts_touched(config, batch, experts)
        routed_bytes = touched / config.n_routed_experts * counted.routed_experts.bytes
    return StepBytes(
        dense=counted.model.active_bytes
        - counted.routed_experts.active_bytes
        + batch * embedding_row_bytes(config, storage),
        experts=round(routed_bytes),
        cache=batch * context * cache_bytes_per_token(config),
    )


def expected_experts(routed: int, chosen: int, batch: int) -> float:
    """Distinct experts of a layer that `batch` tokens touch under uniform routing: `E (1 - (1 - K/E)^B)`.

    Real routes agree with each other more than that, and touch fewer.

    Raises CostError for numbers that no layer has.
    """
    require_at_least(1, routed=routed, chosen=chosen, batch=batch)
    if chosen > routed:
        raise CostError(f"chosen is {chosen}; a token chooses at most the {routed} routed experts")
    return routed * (1 - (1 - chosen / routed) ** batch)


def experts_in_routes(routes: npt.NDArray[np.integer], batch: int) -> float:
    """Distinct experts that a layer touches in a step of `batch` tokens, on average over layers and steps.

    routes  (T, L, K) expert ids, as `araio.Model.route` gives them. Each run of `batch` tokens is one
            step, so put tokens that would be decoded together side by side; what is left over is not counted
    batch   tokens of a step

    Raises CostError for routes of another shape, and for fewer tokens than one step has.
    """
    require_at_least(1, batch=batch)
    if routes.ndim != 3 or not routes.size:
        raise CostError(
            f"routes have the shape {list(routes.shape)}; expected (tokens, layers, experts per token)"
        )
    steps = len(routes) // batch
    if not steps:
        raise CostError(f"routes hold {len(routes)} tokens; a step of batch = {batch} needs as many")
    layers = routes.shape[1]
    by_step = routes[: steps * batch].reshape(steps, batch, layers, -1).swapaxes(1, 2)
    ids = np.sort(by_step.reshape(steps * layers, -1), axis=1)
    return float((1 + np.count_nonzero(np.diff(ids, axis=1), axis=1)).mean())


def _experts_touched(config: ModelConfig, batch: int, experts: float | None) -> float:
    require_experts(config)
    routed, chosen = config.n_routed_experts, config.num_experts_per_tok
    if experts is None:
        return expected_experts(routed, chosen, batch)
    most = min(routed, batch * chosen)
    if isinstance(experts, bool) or not chosen <= experts <= most:
        raise CostError(
            f"experts is {shown(experts)}; {batch} tokens touch {chosen} to {most} of a layer's {routed}"
        )
    return experts


def embedding_row_bytes(config: ModelConfig, storage: Storage) -> int:
    """One row of the embedding; some codecs store several rows together."""
    stored = storage.codec("embeddings", config)
    return stored.bytes((stored.row_multiple, config.hidden_size)) // stored.row_multiple
