"""One forward pass over a whole sequence: what a model gives after every token, and whom it chose for it.

Nothing is generated, and nothing is kept: the sequence has a cache of its own. Whoever calls holds the
engine's lock. Read `model.py` for the callers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.engine.request import check_ids
from araio.nn.mask import ExpertMask
from araio.nn.model import Model as Network

__all__ = ["chosen", "logits"]


def logits(
    network: Network, ids: Sequence[int], mask: ExpertMask | None, chunk: int
) -> npt.NDArray[np.float32]:
    """Logits (T, W) after every token; `Model.logits` says what is refused."""
    return np.concatenate([network.logits(hidden) for hidden in _hidden(network, ids, mask, chunk)])


def chosen(
    network: Network, ids: Sequence[int], mask: ExpertMask | None, chunk: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Experts and weights (T, M, K) of every token; `Model.route` says which, and what is refused."""
    config = network.config
    seen: dict[int, list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]] = {
        layer: [] for layer in config.moe_layers
    }
    earlier = network.on_route
    network.on_route = lambda layer, ids, weights: seen[layer].append((ids, weights))
    try:
        for _ in _hidden(network, ids, mask, chunk):
            pass
    finally:
        network.on_route = earlier
    if not seen:
        shape = (len(ids), 0, config.num_experts_per_tok)
        return np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    by_layer = [tuple(map(np.concatenate, zip(*pieces, strict=True))) for pieces in seen.values()]
    experts, weights = (np.stack(arrays, axis=1) for arrays in zip(*by_layer, strict=True))
    return experts.astype(np.int32), weights.astype(np.float32)


def _hidden(
    network: Network, ids: Sequence[int], mask: ExpertMask | None, chunk: int
) -> Iterator[npt.NDArray[np.float32]]:
    """Final hidden states (T, D), chunk by chunk."""
    check_ids(network.config, ids)
    cache = network.new_cache()
    array = np.asarray(ids, dtype=np.int64)
    for start in range(0, len(array), chunk):
        yield network.forward(array[start : start + chunk], cache, mask=mask)
