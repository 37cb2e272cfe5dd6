"""Pairs of experts against loops, and the lift that the way of choosing alone gives."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings

from araio.lens.coactivation import LEAST_EXPECTED, coactivation, structural_lift, transitions
from araio.lens.routes import Routes
from araio.testing.routes import FITTED, UNIFORM

from .made import rows, small_routes


@settings(max_examples=40)
@given(small_routes())
def test_pairs_and_transitions_are_those_of_a_loop(routes: Routes) -> None:
    experts = routes.n_experts
    pairs = np.zeros((routes.depth, experts, experts), int)
    steps = np.zeros((routes.depth - 1, experts, experts), int)
    for token, layer, chosen in rows(routes):
        for a in chosen:
            for b in chosen:
                pairs[layer, a, b] += 1
            for b in routes.experts[token, layer + 1].tolist() if layer + 1 < routes.depth else []:
                steps[layer, a, b] += 1
    found, moved = coactivation(routes), transitions(routes)
    assert (found.pairs == pairs).all()
    assert (moved.counts == steps).all()
    counts = routes.counts.sum(0)
    for layer, a, b in np.ndindex(pairs.shape):
        expected = counts[layer, a] * counts[layer, b] / routes.tokens
        if a == b or expected < LEAST_EXPECTED:
            assert np.isnan(found.lift[layer, a, b])
        else:
            assert found.lift[layer, a, b] == pytest.approx(pairs[layer, a, b] / expected)
    for layer in range(routes.depth - 1):
        joint = steps[layer] / steps[layer].sum()
        bits = sum(
            joint[a, b] * math.log2(joint[a, b] / (joint[a].sum() * joint[:, b].sum()))
            for a, b in np.argwhere(joint > 0)
        )
        assert moved.information[layer] == pytest.approx(bits, abs=1e-9)


def test_the_structural_lift_of_published_shapes() -> None:
    assert structural_lift(64, 6)[0] == pytest.approx(0.847, abs=5e-4)
    assert structural_lift(256, 8)[0] == pytest.approx(0.878, abs=5e-4)


@pytest.mark.parametrize(("experts", "top_k", "groups", "chosen"), [(8, 2, 4, 2), (6, 3, 3, 2), (6, 2, 2, 1)])
def test_the_structural_lift_counts_every_way_of_choosing(experts, top_k, groups, chosen) -> None:
    size = experts // groups
    both = np.zeros((experts, experts))
    ways = 0
    for some in combinations(range(groups), chosen):
        left = [expert for expert in range(experts) if expert // size in some]
        for taken in combinations(left, top_k):
            ways += 1
            for a in taken:
                both[a, list(taken)] += 1
    lift = both / ways / (top_k / experts) ** 2
    within, between = structural_lift(experts, top_k, groups, chosen)
    assert lift[0, 1] == pytest.approx(within)
    assert lift[0, experts - 1] == pytest.approx(between)


def test_experts_alone_in_their_groups_have_no_pair_within() -> None:
    within, between = structural_lift(4, 2, 4, 2)
    assert np.isnan(within)
    assert between > 0
    assert np.isnan(structural_lift(4, 1, 4, 1)[0])


def test_uniform_routes_are_at_the_baseline_and_groups_are_told_apart() -> None:
    routes = Routes.from_arrays(UNIFORM.make(tokens=3000, seed=1).routes[:, :3], 64)
    found = coactivation(routes)
    assert found.within == pytest.approx(np.full(3, found.within_structural), rel=0.01)
    assert np.isnan(found.between).all()
    assert found.quantiles[:, 2] == pytest.approx(np.full(3, found.within_structural), rel=0.05)
    random = np.random.default_rng(1)
    group = random.integers(0, 2, 2000)
    ids = np.argsort(random.random((2000, 4)), axis=1)[:, :2] + 4 * group[:, None]
    of_groups = Routes.from_arrays(ids[:, None], 8, n_group=2, topk_group=1)
    grouped = coactivation(of_groups)
    assert grouped.within[0] == pytest.approx(grouped.within_structural, rel=0.01)
    assert grouped.between[0] == grouped.between_structural == 0


def test_a_planted_pair_comes_first() -> None:
    random = np.random.default_rng(1)
    ids = np.argsort(random.random((2000, 2, 8)), axis=2)[..., :2]
    ids[::4, 1] = [6, 2]
    found = coactivation(Routes.from_arrays(ids, 8, layers=(5, 9)), top=3)
    assert [(one.layer, one.first, one.second) for one in found.top[:1]] == [(9, 2, 6)]
    assert found.top[0].count == found.pairs[1, 2, 6] >= 500
    assert [one.lift for one in found.top] == sorted((one.lift for one in found.top), reverse=True)
    assert len(found.top) == 3


def test_layers_that_follow_each_other_say_more_than_chance() -> None:
    fitted = transitions(Routes.from_arrays(FITTED.make(tokens=1500, seed=1).routes[:, 6:9], 64))
    uniform = transitions(Routes.from_arrays(UNIFORM.make(tokens=1500, seed=1).routes[:, 6:9], 64))
    assert (fitted.information > 3 * uniform.information).all()
    assert fitted.top[0].lift > 4


def test_one_layer_has_no_next() -> None:
    moved = transitions(Routes.from_arrays(np.array([[[0]]]), 2))
    assert moved.information.shape == (0,)
    assert moved.top == ()
