"""Routes for tests: random ones of any small shape, and ones with specialists that are known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st

from araio.lens.routes import Routes


def random_routes(
    seed: int,
    *,
    tokens: int = 60,
    layers: int = 2,
    experts: int = 8,
    top_k: int = 2,
    sequences: int = 4,
    domains: int = 2,
    skew: float = 1.0,
) -> Routes:
    """Skewed loads, weights, token ids and gaps in positions; nothing depends on the domain."""
    random = np.random.default_rng(seed)
    scores = random.gumbel(size=(tokens, layers, experts)) + skew * random.normal(size=(layers, experts))
    weights = random.random((tokens, layers, top_k)).astype(np.float32)
    seq = np.sort(random.integers(0, sequences, tokens))
    return Routes.from_arrays(
        np.argsort(-scores, axis=2)[..., :top_k].astype(np.uint8),
        experts,
        seq=seq,
        domain=seq % domains,
        domains=[f"domain {index}" for index in range(domains)],
        position=np.cumsum(random.choice([1, 1, 1, 2], tokens)),
        weights=np.sort(weights, axis=2)[..., ::-1],
        token_id=random.integers(0, 5, tokens),
        margin=random.random((tokens, layers)),
    )


@st.composite
def small_routes(draw: st.DrawFn) -> Routes:
    """Routes of every small shape: one token, one layer, all experts chosen, domains without tokens."""
    experts = draw(st.integers(1, 9))
    return random_routes(
        draw(st.integers(0, 2**32 - 1)),
        tokens=draw(st.integers(1, 40)),
        layers=draw(st.integers(1, 3)),
        experts=experts,
        top_k=draw(st.integers(1, min(4, experts))),
        sequences=draw(st.integers(1, 6)),
        domains=draw(st.integers(1, 3)),
        skew=draw(st.sampled_from([0.0, 1.0, 3.0])),
    )


PLANTED = {(0, 3): 0, (0, 7): 1, (0, 12): 2, (2, 5): 0, (2, 1): 1, (2, 11): 2}
"""(layer, expert) -> the domain that it serves.

A token has K experts, so whatever is chosen more pushes others out. Each domain has a specialist in the same
layers, lest the other experts be chosen more by the domain that has none.
"""


def planted_routes(seed: int, *, strength: float = 2.0, per_domain: int = 20) -> Routes:
    """Three domains, 3 layers, 4 of 16 experts: `PLANTED` are liked by their domain, nothing else differs.

    Sequences have tastes of their own, so that tokens of one are alike.
    """
    random = np.random.default_rng(seed)
    sequences, length = 3 * per_domain, 60
    seq = np.repeat(np.arange(sequences), length)
    domain = seq % 3
    taste = 0.7 * random.normal(size=(sequences, 3, 16))
    scores = random.gumbel(size=(len(seq), 3, 16)) + taste[seq]
    for (layer, expert), served in PLANTED.items():
        scores[domain == served, layer, expert] += strength
    ids = np.argsort(-scores, axis=2)[..., :4].astype(np.uint8)
    return Routes.from_arrays(ids, 16, seq=seq, domain=domain, domains=["law", "code", "poems"])


def rows(routes: Routes) -> Iterator[tuple[int, int, list[int]]]:
    """Token, layer and the experts there, one by one."""
    for token, layer in np.ndindex(routes.tokens, routes.depth):
        yield token, layer, routes.experts[token, layer].tolist()
