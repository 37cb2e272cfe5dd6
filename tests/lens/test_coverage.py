"""What kept experts cover, counted one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from araio.lens.coverage import coverage, coverage_curve, most_used
from araio.lens.routes import Routes
from araio.testing.routes import FITTED

from .made import planted_routes, rows, small_routes


@given(small_routes(), st.integers(0, 2**32 - 1))
def test_coverage_is_that_of_a_loop(routes: Routes, seed: int) -> None:
    kept = np.random.default_rng(seed).random(routes.counts.shape[1:]) < 0.5
    found = coverage(routes, kept)
    domains = len(routes.domains)
    inside = np.zeros((domains, routes.depth))
    choices, weight, total = np.zeros(inside.shape), np.zeros(inside.shape), np.zeros(inside.shape)
    whole = np.ones(routes.tokens, bool)
    for token, layer, chosen in rows(routes):
        domain = routes.domain[token]
        is_kept = [bool(kept[layer, expert]) for expert in chosen]
        inside[domain, layer] += all(is_kept)
        whole[token] &= all(is_kept)
        choices[domain, layer] += sum(is_kept)
        weight[domain, layer] += routes.weights[token, layer][is_kept].sum()
        total[domain, layer] += routes.weights[token, layer].sum()
    for domain in range(domains):
        tokens = routes.domain_tokens[domain]
        if tokens == 0:
            assert np.isnan(found.choices[domain]).all()
            assert np.isnan(found.all_inside[domain]).all()
            assert np.isnan(found.whole_path[domain])
            continue
        assert found.all_inside[domain] == pytest.approx(inside[domain] / tokens)
        assert found.choices[domain] == pytest.approx(choices[domain] / (tokens * routes.top_k))
        assert found.weight[domain] == pytest.approx(weight[domain] / total[domain], rel=1e-5)
        assert found.whole_path[domain] == pytest.approx(whole[routes.domain == domain].mean())
    assert (found.kept == np.count_nonzero(kept, axis=1)).all()


def test_every_domain_may_have_a_set_of_its_own() -> None:
    routes = Routes.from_arrays(np.array([0, 1, 1])[:, None, None], 2, domain=np.array([0, 0, 1]))
    kept = np.array([[[True, False]], [[False, True]]])
    assert coverage(routes, kept).choices.tolist() == [[0.5], [1.0]]
    assert np.isnan(coverage(routes, kept).weight).all()


def test_the_most_used_are_kept_and_of_equal_ones_the_first() -> None:
    assert most_used(np.array([[5, 9, 5, 0]]), 2).tolist() == [[True, True, False, False]]
    assert most_used(np.array([5, 9, 5, 0]), 0).sum() == 0


def test_all_experts_cover_all_and_a_foreign_set_less_than_the_own() -> None:
    curve = coverage_curve(planted_routes(1, strength=4), sizes=[4, 8, 16])
    assert curve.covered[-1] == pytest.approx(np.ones((3, 3)))
    own = np.einsum("cdd->cd", curve.covered)
    others = (curve.covered.sum(1) - own) / 2
    assert (own[:2] > others[:2]).all()
    assert (np.diff(curve.covered, axis=0) > 0).all()


def test_a_domain_of_one_sequence_has_no_other_sequences_to_be_tried_on() -> None:
    routes = planted_routes(1, per_domain=2)
    single = routes.select((routes.domain != 2) | (routes.seq == 2))
    covered = coverage_curve(single).covered
    assert np.isnan(covered[:, 2]).all()
    assert np.isnan(covered[:, :, 2]).all()
    assert not np.isnan(covered[:, :2, :2]).any()


def test_half_of_the_experts_hold_few_whole_paths() -> None:
    """Experts of 26 layers: four choices of five are covered, and no token keeps its path."""
    routes = Routes.from_arrays(FITTED.make(tokens=2000, seed=1).routes, 64)
    found = coverage(routes, most_used(routes.counts, 32))
    assert found.choices.mean() == pytest.approx(0.76, abs=0.03)  # 0.71 to 0.85 were measured
    assert 0.1 < found.all_inside.mean() < 0.35
    assert found.whole_path[0] < 0.01
