"""Which experts serve which domain: planted ones are found, and no others."""

import numpy as np
import pytest
from hypothesis import given, settings

from araio.errors import TraceError
from araio.lens.domains import _Sums, adjusted_p, domain_use, domains_of_experts, strongest
from araio.lens.routes import Routes
from araio.traces.columns import Valid
from araio.traces.header import TraceHeader
from araio.traces.trace import Trace

from .made import PLANTED, planted_routes, small_routes


@pytest.mark.parametrize("seed", range(5))
def test_planted_specialists_are_found(seed: int) -> None:
    serves = domain_use(planted_routes(seed)).serves
    found = {tuple(place): int(serves[tuple(place)]) for place in np.argwhere(serves >= 0).tolist()}
    assert {place: found.get(place) for place in PLANTED} == PLANTED
    # One in twenty of those that are named may be wrong.
    assert len(found) <= len(PLANTED) + 1


def test_without_specialists_hardly_any_trace_names_one() -> None:
    """Of traces in which nothing is to be found, the rate of false discoveries is that of naming any."""
    named = [
        (domain_use(planted_routes(seed, strength=0), samples=1).serves >= 0).any() for seed in range(30)
    ]
    assert sum(named) <= 4


def test_p_values_are_uniform_where_there_is_nothing_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("araio.lens.domains.false_discovery", lambda p: p)
    p = np.concatenate(
        [adjusted_p(planted_routes(seed, strength=0, per_domain=8)).ravel() for seed in range(6)]
    )
    for rate in (0.01, 0.05, 0.2, 0.5, 0.8):
        assert np.mean(p <= rate) == pytest.approx(rate, abs=0.01 + 0.1 * rate), rate


def test_few_sequences_are_not_enough_to_be_sure() -> None:
    serves = domain_use(planted_routes(1, per_domain=2)).serves
    assert np.count_nonzero(serves >= 0) <= 1
    single = planted_routes(1, per_domain=1)
    use = domain_use(single)
    assert (use.serves == -1).all()
    assert np.isnan(use.adjusted_p).all()
    assert np.isnan(use.low).all()


def test_one_domain_names_nobody() -> None:
    routes = Routes.from_arrays(planted_routes(1).experts, 16, seq=planted_routes(1).seq)
    use = domain_use(routes)
    assert (use.serves == -1).all()
    assert use.served_by.sum() == 0
    assert np.isnan(use.ratio).all()
    assert not np.isnan(use.low).any()


@settings(max_examples=30)
@given(small_routes())
def test_rates_and_ratios_are_those_of_a_loop(routes: Routes) -> None:
    use = domain_use(routes, samples=5)
    for domain, layer, expert in np.ndindex(routes.counts.shape):
        tokens = int(routes.domain_tokens[domain])
        if tokens == 0:
            assert np.isnan(use.relative[domain, layer, expert])
            continue
        share = routes.counts[domain, layer, expert] / tokens
        assert use.relative[domain, layer, expert] == pytest.approx(share / (routes.top_k / routes.n_experts))
        smooth = {
            d: (routes.counts[d, layer, expert] + 0.5)
            / (routes.domain_tokens[d] + routes.n_experts / (2 * routes.top_k))
            for d in range(len(routes.domains))
            if routes.domain_tokens[d]
        }
        others = [rate for d, rate in smooth.items() if d != domain]
        if not others:
            assert np.isnan(use.ratio[domain, layer, expert])
            assert np.isnan(use.npmi[domain, layer, expert])
            continue
        mean = sum(others) / len(others)
        assert use.ratio[domain, layer, expert] == pytest.approx(smooth[domain] / mean)
        assert use.difference[domain, layer, expert] == pytest.approx(smooth[domain] - mean)
        both, chosen = smooth[domain] / len(smooth), sum(smooth.values()) / len(smooth)
        expected = np.log(both / (chosen / len(smooth))) / -np.log(both)
        assert use.npmi[domain, layer, expert] == pytest.approx(expected)
        assert -1 <= use.npmi[domain, layer, expert] <= 1


def test_the_statistic_is_a_difference_over_the_error_of_ratios() -> None:
    """By hand: two domains of two sequences, of one and three choices each."""
    choices, domain = np.array([1.0, 3.0, 1.0, 3.0]), np.array([0, 0, 1, 1])
    alike = np.array([[1.0], [1.0], [0.0], [2.0]])  # two of four choices in either
    assert _Sums(alike, alike**2, choices).contrasts(domain, 2).tolist() == [[0], [0]]
    counts = np.array([[1.0], [2.0], [0.0], [1.0]])
    q0, q1 = 3 / 4, 1 / 4
    first = 2 * ((1 - q0) ** 2 + (2 - 3 * q0) ** 2) / 16
    second = 2 * ((0 - q1) ** 2 + (1 - 3 * q1) ** 2) / 16
    found = _Sums(counts, counts**2, choices).contrasts(domain, 2)[:, 0]
    assert found == pytest.approx(np.array([1, -1]) * (q0 - q1) / np.sqrt(first + second))


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Of loads that are known: three experts in ten tokens each, with sequences that differ by chance."""
    random = np.random.default_rng(1)
    inside = []
    for seed in range(60):
        sequences = 30
        favours = random.random((sequences, 4)) + 0.2  # every sequence its own taste, alike on average
        chances = np.repeat(favours / favours.sum(1, keepdims=True), 10, axis=0)
        ids = np.argmax(np.cumsum(chances, axis=1) > random.random((len(chances), 1)), axis=1)
        routes = Routes.from_arrays(ids[:, None, None], 4, seq=np.repeat(np.arange(sequences), 10))
        use = domain_use(routes, seed)
        inside.append((use.low <= 1) & (use.high >= 1))
    assert np.mean(inside) == pytest.approx(0.94, abs=0.04)


def test_an_expert_that_only_one_domain_uses_is_sure() -> None:
    ids = np.repeat([[[0]], [[1]]], 20, axis=0)
    seq = np.arange(40) // 2
    use = domain_use(Routes.from_arrays(ids, 3, seq=seq, domain=seq // 10))
    assert use.serves.tolist() == [[0, 1, -1]]
    assert use.served_by.tolist() == [[1], [1]]
    assert use.relative[:, 0].tolist() == [[3, 0, 0], [0, 3, 0]]
    assert use.npmi[0, 0, 0] > 0.8 > 0 > use.npmi[1, 0, 0]
    assert use.difference[0, 0, 0] > 0.8


def test_the_strongest_come_first() -> None:
    routes = planted_routes(1)
    use = domain_use(routes)
    named = strongest(use, (4, 5, 6))
    assert {(one.layer - 4, one.expert): one.domain for one in named}.items() >= PLANTED.items()
    for domain in range(3):
        mine = [(one.layer - 4, one.expert) for one in named if one.domain == domain]
        ahead = [
            use.relative[domain, layer, expert] - np.delete(use.relative[:, layer, expert], domain).max()
            for layer, expert in mine
        ]
        assert ahead == sorted(ahead, reverse=True)
    assert all(one.low < one.relative < one.high and one.adjusted_p <= 0.05 for one in named)
    assert len(strongest(use, (4, 5, 6), most=1)) == 3


def test_of_a_trace_by_layer_and_expert() -> None:
    routes = planted_routes(1)
    header = TraceHeader(n_routed_experts=16, top_k=4, domains=routes.domains)
    columns = {"expert_ids": routes.experts, "seq": routes.seq, "domain": routes.domain}
    trace = Trace.from_arrays(header, **columns)
    table = domains_of_experts(trace)
    assert (len(table), len(table[0])) == (3, 16)
    assert all(table[layer][expert] == domain for (layer, expert), domain in PLANTED.items())
    assert table[1].count(None) >= 15
    columns |= {"expert_ids": 0 * routes.experts, "valid": np.full(routes.tokens, Valid.CACHED)}
    with pytest.raises(TraceError, match="has known experts in any phase"):
        domains_of_experts(Trace.from_arrays(header, **columns))
