"""Weights and margins."""

from dataclasses import replace

import numpy as np
import pytest

from araio.lens.gates import QUANTILES, gates

from .made import random_routes


def test_weights_are_shared_out_by_rank() -> None:
    routes = random_routes(1, tokens=500, layers=2, top_k=3)
    found = gates(routes)
    for layer in range(2):
        total = [float(token.sum()) for token in routes.weights[:, layer]]
        share = np.zeros(3)
        for weights in routes.weights[:, layer]:
            share += weights / weights.sum() / 500
        assert found.shares[layer] == pytest.approx(share, rel=1e-5)
        assert found.mass[layer] == pytest.approx(np.quantile(total, QUANTILES), rel=1e-5)
        assert found.margin[layer] == pytest.approx(np.quantile(routes.margin[:, layer], QUANTILES), rel=1e-5)
    assert found.shares.sum(1) == pytest.approx([1, 1])
    assert (np.diff(found.shares, axis=1) < 0).all()


def test_what_a_trace_does_not_have_is_unknown() -> None:
    bare = replace(random_routes(1), weights=None, margin=None)
    found = gates(bare)
    assert np.isnan(found.shares).all()
    assert np.isnan(found.mass).all()
    assert np.isnan(found.margin).all()


def test_a_token_of_no_weight_at_all_counts_in_its_sum_only() -> None:
    routes = random_routes(1, tokens=2, layers=1)
    weights = np.array([[[0.0, 0.0]], [[3.0, 1.0]]], np.float32)
    found = gates(replace(routes, weights=weights))
    assert found.shares.tolist() == [[0.75, 0.25]]
    assert found.mass[0, 2] == 2
    assert np.isnan(gates(replace(routes, weights=0 * weights)).shares).all()
