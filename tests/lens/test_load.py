"""Load metrics against loops, hand-made cases and their bounds."""

import math

import numpy as np
import pytest
from hypothesis import given

from araio.lens.load import load_of
from araio.lens.routes import Routes
from araio.testing.routes import FITTED, UNIFORM, gini

from .made import small_routes


def test_equal_loads() -> None:
    load = load_of(np.full((1, 8), 5), top_k=2)
    assert load.relative.tolist() == [[1.0] * 8]
    assert load.imbalance == pytest.approx([0])
    assert load.gini == pytest.approx([0])
    assert load.entropy_bits == pytest.approx([3])
    assert load.entropy_scaled == pytest.approx([1])
    assert load.effective_experts == pytest.approx([8])
    assert load.kl_to_uniform_bits == pytest.approx([0])
    assert load.experts_for.tolist() == [[4, 7, 8, 8, 8]]


def test_the_same_experts_for_every_token_reach_the_bounds() -> None:
    load = load_of(np.array([[9, 0, 0, 9, 0, 0, 0, 0]]), top_k=2)
    assert load.gini_bound == 0.75
    assert load.gini == pytest.approx([0.75])
    assert load.gini_scaled == pytest.approx([1])
    assert load.entropy_bits == pytest.approx([1])
    assert load.entropy_scaled == pytest.approx([0])
    assert load.effective_experts == pytest.approx([2])
    assert load.imbalance == pytest.approx([3])
    assert load.busiest.tolist() == [0]
    assert load.unused.tolist() == [6]
    assert load.experts_for.tolist() == [[1, 2, 2, 2, 2]]


def test_a_layer_without_choices_is_unknown() -> None:
    load = load_of(np.zeros((1, 4), int), top_k=1)
    for value in (load.relative, load.gini, load.entropy_bits, load.effective_experts, load.imbalance):
        assert np.isnan(value).all()
    assert load.busiest.tolist() == load.unused.tolist() == [-1]
    assert load.experts_for.tolist() == [[-1] * 5]


def test_all_experts_for_every_token_cannot_be_uneven() -> None:
    load = load_of(np.array([[3, 3]]), top_k=2)
    assert load.gini_scaled.tolist() == [0]
    assert load.entropy_scaled.tolist() == [1]


@given(small_routes())
def test_loads_are_those_of_a_loop(routes: Routes) -> None:
    counts = routes.counts.sum(0)
    load = load_of(counts, routes.top_k)
    for layer, row in enumerate(counts.tolist()):
        share = [count / sum(row) for count in row]
        differences = sum(abs(a - b) for a in share for b in share)
        assert load.gini[layer] == pytest.approx(differences / (2 * len(row)), abs=1e-12)
        entropy = -sum(q * math.log2(q) for q in share if q)
        assert load.entropy_bits[layer] == pytest.approx(entropy, abs=1e-12)
        assert load.imbalance[layer] == pytest.approx(max(row) / (sum(row) / len(row)) - 1)
        falling = sorted(share, reverse=True)
        needed = next(n for n in range(1, len(row) + 1) if sum(falling[:n]) >= 0.8 - 1e-12)
        assert load.experts_for[layer, 1] == needed
    assert (load.gini <= load.gini_bound + 1e-12).all()
    assert (load.entropy_scaled >= -1e-12).all()


def test_published_loads() -> None:
    """The fitted recipe's 0.365, and uniform routes."""
    made = FITTED.make(tokens=3000, seed=1)
    load = load_of(Routes.from_arrays(made.routes, 64).counts[0], 6)
    assert load.gini.mean() == pytest.approx(0.365, abs=0.02)
    assert load.gini.mean() == pytest.approx(gini(made.routes, 64))
    even = load_of(Routes.from_arrays(UNIFORM.make(tokens=3000, seed=1).routes, 64).counts[0], 6)
    assert even.entropy_scaled.min() > 0.99
