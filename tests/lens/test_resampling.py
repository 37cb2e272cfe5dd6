"""Nulls: what is dealt, halved, drawn, and what p-values make of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from araio.lens.resampling import (
    dealt,
    drawn,
    false_discovery,
    halves,
    membership,
    p_value,
    pooled_p_value,
)

DOMAIN = np.array([0, 0, 0, 1, 1, 2])


def test_dealing_keeps_how_many_sequences_a_domain_has() -> None:
    random = np.random.default_rng(1)
    seen = {tuple(dealt(DOMAIN, random).tolist()) for _ in range(500)}
    assert all(sorted(one) == sorted(DOMAIN.tolist()) for one in seen)
    assert len(seen) == 60  # 6! / (3! 2! 1!): every arrangement


def test_halves_are_halves_and_an_odd_one_goes_either_way() -> None:
    random = np.random.default_rng(1)
    sizes = set()
    for _ in range(200):
        first = halves(DOMAIN, 3, random)
        sizes.add(tuple(int(first[index == DOMAIN].sum()) for index in range(3)))
    assert sizes == {(a, 1, c) for a in (1, 2) for c in (0, 1)}


def test_bootstrap_samples_have_as_many_sequences() -> None:
    samples = drawn(5, 100, np.random.default_rng(1))
    assert (samples.sum(1) == 5).all()
    assert samples.mean(0) == pytest.approx(np.ones(5), abs=0.3)


def test_membership_sums_sequences_of_a_domain() -> None:
    assert (membership(DOMAIN, 3) @ np.arange(6)).tolist() == [3, 7, 5]


def test_a_p_value_is_never_zero_and_counts_equal_ones() -> None:
    null = np.array([[1.0], [2.0], [3.0], [4.0]])
    assert p_value(np.array([9.0]), null).tolist() == [1 / 5]
    assert p_value(np.array([3.0]), null).tolist() == [3 / 5]
    assert p_value(np.array([0.0]), null).tolist() == [1]


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_a_pooled_p_value_counts_all_nulls(observed: list[int], seed: int) -> None:
    null = np.random.default_rng(seed).integers(-5, 6, (7, len(observed))).astype(float)
    expected = [(1 + np.count_nonzero(null >= one)) / (1 + null.size) for one in observed]
    assert pooled_p_value(np.array(observed, float), null).tolist() == expected


def test_an_infinite_statistic_is_beyond_a_finite_null() -> None:
    p = pooled_p_value(np.array([np.inf, -np.inf]), np.zeros((4, 2)))
    assert p.tolist() == [1 / 9, 1]


@given(st.lists(st.sampled_from([0.001, 0.01, 0.02, 0.04, 0.2, 0.5, 1.0]), min_size=1, max_size=12))
def test_false_discovery_follows_its_definition(p: list[float]) -> None:
    """At every rate, what is below it is what the step-up rule rejects."""
    adjusted = false_discovery(np.array(p))
    for rate in (0.011, 0.05, 0.11, 0.3):
        rising = sorted(p)
        passed = [k for k in range(1, len(p) + 1) if rising[k - 1] <= rate * k / len(p)]
        bar = rising[max(passed) - 1] if passed else -1
        assert [value <= rate for value in adjusted] == [value <= bar for value in p]


def test_what_was_not_tested_does_not_count() -> None:
    adjusted = false_discovery(np.array([[0.01, np.nan], [np.nan, 0.5]]))
    assert adjusted[0, 0] == pytest.approx(0.02)
    assert adjusted[1, 1] == 0.5
    assert np.isnan(adjusted[0, 1])
