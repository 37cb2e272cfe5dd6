"""Overload of windows and ranks, against loops."""

import numpy as np
import pytest
from hypothesis import given, settings

from araio.lens.balance import balance
from araio.lens.routes import Routes

from .made import random_routes, small_routes


def overload(counts: list[int]) -> float:
    return max(counts) / (sum(counts) / len(counts)) - 1


@settings(max_examples=40)
@given(small_routes())
def test_windows_and_ranks_are_those_of_a_loop(routes: Routes) -> None:
    found = balance(routes, windows=(3, 10))
    for layer in range(routes.depth):
        ids = routes.experts[:, layer].tolist()
        for place, window in enumerate((3, 10)):
            each = [
                overload(
                    [sum(token.count(e) for token in ids[at : at + window]) for e in range(routes.n_experts)]
                )
                for at in range(0, len(ids) - window + 1, window)
            ]
            assert found.overload[layer, place] == pytest.approx(
                np.mean(each) if each else np.nan, nan_ok=True
            )
        for place, ranks in enumerate(found.ranks.tolist()):
            size = routes.n_experts // ranks
            held = [sum(e // size == rank for token in ids for e in token) for rank in range(ranks)]
            assert found.by_rank[layer, place] == pytest.approx(overload(held))


def test_ranks_are_the_divisors_of_the_experts() -> None:
    assert balance(random_routes(1, experts=12)).ranks.tolist() == [2, 3, 4, 6, 12]
    assert balance(random_routes(1, experts=1, top_k=1)).by_rank.shape == (2, 0)


def test_what_comes_in_order_is_uneven_beyond_chance() -> None:
    ids = np.repeat(np.arange(8), 64)[:, None, None]  # even over all, and one expert at a time
    found = balance(Routes.from_arrays(ids, 8), windows=(64, 512))
    assert found.overload[0].tolist() == [7, 0]
    assert found.shuffled[0, 0] < 1
    assert found.shuffled[0, 1] == 0
