"""Synthetic routes against the statistics of the published traces they are fitted to."""

from dataclasses import replace

import numpy as np
import pytest

from araio.testing.routes import DOMAINS, FITTED, OPTIMISTIC, PESSIMISTIC, UNIFORM, gini, overlap, union
from araio.weights.policies import LRU
from araio.weights.simulate import replay

# DeepSeek-V2-Lite on legal text: 8,327 tokens, 26 layers, 6 of 64 experts; means over layers.
PUBLISHED_GINI = 0.304
PUBLISHED_OVERLAP = {1: 0.291, 2: 0.215, 8: 0.168, 64: 0.129}
PUBLISHED_UNION = {2: 10.3, 8: 27.2, 32: 50.5}
PUBLISHED_LRU_HITS = {6: 0.289, 12: 0.422, 32: 0.728, 48: 0.898}


@pytest.fixture(scope="module")
def routes() -> np.ndarray:
    return FITTED.make(tokens=3000, seed=1).routes


def lru_hits(routes: np.ndarray, capacity: int) -> float:
    """Of caches of so many experts, one for each layer, on a few layers of all depths."""
    layers = [routes[:, place : place + 1] for place in range(1, 26, 6)]
    misses = [replay(layer, 64, capacity, LRU(64)).sum() for layer in layers]
    return 1 - float(np.mean(misses)) / routes[:, 0].size


def test_the_fitted_recipe_has_the_locality_of_the_published_model(routes: np.ndarray) -> None:
    # The fit's own error is 0.06 for the Gini coefficient, 0.03 for the overlaps.
    assert gini(routes, 64) == pytest.approx(PUBLISHED_GINI, abs=0.08)
    for lag, published in PUBLISHED_OVERLAP.items():
        assert overlap(routes, lag) == pytest.approx(published, abs=0.035), lag
    for tokens, published in PUBLISHED_UNION.items():
        assert union(routes, tokens) == pytest.approx(published, rel=0.03), tokens


def test_caches_hit_as_often_as_on_the_published_routes(routes: np.ndarray) -> None:
    for capacity, published in PUBLISHED_LRU_HITS.items():
        assert lru_hits(routes[:1500], capacity) == pytest.approx(published, abs=0.03), capacity


def test_early_layers_follow_the_token_and_later_ones_the_context(routes: np.ndarray) -> None:
    assert overlap(routes[:, :1]) < 0.17
    assert overlap(routes[:, 12:13]) > 0.25


def test_uniform_routes_have_no_locality() -> None:
    routes = UNIFORM.make(tokens=2000, seed=3).routes
    assert overlap(routes) == pytest.approx(6 / 64, abs=0.005)
    assert overlap(routes, 8) == pytest.approx(6 / 64, abs=0.005)
    assert gini(routes, 64) < 0.05
    assert union(routes, 8) == pytest.approx(64 * (1 - (58 / 64) ** 8), rel=0.01)


def test_a_new_subject_brings_other_experts() -> None:
    def shift(routes: np.ndarray, begin: int) -> float:
        """How far the loads of 50 tokens are from those of the 50 before, mean over layers: 0 to 1."""
        before, after = (
            np.stack([np.bincount(layer.ravel(), minlength=64) for layer in part.swapaxes(0, 1)])
            for part in (routes[begin - 50 : begin], routes[begin : begin + 50])
        )
        return float(np.abs(before - after).sum(axis=1).mean() / 2 / before[0].sum())

    routes = DOMAINS.make(tokens=4000, seed=1).routes[:, 6:]
    changes = np.mean([shift(routes, begin) for begin in range(200, 3900, 200)])
    within = np.mean([shift(routes, begin) for begin in range(100, 3900, 200)])
    assert changes > within + 0.02


@pytest.mark.parametrize("recipe", [FITTED, DOMAINS, UNIFORM, PESSIMISTIC, OPTIMISTIC])
def test_routes_are_distinct_experts_and_the_seed_decides_them(recipe) -> None:
    made, again, other = recipe.make(20, seed=5), recipe.make(20, seed=5), recipe.make(20, seed=6)
    assert made.routes.shape == (20, recipe.layers, recipe.chosen)
    assert made.routes.max() < recipe.experts
    assert (np.diff(np.sort(made.routes, axis=2).astype(int), axis=2) > 0).all()
    assert (made.routes == again.routes).all()
    assert (made.routes != other.routes).any()
    assert made.routers.shape == (recipe.layers, recipe.experts, made.latents.shape[1])


def test_without_noise_routes_are_the_largest_of_a_linear_map() -> None:
    made = replace(PESSIMISTIC, noise=0, layers=9).make(tokens=50, seed=2)
    scores = np.einsum("ler,tr->tle", made.routers, made.latents)
    assert (np.argsort(-scores, axis=2)[:, :, :8] == made.routes).mean() > 0.999
    noisy = replace(PESSIMISTIC, layers=9).make(tokens=50, seed=2)
    assert (noisy.latents == made.latents).all()
    kept = [len(set(a) & set(b)) / 8 for a, b in zip(noisy.routes[:, 8], made.routes[:, 8], strict=True)]
    assert 0.7 < np.mean(kept) < 1


def test_statistics_on_routes_that_one_can_count() -> None:
    routes = np.array([[0, 1], [1, 2], [1, 2], [3, 0]])[:, None, :]
    assert overlap(routes) == pytest.approx((1 + 2 + 0) / 6)
    assert overlap(routes, 3) == pytest.approx(1 / 2)
    assert union(routes, 2) == pytest.approx((3 + 4) / 2)
    assert gini(routes, 4) == pytest.approx((-3 * 1 - 2 + 2 + 3 * 3) / 8 / 4)
    assert gini(np.array([0, 1, 2, 3])[:, None, None], 4) == 0
