"""Reuse against loops, and against the figures that the fitted recipe was made for."""

import numpy as np
import pytest
from hypothesis import given, settings

from araio.lens.reuse import reuse
from araio.lens.routes import Routes
from araio.testing.routes import FITTED, UNIFORM, union

from .made import small_routes

# Of the fitted recipe, 26 layers, 6 of 64 experts: docs/metrics.md.
OVERLAP = {1: 0.284, 2: 0.227, 8: 0.143, 64: 0.132}
UNION = {2: 10.3, 8: 26.8, 32: 49.8}


@settings(max_examples=50)
@given(small_routes())
def test_overlap_windows_and_runs_are_those_of_a_loop(routes: Routes) -> None:
    found = reuse(routes, lags=(1, 2), windows=(1, 3), runs=(2, 3))
    where = {(s, p): t for t, (s, p) in enumerate(zip(routes.seq, routes.position, strict=True))}
    for layer in range(routes.depth):
        chosen = [set(routes.experts[token, layer].tolist()) for token in range(routes.tokens)]
        for place, lag in enumerate((1, 2)):
            shared = [
                len(chosen[t] & chosen[where[s, p - lag]])
                for (s, p), t in where.items()
                if (s, p - lag) in where
            ]
            _same(found.overlap[layer, place], [count / routes.top_k for count in shared])
            if lag == 1:
                for count in range(routes.top_k + 1):
                    _same(found.previous[layer, count], [one == count for one in shared])
        for place, window in enumerate((1, 3)):
            seen = []
            for (s, p), t in where.items():
                if (s, p - 1) in where:
                    earlier = [where[s, p - lag] for lag in range(1, window + 1) if (s, p - lag) in where]
                    seen += [any(e in chosen[other] for other in earlier) for e in chosen[t]]
            _same(found.within[layer, place], seen)
        for place, run in enumerate((2, 3)):
            sizes = []
            for stretch in _stretches(routes):
                begins = range(0, len(stretch) // run * run, run)
                sizes += [len(set().union(*(chosen[t] for t in stretch[at : at + run]))) for at in begins]
            _same(found.union[layer, place], sizes)
        same = [
            sum((routes.counts[d, layer] / routes.domain_tokens[d]) ** 2) / routes.top_k
            for d in routes.domain.tolist()
        ]
        assert found.overlap_same[layer] == pytest.approx(np.mean(same))
        whole = [
            len(set().union(*(chosen[t] for t in np.flatnonzero(routes.seq == s))))
            for s in range(routes.sequences)
        ]
        assert found.per_sequence[layer] == pytest.approx(np.mean(whole))


def _stretches(routes: Routes) -> list[list[int]]:
    """Tokens of one sequence whose positions leave no gap."""
    found: list[list[int]] = []
    for token, place in enumerate(zip(routes.seq, routes.position, strict=True)):
        if token and place == (routes.seq[token - 1], routes.position[token - 1] + 1):
            found[-1].append(token)
        else:
            found.append([token])
    return found


def _same(found: float, values: list[float]) -> None:
    """A mean, or NaN of nothing."""
    assert found == pytest.approx(np.mean(values) if values else np.nan, nan_ok=True)


def test_nothing_reaches_over_the_border_of_two_sequences() -> None:
    ids = np.zeros((4, 1, 1), int)
    found = reuse(
        Routes.from_arrays(ids, 3, seq=np.array([0, 0, 1, 1])), lags=(1, 2), windows=(8,), runs=(2, 3)
    )
    assert found.overlap[0, 0] == 1
    assert np.isnan(found.overlap[0, 1])
    assert found.within.tolist() == [[1.0]]
    assert found.union[0, 0] == 1
    assert np.isnan(found.union[0, 1])


def test_a_gap_in_positions_is_no_neighbour() -> None:
    ids = np.array([0, 0, 0])[:, None, None]
    routes = Routes.from_arrays(ids, 3, position=np.array([0, 5, 6]))
    found = reuse(routes, lags=(1, 5, 6), runs=(2, 3))
    assert found.overlap.tolist() == [[1.0, 1.0, 1.0]]
    assert found.union[0, 0] == 1
    assert np.isnan(found.union[0, 1])
    assert found.previous[0].tolist() == [0, 1]


def test_published_figures_of_the_fitted_recipe() -> None:
    routes = Routes.from_arrays(FITTED.make(tokens=4000, seed=1).routes, 64)
    found = reuse(routes, lags=tuple(OVERLAP), runs=tuple(UNION))
    assert found.overlap.mean(0) == pytest.approx(list(OVERLAP.values()), abs=0.01)
    assert found.union.mean(0) == pytest.approx(list(UNION.values()), abs=0.4)
    assert found.union[:, 1].mean() == pytest.approx(union(routes.experts, 8))
    # What is left at a distance of 64 is what the loads alone give.
    assert found.overlap[:, 3] == pytest.approx(found.overlap_same, abs=0.02)


def test_uniform_routes_are_at_both_baselines() -> None:
    found = reuse(Routes.from_arrays(UNIFORM.make(tokens=3000, seed=1).routes, 64))
    assert found.overlap.mean(0) == pytest.approx(np.full(7, found.overlap_uniform), abs=0.003)
    assert found.overlap_same.mean() == pytest.approx(found.overlap_uniform, abs=0.001)
    assert found.union.mean(0) == pytest.approx(found.union_uniform, rel=0.01)
