"""Parts of a whole: they add up to it exactly, and none is further than one from its share."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from araio.costs.share import split

WEIGHTS = st.lists(st.integers(0, 10**15), min_size=1, max_size=20).filter(any)


@given(st.integers(0, 10**18), WEIGHTS)
def test_parts_add_up_and_follow_the_weights(whole, weights):
    parts = split(whole, weights)
    assert sum(parts) == whole
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - Fraction(whole * weight, sum(weights))) < 1
        assert part >= 0
        assert weight or not part


@given(st.integers(0, 10**18))
def test_one_gets_all(whole):
    assert split(whole, [3]) == [whole]
