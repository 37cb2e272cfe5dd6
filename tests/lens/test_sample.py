"""Samples of whole sequences."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from araio.lens.routes import Routes
from araio.lens.sample import sample

from .made import random_routes, small_routes


@given(small_routes(), st.integers(1, 50), st.integers(0, 3))
def test_sequences_are_whole_and_no_more_than_asked_for(routes: Routes, most: int, seed: int) -> None:
    drawn = sample(routes, most, seed)
    assert 0 < drawn.tokens <= max(most, 0) or routes.tokens <= most
    if drawn.sequences > 1 or routes.tokens <= most:
        whole = {tuple(routes.position[routes.seq == index]) for index in range(routes.sequences)}
        assert all(tuple(drawn.position[drawn.seq == index]) in whole for index in range(drawn.sequences))
    assert (np.diff(drawn.seq) >= 0).all()


def test_all_of_a_short_trace_the_beginning_of_a_long_text_and_a_part_of_many() -> None:
    routes = random_routes(1, tokens=300, sequences=30)
    assert sample(routes, 300) is routes
    part = sample(routes, 100)
    assert 60 < part.tokens <= 100
    assert part.tokens == sample(routes, 100).tokens
    assert sample(routes, 100, seed=1).position.tolist() != part.position.tolist()
    one = random_routes(1, tokens=300, sequences=1)
    assert (sample(one, 7).experts == one.experts[:7]).all()
