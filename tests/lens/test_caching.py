"""Caches of every size against caches that are played one by one, and against published hit rates."""

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from araio.lens.caching import HALF_LIFE, RULES, caching, distances
from araio.lens.routes import Routes
from araio.testing.routes import FITTED

from .made import random_routes

# Of the fitted recipe, mean over its 26 layers: docs/metrics.md.
LRU = {6: 0.280, 12: 0.435, 32: 0.738, 48: 0.913}
OPTIMAL_12 = 0.596


def played(ids: np.ndarray, capacity: int, rule: str) -> list[bool]:
    """What a cache of one layer (T, K) finds, choice by choice."""
    held: list[int] = []
    found = []
    for token, row in enumerate(ids):
        chosen = row.tolist()
        found += [expert in held for expert in chosen]
        missed = [expert for expert in chosen if expert not in held]
        while len(held) + len(missed) > capacity:
            others = [expert for expert in held if expert not in chosen]
            held.remove(min(others, key=lambda expert: worth(ids[: token + 1], ids, expert, rule)))
        held += missed
    return found


def worth(past: np.ndarray, ids: np.ndarray, expert: int, rule: str) -> tuple[float, ...]:
    """What a rule thinks of an expert after the tokens of `past`, by their order in `ids` (T, K)."""
    uses = [(token, -row.tolist().index(expert)) for token, row in enumerate(past) if expert in row]
    if rule == "lru":
        return uses[-1]
    if rule == "lfu":
        return len(uses), *uses[-1]
    if rule == "fading":
        return sum(2 ** (token / HALF_LIFE) for token, _ in uses), uses[-1][1]
    later = [token for token in range(len(past), len(ids)) if expert in ids[token]]
    return (-later[0] if later else -len(ids),)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.data())
def test_every_size_and_rule_is_that_of_a_cache_played_alone(
    seed: int, experts: int, data: st.DataObject
) -> None:
    top_k = data.draw(st.integers(1, min(3, experts)))
    routes = random_routes(seed, tokens=25, layers=2, experts=experts, top_k=top_k)
    ids = routes.experts.astype(np.int64)
    for rule in RULES:
        places = distances(ids, experts, rule)
        for layer in range(2):
            for capacity in range(top_k, experts + 1):
                expected = played(ids[:, layer], capacity, rule)
                if rule == "optimal":  # of those that are never used again any may leave
                    assert np.count_nonzero(places[:, layer] < capacity) == sum(expected)
                else:
                    assert (places[:, layer] < capacity).ravel().tolist() == expected, (rule, capacity)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 2))
def test_no_other_choice_of_what_leaves_finds_more_than_the_optimum(seed: int, top_k: int) -> None:
    ids = random_routes(seed, tokens=9, layers=1, experts=5, top_k=top_k).experts[:, 0].astype(np.int64)
    for capacity in range(top_k, 5):

        @cache
        def most(token: int, held: frozenset[int], capacity: int = capacity) -> int:
            """Hits from here on, whatever is thrown out."""
            if token == len(ids):
                return 0
            chosen = frozenset(ids[token].tolist())
            others = held - chosen
            kept = min(len(others), capacity - top_k)
            after = (chosen | set(some) for some in combinations(sorted(others), kept))
            return len(chosen & held) + max(most(token + 1, frozenset(one)) for one in after)

        found = np.count_nonzero(distances(ids[:, None], 5, "optimal") < capacity)
        assert found == most(0, frozenset())


def test_published_hit_rates_of_the_fitted_recipe() -> None:
    layers = FITTED.make(tokens=3000, seed=1).routes[:, 1::6]  # some of all depths
    found = caching(Routes.from_arrays(layers, 64))
    hits = {
        rule: dict(zip(found.capacities.tolist(), curve.mean(0), strict=True))
        for rule, curve in found.hits.items()
    }
    shuffled = {rule: curve.mean(0)[16 - 6] for rule, curve in found.shuffled.items()}
    for capacity, published in LRU.items():
        assert hits["lru"][capacity] == pytest.approx(published, abs=0.03), capacity
    assert hits["optimal"][12] == pytest.approx(OPTIMAL_12, abs=0.03)
    assert 0.33 <= shuffled["lru"] <= 0.51  # the range of four published domains
    assert hits["lru"][16] > shuffled["lru"] + 0.1


def test_curves_rise_and_nothing_beats_the_optimum() -> None:
    routes = random_routes(1, tokens=300, layers=3, experts=12, top_k=3)
    found = caching(routes)
    assert found.capacities.tolist() == list(range(3, 13))
    for curves in (found.hits, found.shuffled):
        for rule, curve in curves.items():
            assert (np.diff(curve, axis=1) >= 0).all(), rule
            assert (curve <= curves["optimal"] + 1e-12).all(), rule
            # With room for all of them only the first use of each is missed.
            assert curve[:, -1] == pytest.approx(1 - found.cold)
    assert found.tokens == 300


def test_in_random_order_only_skew_is_left() -> None:
    """Two experts in turns of fifty: next to each other in time, and not in what is left of them."""
    ids = (np.arange(400) // 50 % 2)[:, None, None]
    found = caching(Routes.from_arrays(ids, 2))
    assert found.hits["lru"][0, 0] == pytest.approx(1 - 8 / 400)
    assert found.shuffled["lru"][0, 0] == pytest.approx(0.5, abs=0.08)
    assert (caching(Routes.from_arrays(ids, 2), seed=1).shuffled["lru"] != found.shuffled["lru"]).any()


def test_a_document_has_no_more_sizes_than_one_can_draw() -> None:
    routes = random_routes(1, tokens=60, layers=2, experts=50, top_k=2)
    found = caching(routes)
    document = found.to_json()
    assert len(document["capacities"]) == 33
    assert (document["capacities"][0], document["capacities"][-1]) == (2, 50)
    for place, capacity in enumerate(document["capacities"]):
        assert document["hits"]["lru"][1][place] == pytest.approx(
            found.hits["lru"][1, capacity - 2], rel=1e-5
        )
    small = caching(random_routes(1)).to_json()
    assert small["capacities"] == list(range(2, 9))


def test_a_single_token_and_a_layer_that_uses_all() -> None:
    found = caching(Routes.from_arrays(np.array([[[0, 1]]]), 2))
    assert found.hits["lru"].tolist() == [[0.0]]
    assert found.cold.tolist() == [1.0]
