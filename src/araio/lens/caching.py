"""How often an expert would be found in a cache of C experts per layer, for every C at once.

Four rules of what leaves: the least recently used, the least often used, the same with counts that fade, and
the one that no rule can beat, which leaves out what will be needed last (Belady 1966). A layer's K experts
are looked up together before any is put in, and while they are in use none of them may leave, so that C is at
least K. All four keep, with one place more, whatever they kept before; so one pass gives every C (Mattson
and others 1970, "Evaluation techniques for storage hierarchies").

Sequences are played one after the other. The baseline is the same tokens in random order: what a rule finds
there is due to skewed loads, only what it finds beyond that is due to order. A hit rate is no speed: what is
missed must be read, and `araio plan` says what a byte costs. The engine's own cache, which shares its places
among layers, is `weights/residency.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from araio.lens.result import Result
from araio.lens.routes import Float64Array, Int64Array, Routes

__all__ = ["HALF_LIFE", "RULES", "Caching", "caching", "distances"]

HALF_LIFE = 64.0
"""Tokens after which a use counts half, for the rule whose counts fade."""

MOST_SIZES = 33


@dataclass(frozen=True)
class Caching(Result):
    """Hit rates of a cache in every layer, of every size.

    capacities  (C,) experts that a layer's cache holds, K to E
    hits        rule -> (L, C) share of choices that were found
    shuffled    rule -> (L, C) the same of the tokens in random order
    cold        (L,) share of choices that were the first of their expert, which no cache finds
    tokens      that were played
    """

    capacities: Int64Array
    hits: dict[str, Float64Array]
    shuffled: dict[str, Float64Array]
    cold: Float64Array
    tokens: int

    def to_json(self) -> dict[str, Any]:
        """Of more than `MOST_SIZES` sizes only so many, the smallest and the largest among them."""
        sizes = len(self.capacities)
        some = np.unique(np.linspace(0, sizes - 1, min(sizes, MOST_SIZES)).round().astype(int))
        hits, shuffled = (
            {rule: curve[:, some] for rule, curve in curves.items()} for curves in (self.hits, self.shuffled)
        )
        fewer = replace(self, capacities=self.capacities[some], hits=hits, shuffled=shuffled)
        return super(Caching, fewer).to_json()


def caching(routes: Routes, seed: int = 0) -> Caching:
    """Hit rates of all rules and sizes, as recorded and of the tokens in random order."""
    ids = routes.experts.astype(np.int64)
    mixed = np.random.default_rng(seed).permutation(ids)
    both = np.concatenate([ids, mixed], axis=1)  # layers of both at once: a step's cost is mostly calls
    experts, top_k = routes.n_experts, routes.top_k
    curves = {rule: _hits(distances(both, experts, rule), experts, top_k) for rule in RULES}
    return Caching(
        capacities=np.arange(top_k, experts + 1),
        hits={rule: curve[: routes.depth] for rule, curve in curves.items()},
        shuffled={rule: curve[routes.depth :] for rule, curve in curves.items()},
        cold=np.count_nonzero(routes.counts.sum(0), axis=1) / (routes.tokens * top_k),
        tokens=routes.tokens,
    )


def _hits(places: Int64Array, experts: int, top_k: int) -> Float64Array:
    """(L, C) share of choices (T, L, K) whose expert lay in one of the first C places."""
    found = np.stack([np.bincount(layer.ravel(), minlength=experts + 1) for layer in places.swapaxes(0, 1)])
    return np.asarray(np.cumsum(found, axis=1)[:, top_k - 1 : experts] / places[:, 0].size)


def distances(ids: Int64Array, experts: int, rule: str) -> Int64Array:
    """(T, L, K) the smallest cache, less one, in which each choice would have been found; E for never.

    ids   (T, L, K)
    rule  a key of `RULES`

    Every layer has a list of its experts: the cache of C holds the first C of it. The K in use come first. Of
    what lay before them, each further place takes the worthiest that has not found a place yet, so what is
    less worthy is carried on, K at most at a time: K times over, the carried one is the running minimum.
    """
    tokens, layers, top_k = ids.shape
    # Worth and id in one number: its order is that of worth, and the lowest bits say whose it is.
    keys = (RULES[rule](ids) + _LEAST_WORTH) * _ID + ids
    # Places beyond those in use hold a blank, which is worth less than any expert and more than a taken one.
    listed = np.full((experts, layers), _BLANK * _ID + experts)
    places = np.full((experts + 1, layers), experts)
    columns = np.arange(layers)
    found = np.empty((top_k, layers, tokens), np.int16)
    for token in range(tokens):
        chosen = ids[token].T
        found[:, :, token] = at = places[chosen, columns]
        carried = np.concatenate([listed, listed[:1]])  # one row more, for choices that were nowhere
        carried[at, columns] = _TAKEN
        carried = carried[:-1]
        for _ in range(top_k):
            worst = np.minimum.accumulate(carried, axis=0)
            carried = np.maximum(carried[1:], worst[:-1])
        listed = np.concatenate([keys[token].T, carried])
        places[listed & (_ID - 1), columns] = np.arange(experts)[:, None]
        places[experts] = experts
    return found.transpose(2, 1, 0).astype(np.int64)


_ID = 1 << 13  # ids and a blank's
_TAKEN, _BLANK, _LEAST_WORTH = 0, 1, 2
_FRACTION = 1 << 20  # of a fading count's logarithm


def _recent(ids: Int64Array) -> Int64Array:
    """When it was last used; of one token's experts, the one with the largest weight counts as the latest."""
    tokens, _, top_k = ids.shape
    when = np.arange(tokens)[:, None, None] * top_k + np.arange(top_k)[::-1]
    return np.broadcast_to(when, ids.shape)


def _frequent(ids: Int64Array) -> Int64Array:
    """How often it has been used, since the beginning; of equal ones the later."""
    return _chains(ids, lambda before, _, size: before * size * ids.shape[2]) + _recent(ids)


def _fading(ids: Int64Array) -> Int64Array:
    """How often it has been used, each use worth 2^(-age / HALF_LIFE); of equal ones the larger weight.

    Ages grow alike, so the order of experts changes only when they are used: what is compared is the
    logarithm of the sum of 2^(time / HALF_LIFE), which needs no fading.
    """
    tokens, layers, top_k = ids.shape
    worth = np.empty(ids.shape, np.int64)
    logs = np.full((layers, int(ids.max(initial=0)) + 1), -np.inf)
    rows = np.arange(layers)[:, None]
    for token in range(tokens):
        logs[rows, ids[token]] = added = np.logaddexp2(logs[rows, ids[token]], token / HALF_LIFE)
        worth[token] = added * _FRACTION
    return np.asarray(worth * top_k + np.arange(top_k)[::-1])


def _soon(ids: Int64Array) -> Int64Array:
    """How soon it is used next: what no real cache can know."""
    return _chains(ids, lambda _, after, size: size - after)


def _chains(ids: Int64Array, worth: Callable[[Int64Array, Int64Array, int], Int64Array]) -> Int64Array:
    """Worth of (uses of the expert before this one, token of its next use or T, T) of every choice."""
    tokens, layers, top_k = ids.shape
    result = np.empty(ids.shape, np.int64)
    for layer in range(layers):
        flat = ids[:, layer].ravel()
        order = np.argsort(flat, kind="stable")
        is_first = np.diff(flat[order], prepend=-1) != 0
        starts = np.flatnonzero(is_first)
        before = np.arange(len(flat)) - np.repeat(starts, np.diff(np.append(starts, len(flat))))
        after = np.where(np.append(is_first[1:], True), tokens, np.append(order[1:], 0) // top_k)
        column = np.empty(len(flat), np.int64)
        column[order] = worth(before, after, tokens)
        result[:, layer] = column.reshape(tokens, top_k)
    return result


RULES: dict[str, Callable[[Int64Array], Int64Array]] = {
    "lru": _recent,
    "lfu": _frequent,
    "fading": _fading,
    "optimal": _soon,
}
"""What leaves a full cache first is what its rule values least; worth changes only when an expert is used."""
