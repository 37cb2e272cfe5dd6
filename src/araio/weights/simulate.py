"""What a policy would have read from disk for recorded routes, and what no policy could have avoided.

The rules are those of `residency.py`. A layer's K experts are looked up together; what is missing is read
into slots that are kept free for reads, and when the layer is computed the least worthy leave until no more
than `capacity` experts of all layers are in memory. What has just been read may be the first to leave, and
what a layer needs never leaves before it. `capacity` is what may be in memory between two layers: for a bound
that an engine cannot pass, all of its places.

Routes are (T, L, K) expert ids, one token a step, K distinct ids of each layer, as `testing/routes.py` makes
them or `Router.on_route` records them.
"""

from __future__ import annotations

from collections.abc import Collection
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from araio.tensors import Float32Array
from araio.weights.policies import Policy

__all__ = ["belady", "replay"]

IntArray = NDArray[np.integer]
Int64Array = NDArray[np.int64]


def replay(
    routes: IntArray, experts: int, capacity: int, policy: Policy, scores: Float32Array | None = None
) -> Int64Array:
    """Play routes of layers with `experts` experts each to a policy that knows nothing yet.

    scores  (T, L, E) of the routers, for a policy that learns from them

    Returns:
        misses (T, L): how many experts each layer of each token had to read
    """
    keys = _keys(routes, experts)
    resident = np.zeros(routes.shape[1] * experts, bool)
    misses = np.zeros(routes.shape[:2], np.int64)
    for token, layer in np.ndindex(*routes.shape[:2]):
        chosen = keys[token, layer]
        misses[token, layer] = len(chosen) - np.count_nonzero(resident[chosen])
        resident[chosen] = True
        policy.use(chosen, scores=None if scores is None else scores[token, layer])
        if misses[token, layer]:
            inside = np.flatnonzero(resident)
            surplus = len(inside) - capacity
            if surplus > 0:
                worth = policy.priorities(inside)
                resident[inside[np.argpartition(worth, surplus - 1)[:surplus]]] = False
    return misses


def belady(routes: IntArray, experts: int, capacity: int, start: Collection[int] = ()) -> Int64Array:
    """The misses (T, L) that no policy can avoid: what is next used last leaves first (Belady 1966).

    One that knows the future, under the same rules; as what was just read may leave at once, it is optimal.

    start  keys that are in memory before the first token
    """
    keys = _keys(routes, experts)
    next_use = _next_use(keys.reshape(-1, routes.shape[2])).reshape(keys.shape)
    total = routes.shape[1] * experts
    resident = set(start)
    # (-next use, key) as one int. What was put there before a key's last use is stale, but its time is past,
    # so that whatever is resident comes out before it.
    heap = _first_uses(keys.reshape(-1, routes.shape[2]), resident, total)
    misses = np.zeros(routes.shape[:2], np.int64)
    for token, layer in np.ndindex(*routes.shape[:2]):
        chosen = keys[token, layer].tolist()
        misses[token, layer] = sum(key not in resident for key in chosen)
        resident.update(chosen)
        for key, later in zip(chosen, next_use[token, layer].tolist(), strict=True):
            heappush(heap, -later * total + key)
        while len(resident) > capacity:
            resident.discard(heappop(heap) % total)
    return misses


def _first_uses(keys: Int64Array, start: Collection[int], total: int) -> list[int]:
    """A heap of what is in memory before the first of S steps with keys (S, K)."""
    used, places = np.unique(keys, return_index=True)
    first = dict(zip(used.tolist(), (places // keys.shape[1]).tolist(), strict=True))
    heap = [-first.get(key, len(keys)) * total + key for key in start]
    heapify(heap)
    return heap


def _keys(routes: IntArray, experts: int) -> Int64Array:
    return routes + np.arange(routes.shape[1], dtype=np.int64)[:, None] * experts


def _next_use(keys: Int64Array) -> Int64Array:
    """For keys (S, K) of S steps: the step at which each is used next, S for never."""
    steps = len(keys)
    order = np.argsort(keys, axis=None, kind="stable")
    used, step = keys.ravel()[order], order // keys.shape[1]
    again = np.full(keys.size, steps)
    again[order[:-1]] = np.where(used[1:] == used[:-1], step[1:], steps)
    return again.reshape(keys.shape)
