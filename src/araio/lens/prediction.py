"""How well the experts of a layer can be told from the experts of the layers before it.

From ids alone: what a prefetcher without the router's weights could know. Four guesses, the last two learned
by ridge regression on which experts were chosen: the most used; those of the token before; one layer before;
three layers before. What is learned in some domains is tried in the one that was left out as well, since a
guess that only holds where it was learned is of little use to whoever asks something else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from araio.lens.coactivation import spread
from araio.lens.result import Result
from araio.lens.routes import BoolArray, Float64Array, Int64Array, Routes
from araio.tensors import Float32Array

__all__ = ["GUESSES", "Prediction", "prediction"]

GUESSES = ("most used", "previous token", "one layer", "three layers")
BACK = {"one layer": 1, "three layers": 3}
RIDGE = 30.0


@dataclass(frozen=True)
class Prediction(Result):
    """Recall of guesses at the experts of the second of L layers and all after it.

    guessed  (M,) how many experts are guessed
    recall   guess -> (L - 1, M) share of the K experts that are among the guessed; learned from every other
             sequence and tried on the rest, NaN for a single sequence
    within   guess -> (D, M) the same by domain, mean over layers
    foreign  guess -> (D, M) learned from all other domains and tried on this one; NaN for a single domain
    """

    guessed: Int64Array
    recall: dict[str, Float64Array]
    within: dict[str, Float64Array]
    foreign: dict[str, Float64Array]


def prediction(routes: Routes, guessed: Sequence[int] | None = None) -> Prediction:
    """How often each guess names the experts of a layer.

    guessed  how many experts are named, by default K and twice as many
    """
    sizes = [size for size in guessed or (routes.top_k, 2 * routes.top_k) if size <= routes.n_experts]
    domains = len(routes.domains)
    is_odd = routes.seq % 2 == 1
    others = _recall(routes, sizes, learn=~is_odd, test=is_odd)
    left_out = [
        _recall(routes, sizes, learn=routes.domain != index, test=routes.domain == index)
        for index in range(domains)
    ]
    tokens = np.bincount(routes.domain[is_odd], minlength=domains)
    weight = tokens / tokens.sum() if tokens.any() else np.full(domains, np.nan)
    return Prediction(
        guessed=np.array(sizes),
        recall={
            guess: np.einsum("ldm,d->lm", np.where(tokens[:, None] > 0, values, 0), weight)
            for guess, values in others.items()
        },
        within={guess: _over_layers(values) for guess, values in others.items()},
        foreign={
            guess: np.stack([_over_layers(left_out[index][guess][:, index]) for index in range(domains)])
            for guess in GUESSES
        },
    )


def _over_layers(values: Float64Array) -> Float64Array:
    return np.asarray(values.mean(0) if len(values) else np.full(values.shape[1:], np.nan))


def _recall(
    routes: Routes, sizes: Sequence[int], learn: BoolArray, test: BoolArray
) -> dict[str, Float64Array]:
    """Guess -> (L - 1, D, M) share of the experts of `test` that are among the guessed; NaN for no token."""
    domains = len(routes.domains)
    recall = {guess: np.full((routes.depth - 1, domains, len(sizes)), np.nan) for guess in GUESSES}
    if not learn.any() or not test.any():
        return recall
    domain = routes.domain[test]
    tokens = np.bincount(domain, minlength=domains)
    follows = np.append(False, (np.diff(routes.seq) == 0) & (np.diff(routes.position) == 1))
    before: deque[Float32Array] = deque(maxlen=max(BACK.values()))
    for layer in range(routes.depth):
        chosen = spread(routes.experts[:, layer], routes.n_experts)
        if before:
            true = routes.experts[test, layer].astype(np.int64)
            for guess, scores in _scores(list(before), chosen, learn, test, follows).items():
                ranked = np.sort(scores, axis=1)
                worth = np.take_along_axis(scores, true, axis=1)
                for place, size in enumerate(sizes):
                    found = (worth >= ranked[:, -size, None]).mean(1)
                    summed = np.bincount(domain, found, minlength=domains)
                    recall[guess][layer - 1, tokens > 0, place] = summed[tokens > 0] / tokens[tokens > 0]
        before.append(chosen)
    return recall


def _scores(
    before: list[Float32Array], chosen: Float32Array, learn: BoolArray, test: BoolArray, follows: BoolArray
) -> dict[str, Float32Array]:
    """Guess -> (tests, E) scores, no two alike in a row. All of `before` and `chosen` are (T, E), 0 and 1."""
    rates = chosen[learn].mean(0, dtype=np.float64)
    order = np.argsort(np.argsort(-rates, kind="stable"), kind="stable")
    most_used = (-order / len(order)).astype(np.float32)
    previous = np.roll(chosen, 1, axis=0) * follows[:, None]
    scores = {
        "most used": np.broadcast_to(most_used, (int(np.count_nonzero(test)), len(order))),
        "previous token": 2 * previous[test] + most_used,
    }
    for guess, layers in BACK.items():
        known = np.concatenate(before[-layers:], axis=1)
        weights = _ridge(known[learn], chosen[learn] - rates.astype(np.float32))
        scores[guess] = known[test] @ weights + rates.astype(np.float32)
    return scores


def _ridge(known: Float32Array, wanted: Float32Array) -> Float32Array:
    """The weights (N, E) that give `wanted` (T, E) of `known` (T, N) best, squares of weights included."""
    gram = (known.T @ known).astype(np.float64) + RIDGE * np.eye(known.shape[1])
    return np.linalg.solve(gram, (known.T @ wanted).astype(np.float64)).astype(np.float32)
