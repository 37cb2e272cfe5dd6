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
from typing import NamedTuple

import numpy as np

from araio.lens.coactivation import spread
from araio.lens.result import Result
from araio.lens.routes import BoolArray, Float64Array, Int64Array, Routes
from araio.tensors import Float32Array

__all__ = ["GUESSES", "Prediction", "prediction"]

GUESSES = ("most used", "previous token", "one layer", "three layers")
BACK = {"one layer": 1, "three layers": 3}
RIDGE = 30.0
TIE = 1e-6  # by which the more used of two comes first, where a guess makes them alike


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


class _Split(NamedTuple):
    """What is learned from, by cell, and the rows that are tried. A cell is half of a domain's sequences."""

    learn: Int64Array
    test: BoolArray


def prediction(routes: Routes, guessed: Sequence[int] | None = None) -> Prediction:
    """How often each guess names the experts of a layer.

    guessed  how many experts are named, by default K and twice as many
    """
    sizes = [size for size in guessed or (routes.top_k, 2 * routes.top_k) if size <= routes.n_experts]
    domains = len(routes.domains)
    is_odd = routes.seq % 2 == 1
    cells = np.arange(2 * domains)
    splits = [_Split(cells[::2], is_odd)]
    splits += [_Split(cells[cells // 2 != index], routes.domain == index) for index in range(domains)]
    others, *left_out = _recalls(routes, sizes, 2 * routes.domain + is_odd, splits)
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


def _recalls(
    routes: Routes, sizes: Sequence[int], cell: Int64Array, splits: Sequence[_Split]
) -> list[dict[str, Float64Array]]:
    """For each split, guess -> (L - 1, D, M) share of the experts tried that are among the guessed.

    NaN for domains that are not tried, and where nothing was learned.
    """
    shape = (routes.depth - 1, len(routes.domains), len(sizes))
    recalls = [{guess: np.full(shape, np.nan) for guess in GUESSES} for _ in splits]
    follows = np.append(False, (np.diff(routes.seq) == 0) & (np.diff(routes.position) == 1))
    before: deque[Float32Array] = deque(maxlen=max(BACK.values()))
    for layer in range(routes.depth):
        chosen = spread(routes.experts[:, layer], routes.n_experts)
        if before:
            previous = np.roll(chosen, 1, axis=0) * follows[:, None]
            known = np.concatenate(list(before), axis=1)
            learned = _Learned.of(known, chosen, cell, 2 * len(routes.domains))
            for split, recall in zip(splits, recalls, strict=True):
                if split.test.any() and learned.tokens[split.learn].any():
                    true = routes.experts[split.test, layer].astype(np.int64)
                    for guess, scores in learned.scores(known, previous, split).items():
                        found = _found(scores, true, sizes)
                        recall[guess][layer - 1] = _by_domain(found, routes.domain[split.test], shape[1])
        before.append(chosen)
    return recalls


class _Learned(NamedTuple):
    """What every cell says of a layer (E experts) and of N = E x layers before it, 0 and 1 both.

    tokens   (cells,)
    chosen   (cells, E) how often each expert was chosen
    moments  (cells, N, N + E) products of what is known with itself and with what was chosen, summed
    """

    tokens: Int64Array
    chosen: Float64Array
    moments: Float32Array

    @staticmethod
    def of(known: Float32Array, chosen: Float32Array, cell: Int64Array, cells: int) -> _Learned:
        rows = [np.flatnonzero(cell == index) for index in range(cells)]
        both = np.concatenate([known, chosen], axis=1)
        return _Learned(
            np.array([len(some) for some in rows]),
            np.stack([chosen[some].sum(0, dtype=np.float64) for some in rows]),
            np.stack([known[some].T @ both[some] for some in rows]),
        )

    def scores(self, known: Float32Array, previous: Float32Array, split: _Split) -> dict[str, Float32Array]:
        """By guess (tests, E) scores, no two alike in a row; `previous` (T, E) is 1 for the token before."""
        rates = self.chosen[split.learn].sum(0) / self.tokens[split.learn].sum()
        moments = self.moments[split.learn].sum(0, dtype=np.float64)
        order = np.argsort(np.argsort(-rates, kind="stable"), kind="stable")
        most_used = (-order / len(order)).astype(np.float32)
        scores = {
            "most used": np.broadcast_to(most_used, (int(np.count_nonzero(split.test)), len(order))),
            "previous token": 2 * previous[split.test] + most_used,
        }
        even = (rates + TIE * most_used).astype(np.float32)
        for guess, layers in BACK.items():
            near = known[split.test][:, -layers * len(rates) :]
            scores[guess] = near @ _ridge(moments, rates, near.shape[1]) + even
        return scores


def _ridge(moments: Float64Array, rates: Float64Array, width: int) -> Float32Array:
    """(width, E) weights of the last columns of what is known, which tell best what rates do not."""
    total = len(moments)
    near = slice(total - width, total)
    gram = moments[near, near] + RIDGE * np.eye(width)
    # Of numbers that are 0 or 1, a square is the number: the diagonal has the sums.
    wanted = moments[near, total:] - np.outer(np.diag(moments)[near], rates)
    return np.linalg.solve(gram, wanted).astype(np.float32)


def _found(scores: Float32Array, true: Int64Array, sizes: Sequence[int]) -> Float64Array:
    """(tests, M) share of the true experts (tests, K) that are among so many with the highest scores."""
    places = [scores.shape[1] - size for size in sizes]
    lowest = np.partition(scores, places, axis=1)[:, places]
    worth = np.take_along_axis(scores, true, axis=1)
    return np.asarray((worth[:, :, None] >= lowest[:, None]).mean(1))


def _by_domain(found: Float64Array, domain: Int64Array, domains: int) -> Float64Array:
    """(D, M) means of (tests, M); NaN for a domain without any."""
    members = domain == np.arange(domains)[:, None]
    with np.errstate(invalid="ignore"):
        return np.asarray(members @ found / members.sum(1, keepdims=True))
