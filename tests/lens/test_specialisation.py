"""Divergence and information against loops, hand-made cases and what chance alone makes of them."""

import math

import numpy as np
import pytest
from hypothesis import given

from araio.lens.domains import domain_use
from araio.lens.routes import Routes
from araio.lens.specialisation import divergence, information, jensen_shannon_bits

from .made import PLANTED, planted_routes, small_routes


def test_divergence_of_shares_that_one_can_compute() -> None:
    one, other = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.5, 0.5])
    assert jensen_shannon_bits(one, one) == 0
    assert jensen_shannon_bits(one, other) == pytest.approx(1)
    half = np.array([0.5, 0.5, 0.0])
    expected = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)) - 0.5
    assert jensen_shannon_bits(one, half) == pytest.approx(expected)


@given(small_routes())
def test_both_are_those_of_a_loop(routes: Routes) -> None:
    found = divergence(routes, splits=1)
    told = information(routes, permutations=1)
    present = [d for d in range(len(routes.domains)) if routes.domain_tokens[d]]
    assert told.most == pytest.approx(math.log2(len(present)))
    for layer in range(routes.depth):
        shares = {d: [n / routes.counts[d, layer].sum() for n in routes.counts[d, layer]] for d in present}
        mean = [sum(shares[d][e] for d in present) / len(present) for e in range(routes.n_experts)]
        bits = _entropy(mean) - sum(_entropy(shares[d]) for d in present) / len(present)
        assert told.bits[layer] == pytest.approx(bits, abs=1e-9)
        for a in present:
            for b in present:
                middle = [(p + q) / 2 for p, q in zip(shares[a], shares[b], strict=True)]
                bits = _entropy(middle) - (_entropy(shares[a]) + _entropy(shares[b])) / 2
                assert found.bits[a, b, layer] == pytest.approx(bits, abs=1e-9)
        for absent in set(range(len(routes.domains))) - set(present):
            assert np.isnan(found.bits[absent, :, layer]).all()


def _entropy(shares: list[float]) -> float:
    return -sum(q * math.log2(q) for q in shares if q)


def test_of_two_domains_information_is_their_divergence() -> None:
    routes = planted_routes(1)
    two = routes.select(routes.domain < 2)
    assert information(two, permutations=1).bits == pytest.approx(divergence(two, splits=1).bits[0, 1])


def test_without_specialists_divergence_is_at_its_floor_and_information_in_its_null() -> None:
    routes = planted_routes(2, strength=0)
    found, told = divergence(routes), information(routes)
    # Halves have half the tokens, so that the floor is about twice what whole domains show.
    assert (found.mean_bits < found.mean_floor).all()
    assert (found.mean_bits > found.mean_floor / 4).all()
    assert found.mean_excess == pytest.approx(np.zeros(3), abs=0.1 * found.mean_floor.max())
    assert (told.bits < told.null_high * 1.2).all()
    assert (told.p > 0.02).all()


def test_p_values_of_information_are_uniform_where_there_is_nothing_to_find() -> None:
    p = np.concatenate(
        [information(planted_routes(seed, strength=0, per_domain=8), permutations=60).p for seed in range(40)]
    )
    # 120 values, three of a trace alike in nothing but their sequences.
    assert np.mean(p) == pytest.approx(0.5, abs=0.1)
    assert np.mean(p <= 0.1) <= 0.2
    assert np.mean(p > 0.5) == pytest.approx(0.5, abs=0.17)


def test_tokens_that_are_alike_within_sequences_do_not_pass_for_specialisation() -> None:
    """Were tokens what is dealt anew, the sequences' own tastes would look like their domains'."""
    routes = planted_routes(3, strength=0, per_domain=3)
    told = information(routes, permutations=100)
    tokens = Routes.from_arrays(
        routes.experts, 16, seq=np.arange(routes.tokens), domain=routes.domain, domains=routes.domains
    )
    naive = information(tokens, permutations=100)
    assert naive.bits == pytest.approx(told.bits)
    assert (naive.p < 0.02).all()
    assert told.p.min() > 0.02


def test_the_null_is_too_low_where_one_domain_has_short_texts_and_floor_and_single_tests_hold() -> None:
    random = np.random.default_rng(1)
    seq = np.repeat(np.arange(40), np.repeat([200, 20], 20))
    ids = np.argsort(random.gumbel(size=(len(seq), 8, 16)), axis=2)[..., :4]
    routes = Routes.from_arrays(ids, 16, seq=seq, domain=seq // 20)
    found, told = divergence(routes), information(routes)
    # Noise is 1 / 4,000 + 1 / 400 tokens, and of dealt domains 2 / 2,200: docs/metrics.md warns of that.
    assert (told.bits / told.null_mean).mean() == pytest.approx(3.0, rel=0.25)
    assert np.median(told.p) < 0.02
    assert (found.mean_bits < found.mean_floor).mean() > 0.9
    assert (domain_use(routes, samples=2).serves < 0).all()


def test_layers_with_specialists_are_told_from_those_without() -> None:
    routes = planted_routes(4)
    found, told = divergence(routes), information(routes)
    layers = sorted({layer for layer, _ in PLANTED})
    for layer in range(3):
        is_planted = layer in layers
        assert (found.mean_bits[layer] > 1.5 * found.mean_floor[layer]) == is_planted, layer
        assert (told.p[layer] <= 1 / 201) == is_planted, layer


def test_domains_that_share_no_expert_are_a_bit_apart() -> None:
    ids = np.repeat([[[0, 1]], [[2, 3]]], 8, axis=0)
    seq = np.arange(16) // 2
    routes = Routes.from_arrays(ids, 4, seq=seq, domain=seq // 4)
    found, told = divergence(routes), information(routes)
    assert found.bits[0, 1].tolist() == [1.0]
    assert found.floor[0, 1].tolist() == [0.0]
    assert told.bits.tolist() == [1.0]
    assert told.excess[0] > 0.5


def test_one_domain_and_one_sequence_have_nothing_to_compare() -> None:
    routes = Routes.from_arrays(np.array([[[0]], [[1]]]), 2)
    found, told = divergence(routes), information(routes)
    assert np.isnan(found.mean_bits).all()
    assert np.isnan(found.floor).all()
    assert told.bits.tolist() == [0]
    assert told.p.tolist() == [1]


def test_the_seed_decides() -> None:
    routes = planted_routes(5, per_domain=4)
    one, same, other = (information(routes, seed, permutations=20) for seed in (1, 1, 2))
    assert (one.null_mean == same.null_mean).all()
    assert (one.null_mean != other.null_mean).any()
    assert (divergence(routes, 1).floor != divergence(routes, 2).floor).any()
