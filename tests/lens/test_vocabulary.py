"""What experts know of words, and of domains beyond their words."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings

from araio.errors import TraceError
from araio.lens.routes import Routes
from araio.lens.vocabulary import vocabulary

from .made import random_routes, small_routes


def _entropy(counts: Counter[int]) -> float:
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values() if n)


@settings(max_examples=40)
@given(small_routes())
def test_shares_and_information_are_those_of_a_loop(routes: Routes) -> None:
    found = vocabulary(routes, least=3, permutations=1)
    occurs = Counter(routes.token_id.tolist())
    kinds = [kind for kind, n in occurs.items() if n >= 3]
    assert found.kinds == len(kinds)
    assert found.covered == pytest.approx(sum(occurs[kind] for kind in kinds) / routes.tokens)
    for layer in range(routes.depth):
        by_kind = {kind: _chosen(routes, layer, routes.token_id == kind) for kind in kinds}
        share = [max(counts.values()) / occurs[kind] for kind, counts in by_kind.items()]
        assert found.share[layer] == pytest.approx(np.mean(share) if kinds else np.nan, nan_ok=True)
        bits = _information(by_kind) if kinds else np.nan
        assert found.token_bits[layer] == pytest.approx(bits, abs=1e-9, nan_ok=True)
        cells = Counter(zip(routes.token_id.tolist(), routes.domain.tolist(), strict=True))
        domains_of = defaultdict(list)
        for (kind, _), n in cells.items():
            domains_of[kind].append(n)
        counted = [k for k in kinds if sum(n >= 3 for n in domains_of[k]) >= 2]
        assert found.domain_kinds == len(counted)
        per_kind = [
            _information(
                {
                    d: _chosen(routes, layer, (routes.token_id == kind) & (routes.domain == d))
                    for d in range(3)
                }
            )
            for kind in counted
        ]
        expected = np.average(per_kind, weights=[occurs[k] for k in counted]) if counted else np.nan
        assert found.domain_bits[layer] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def _chosen(routes: Routes, layer: int, where: np.ndarray) -> Counter[int]:
    return Counter(routes.experts[where, layer].ravel().tolist())


def _information(cells: dict[int, Counter[int]]) -> float:
    total = sum((counts for counts in cells.values()), Counter())
    weight = {cell: sum(counts.values()) / sum(total.values()) for cell, counts in cells.items()}
    return _entropy(total) - sum(weight[cell] * _entropy(counts) for cell, counts in cells.items() if counts)


def _routes(by_word: float, by_domain: float, seed: int = 1) -> Routes:
    """Four words in two domains of 20 sequences; a choice follows its word, or its domain, or neither."""
    random = np.random.default_rng(seed)
    seq = np.repeat(np.arange(40), 25)
    domain, word = seq % 2, random.integers(0, 4, len(seq))
    scores = random.gumbel(size=(len(seq), 8))
    scores[np.arange(len(seq)), word] += by_word
    scores[np.arange(len(seq)), 4 + domain] += by_domain
    ids = np.argsort(-scores, axis=1)[:, None, :2]
    return Routes.from_arrays(ids, 8, seq=seq, domain=domain, token_id=word)


def test_what_follows_words_alone_says_nothing_of_domains() -> None:
    found = vocabulary(_routes(by_word=4, by_domain=0))
    assert found.token_bits[0] > 10 * found.token_null[0]
    assert found.share[0] > found.share_null[0] + 0.3
    assert found.domain_bits[0] == pytest.approx(found.domain_null[0], abs=0.02)
    assert found.domain_kinds == found.kinds == 4


def test_what_follows_domains_alone_says_nothing_of_words() -> None:
    found = vocabulary(_routes(by_word=0, by_domain=4))
    assert found.domain_bits[0] > 10 * found.domain_null[0]
    assert found.token_bits[0] == pytest.approx(found.token_null[0], abs=0.02)


def test_the_next_token_is_that_of_the_same_sequence() -> None:
    ids = np.array([0, 1, 0, 1])[:, None, None]
    tokens = np.array([7, 5, 7, 5])
    routes = Routes.from_arrays(ids, 2, seq=np.array([0, 0, 1, 1]), token_id=tokens)
    read, ahead = (vocabulary(routes, which=which, least=2) for which in ("input", "next"))
    assert (read.kinds, read.covered) == (2, 1.0)
    assert read.share.tolist() == [1.0]
    assert (ahead.kinds, ahead.covered) == (1, 0.5)
    assert ahead.token_bits.tolist() == [0.0]


def test_words_that_are_too_rare_leave_nothing() -> None:
    found = vocabulary(random_routes(1, tokens=20), least=50)
    assert (found.kinds, found.covered, found.domain_kinds) == (0, 0.0, 0)
    assert np.isnan(found.share).all()
    assert np.isnan(found.domain_null).all()


def test_a_trace_without_text_is_refused() -> None:
    with pytest.raises(TraceError, match="no token ids; record it with text"):
        vocabulary(Routes.from_arrays(np.zeros((3, 1, 1), int), 2))
