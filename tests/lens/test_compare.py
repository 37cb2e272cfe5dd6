"""Two traces of the same tokens."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from araio.errors import TraceError
from araio.lens.compare import compare, compare_loads, saturation
from araio.lens.routes import Routes

from .made import planted_routes, random_routes, small_routes


@given(small_routes())
def test_a_trace_agrees_with_itself(routes: Routes) -> None:
    found = compare(routes, routes)
    assert found.tokens == routes.tokens
    assert found.share == found.whole_path == 1
    for agreement in (found.jaccard, found.overlap, found.first, found.identical):
        assert agreement.tolist() == [1.0] * routes.depth
    assert found.load_bits == pytest.approx(np.zeros(routes.depth), abs=1e-9)


def test_agreement_is_that_of_a_loop() -> None:
    one = random_routes(1, tokens=200, layers=3, top_k=3)
    other = replace(random_routes(2, tokens=200, layers=3, top_k=3), seq=one.seq, position=one.position)
    other = replace(other, token_id=one.token_id)
    found = compare(one, other)
    whole = 0
    jaccard, overlap, identical, first = (np.zeros(3) for _ in range(4))
    for token in range(200):
        same = 0
        for layer in range(3):
            a, b = (set(routes.experts[token, layer].tolist()) for routes in (one, other))
            jaccard[layer] += len(a & b) / len(a | b) / 200
            overlap[layer] += len(a & b) / 3 / 200
            identical[layer] += (a == b) / 200
            same += a == b
            first[layer] += (one.experts[token, layer, 0] == other.experts[token, layer, 0]) / 200
        whole += same == 3
    assert found.jaccard == pytest.approx(jaccard)
    assert found.overlap == pytest.approx(overlap)
    assert found.identical == pytest.approx(identical)
    assert found.first == pytest.approx(first)
    assert found.whole_path == whole / 200


def _text(tokens: list[int], position: list[int] | None = None, seq: list[int] | None = None) -> Routes:
    rows = len(tokens)
    return Routes.from_arrays(
        np.arange(rows)[:, None, None] % 4,
        4,
        token_id=np.array(tokens),
        position=None if position is None else np.array(position),
        seq=None if seq is None else np.array(seq),
    )


def test_texts_are_compared_up_to_where_they_part() -> None:
    found = compare(_text([1, 2, 3, 4, 5]), _text([1, 2, 9, 4]))
    assert found.tokens == 2
    assert found.share == 0.5
    both = compare(_text([1, 2, 1, 2, 3], seq=[0, 0, 1, 1, 1]), _text([1, 9, 1, 2, 3], seq=[0, 0, 1, 1, 1]))
    assert both.tokens == 4


def test_what_a_prefix_cache_held_is_missing_on_one_side_only() -> None:
    assert compare(_text([1, 2, 3]), _text([2, 3], position=[1, 2])).tokens == 2


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(TraceError, match="no token in common; record both with the same prompts"):
        compare(_text([1, 2]), _text([3, 4]))
    with pytest.raises(TraceError, match="has 4 experts and the other 8; expected traces of one model"):
        compare(_text([1]), random_routes(1))
    with pytest.raises(TraceError, match="1 layers with experts and the other 2"):
        compare(_text([1]), random_routes(1, experts=4))


def test_loads_of_other_texts_are_compared_with_their_floor() -> None:
    even = planted_routes(1, strength=0)
    half = even.seq % 2 == 0
    same = compare_loads(even.select(half), even.select(~half))
    assert (same.bits[0, 1] < same.floor[0, 1]).all()
    other = planted_routes(2, strength=0)
    shifted = replace(other, experts=(other.experts + 8 * (other.experts < 4)).astype(np.uint8))
    found = compare_loads(even, shifted)
    assert (found.bits[0, 1] > 10 * found.floor[0, 1]).all()
    with pytest.raises(TraceError, match="expected traces of one model"):
        compare_loads(even, random_routes(1))


def test_checkpoints_come_closer_to_the_last() -> None:
    final = random_routes(1, tokens=300, layers=2, experts=8, top_k=3)
    random = np.random.default_rng(1)

    def moved(share: float) -> Routes:
        other = random_routes(9, tokens=300, layers=2, experts=8, top_k=3).experts
        return replace(final, experts=np.where(random.random((300, 1, 1)) < share, other, final.experts))

    found = saturation([moved(1), moved(0.5), final], final)
    assert found.shape == (3, 2)
    assert (np.diff(found, axis=0) > 0.1).all()
    assert found[2].tolist() == [1.0, 1.0]
