"""Synthetic routes: which experts tokens choose, with the locality that was measured in a published model.

A trace is made from one recipe with no model at all: few latent numbers, shared by all layers, move slowly
and fast as a text goes on, and every layer's router is a random linear map of them. The low rank is what
gives reuse between tokens and predictability between layers at once. `FITTED` holds to the routes of
DeepSeek-V2-Lite on legal text (26 layers, 6 of 64 experts; figures in tests/testing/test_routes.py);
`DOMAINS` changes its subject every 200 tokens. `PESSIMISTIC` and `OPTIMISTIC` are the same generator with the
shape of DeepSeek-V3: an extrapolation, for nobody has published such routes. `UNIFORM` is the worst case, no
locality at all.

    made = FITTED.make(tokens=2000, seed=1)
    made.routes          # (2000, 26, 6) expert ids

Statistics of any routes are below, recorded ones too. `weights/simulate.py` plays routes to a cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from araio.tensors import Float32Array

__all__ = [
    "DOMAINS",
    "FITTED",
    "OPTIMISTIC",
    "PESSIMISTIC",
    "UNIFORM",
    "Recipe",
    "SyntheticRoutes",
    "gini",
    "overlap",
    "union",
]

RAMP = 6  # layers over which the context comes to its full share
TOKEN_FADE = 0.35  # how much the token itself fades over them
SLOW, SLOW_SHARE = 0.95, 0.22  # what stays from one token to the next, and its share in the context
FAST, FAST_SHARE = 0.64, 0.97

RouteArray = NDArray[np.integer]


@dataclass(frozen=True)
class SyntheticRoutes:
    """Routes, and the linear map that they come from.

    routes   (T, L, K) uint16: expert ids, the highest score first
    scores   (T, L, E) float32: what they were chosen by
    latents  (T, R) float32: the token's vector, the context's, and the norms of their mixtures
    routers  (L, E, R) float32: `routers[l] @ latents[t]` are the scores of layer l, but for their noise

    Without noise (`Recipe(noise=0)`) routes are exactly the top K of that product. What the recipe adds is
    independent for every token, layer and expert: standard deviation `noise` times `norms`, in these units.
    The scale of a token's scores is free, so latents may be normalised.
    """

    routes: NDArray[np.uint16]
    scores: Float32Array
    latents: Float32Array
    routers: Float32Array


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is made, but the seed and the length.

    rank         latent numbers; 0 makes every choice independent and uniform, and leaves nothing else
    bias, noise  standard deviations, of a bias fixed by expert and of noise, where scores have 1
    vocabulary   tokens, drawn with probability 1 / rank^zipf
    domain       tokens until the subject changes; 0 for never
    shift        how far a domain moves the context
    """

    layers: int = 26
    experts: int = 64
    chosen: int = 6
    rank: int = 8
    bias: float = 0.15
    noise: float = 0.13
    vocabulary: int = 4000
    zipf: float = 0.95
    domain: int = 0
    shift: float = 0.5

    def make(self, tokens: int, seed: int) -> SyntheticRoutes:
        """Routes of one text; the same seed gives the same."""
        random = np.random.default_rng(seed)
        if self.rank == 0:
            return self._uniform(tokens, random)
        token, context = self._texts(tokens, random)
        mix = np.minimum(1, np.arange(self.layers) / RAMP)
        weights = random.normal(0, self.rank**-0.5, (self.layers, self.experts, self.rank))
        bias = random.normal(0, self.bias, (self.layers, self.experts))
        levels = np.unique(mix)  # layers that mix alike share a norm
        mixtures = token[:, None] * (1 - TOKEN_FADE * levels[:, None]) + context[:, None] * levels[:, None]
        norms = np.sqrt(np.mean(mixtures**2, axis=2))  # (T, levels)
        level = np.searchsorted(levels, mix)
        own_norm = bias[:, :, None] * (level[:, None] == np.arange(len(levels)))[:, None, :]
        share = mix[:, None, None]
        routers = np.concatenate([weights * (1 - TOKEN_FADE * share), weights * share, own_norm], axis=2)
        latents = np.concatenate([token, context, norms], axis=1).astype(np.float32)
        routers = routers.astype(np.float32)
        routes = np.empty((tokens, self.layers, self.chosen), np.uint16)
        all_scores = np.empty((tokens, self.layers, self.experts), np.float32)
        for layer in range(self.layers):
            scores = latents @ routers[layer].T
            scores += norms[:, level[layer], None] * random.normal(0, self.noise, scores.shape)
            routes[:, layer] = np.argsort(-scores, axis=1)[:, : self.chosen]
            all_scores[:, layer] = scores
        return SyntheticRoutes(routes, all_scores, latents, routers)

    def _uniform(self, tokens: int, random: np.random.Generator) -> SyntheticRoutes:
        """Every choice by itself, from no latent numbers."""
        scores = random.random((tokens, self.layers, self.experts), np.float32)
        routes = np.argsort(scores, axis=2)[:, :, : self.chosen].astype(np.uint16)
        nothing = np.empty((tokens, 0), np.float32)
        return SyntheticRoutes(routes, -scores, nothing, np.empty((self.layers, self.experts, 0), np.float32))

    def _texts(self, tokens: int, random: np.random.Generator) -> tuple[NDArray[np.float64], ...]:
        """Each token's own vector and its context, (T, rank) both."""
        vectors = random.normal(size=(self.vocabulary, self.rank))
        chances = np.arange(1, self.vocabulary + 1) ** -self.zipf
        ids = random.choice(self.vocabulary, tokens, p=chances / chances.sum())
        context = SLOW_SHARE * _drift(SLOW, (tokens, self.rank), random)
        context += FAST_SHARE * _drift(FAST, (tokens, self.rank), random)
        for begin in range(0, tokens if self.domain else 0, self.domain or 1):
            subject = slice(begin, begin + self.domain)
            context[subject] += random.normal(0, self.shift, self.rank)
            # Half of the vocabulary changes places: other words are frequent here.
            words = np.arange(self.vocabulary)
            half = random.permutation(self.vocabulary)[: self.vocabulary // 2]
            words[half] = half[::-1]
            ids[subject] = words[ids[subject]]
        return vectors[ids], context


def _drift(stays: float, shape: tuple[int, int], random: np.random.Generator) -> NDArray[np.float64]:
    """A vector that forgets: x' = stays * x + noise, every number of variance 1."""
    steps = random.normal(size=shape)
    steps[1:] *= (1 - stays**2) ** 0.5
    for before, after in pairwise(steps):
        after += stays * before
    return steps


UNIFORM = Recipe(rank=0)
FITTED = Recipe()
DOMAINS = Recipe(domain=200, bias=0.10)
PESSIMISTIC = Recipe(layers=58, experts=256, chosen=8, rank=16)
OPTIMISTIC = Recipe(layers=58, experts=256, chosen=8, rank=8)


def overlap(routes: RouteArray, lag: int = 1) -> float:
    """The share of a token's experts that the token `lag` before it chose as well, over all layers."""
    now, before = routes[lag:], routes[:-lag]
    return float(np.mean((now[..., :, None] == before[..., None, :]).any(-1)))


def gini(routes: RouteArray, experts: int) -> float:
    """How unequal the experts of a layer are used, mean over layers: 0 for equally, near 1 for one alone."""
    counts = np.stack([np.bincount(layer.ravel(), minlength=experts) for layer in routes.swapaxes(0, 1)])
    shares = np.sort(counts, axis=1) / counts.sum(axis=1, keepdims=True)
    ranks = 2 * np.arange(1, experts + 1) - experts - 1
    return float(np.mean(shares @ ranks / experts))


def union(routes: RouteArray, tokens: int) -> float:
    """Distinct experts of a layer that `tokens` consecutive tokens choose, on average."""
    whole = len(routes) // tokens * tokens
    groups = routes[:whole].reshape(-1, tokens, *routes.shape[1:]).swapaxes(1, 2)
    chosen = np.sort(groups.reshape(*groups.shape[:2], -1), axis=2)
    return float(np.mean(1 + (np.diff(chosen.astype(np.int64), axis=2) != 0).sum(axis=2)))
