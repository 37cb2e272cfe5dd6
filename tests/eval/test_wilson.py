from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from araio.eval.wilson import wilson_interval


def test_published_values():
    # Newcombe 1998, table I, method 3: 81 of 263 and 0 of 20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@given(n=st.integers(1, 5000), data=st.data())
def test_both_ends_solve_the_equation_that_defines_them(n, data):
    successes = data.draw(st.integers(0, n))
    low, high = wilson_interval(successes, n)
    share = successes / n
    assert 0 <= low <= share <= high <= 1
    assert low < high
    for bound in (low, high):
        assert abs(share - bound) == pytest.approx(1.959964 * sqrt(bound * (1 - bound) / n), abs=1e-6)


@given(n=st.integers(1, 1000), data=st.data())
def test_right_and_wrong_answers_mirror_each_other(n, data):
    successes = data.draw(st.integers(0, n))
    low, high = wilson_interval(successes, n)
    assert wilson_interval(n - successes, n) == pytest.approx((1 - high, 1 - low))
